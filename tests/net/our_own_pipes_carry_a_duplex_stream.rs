//! stdin and stdout as the two halves of a duplex stream.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anonchat::net::duplex::Duplex;
use anonchat::net::hub::Bell;
use anonchat::net::output::Output;
use anonchat::net::receiver::{Progress, Receiver};
use anonchat::proto::stream::meta::{MessageKind, Meta};
use mio::{Events, Poll};

const DEADLINE: Duration = Duration::from_secs(20);

struct Pipe {
    poll: Poll,
    /// It rings for as long as somebody has it.
    _bell: Bell,
    reader: File,
    listening: Box<dyn Receiver>,
    output: Rc<RefCell<Output>>,
}

impl Pipe {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let bell = Bell::new(poll.registry()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let output = Output::new(File::from(OwnedFd::from(writer)), bell.clone()).unwrap();
        let output = Rc::new(RefCell::new(output));
        let listening = Duplex::default().listening(Rc::clone(&output), None);
        Self { poll, _bell: bell, reader: File::from(OwnedFd::from(reader)), listening, output }
    }

    fn until<T>(&mut self, condition: impl Fn(&mut dyn Receiver) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut events = Events::with_capacity(4);
        loop {
            if let Some(found) = condition(&mut *self.listening) {
                return found;
            }
            let left = end.checked_duration_since(Instant::now()).expect("not within the deadline");
            match self.poll.poll(&mut events, Some(left)) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                polled => polled.unwrap(),
            }
        }
    }
}

fn duplex() -> Meta {
    Meta { kind: MessageKind::Duplex as u8, ..Meta::message([7; 16], 0) }
}

#[test]
fn every_piece_is_written_as_it_comes() {
    let mut pipe = Pipe::new();
    pipe.listening.begin(&duplex(), 0);
    for piece in [&b"a"[..], b"bc", b"def"] {
        pipe.listening.data(piece);
        let mut got = vec![0; piece.len()];
        pipe.reader.read_exact(&mut got).unwrap();
        assert_eq!(got, piece);
    }
    assert!(pipe.listening.progress().is_none());
    pipe.listening.end();
    assert!(matches!(pipe.until(|listening| listening.progress()), Progress::Delivered));
}

#[test]
fn a_reader_that_pauses_fills_a_bounded_buffer_and_delivers_nothing() {
    let mut pipe = Pipe::new();
    pipe.listening.begin(&duplex(), 0);
    let mut sent = 0;
    while pipe.listening.has_room() {
        pipe.listening.data(&[b'x'; 65_536]);
        sent += 65_536;
        assert!(sent < 1024 * 1024);
    }
    pipe.listening.end();
    assert!(pipe.listening.progress().is_none());
    let mut reader = pipe.reader.try_clone().unwrap();
    let read = std::thread::spawn(move || {
        let mut got = vec![0; sent];
        reader.read_exact(&mut got).unwrap();
    });
    assert!(matches!(pipe.until(|listening| listening.progress()), Progress::Delivered));
    read.join().unwrap();
}

#[test]
fn a_reader_that_is_gone_delivers_nothing() {
    let mut pipe = Pipe::new();
    pipe.listening.begin(&duplex(), 0);
    pipe.reader = File::open("/dev/null").unwrap();
    pipe.listening.data(b"x");
    pipe.listening.end();
    let output = Rc::clone(&pipe.output);
    pipe.until(move |_| output.borrow_mut().take_error());
    assert!(pipe.listening.progress().is_none());
}

#[test]
fn a_session_carries_one_stream() {
    let mut pipe = Pipe::new();
    pipe.listening.begin(&duplex(), 0);
    pipe.listening.data(b"1");
    pipe.listening.end();
    pipe.listening.begin(&duplex(), 0);
    pipe.listening.data(b"2");
    pipe.listening.end();
    assert!(matches!(pipe.until(|listening| listening.progress()), Progress::Delivered));
    assert!(matches!(pipe.until(|listening| listening.progress()), Progress::Refused(..)));
    let mut got = [0; 1];
    pipe.reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"1");
}
