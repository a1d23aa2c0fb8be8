//! `mosquitto`, which passes messages that it can read, to compare with: MQTT 3.1.1 at QoS 1, as
//! much of it as that takes. Messages of 900 bytes are made beforehand and counted without a look.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::common::{DEADLINE, Running, eventually};

/// PUBLISH at QoS 1 to topic `t`: head 3 bytes, topic 3, id 2, text 900.
const MESSAGE: usize = 908;
const ID: std::ops::Range<usize> = 6..8;
const PUBACK: usize = 4;

fn publish(id: u16) -> [u8; MESSAGE] {
    let mut message = [b'x'; MESSAGE];
    // 905 bytes follow, as a number of two digits to the base 128.
    message[..6].copy_from_slice(&[0x32, 0x89, 0x07, 0, 1, b't']);
    message[ID].copy_from_slice(&id.to_be_bytes());
    message
}

fn puback(id: &[u8]) -> [u8; PUBACK] {
    [0x40, 2, id[0], id[1]]
}

/// A client that is let in; with a topic to read, if `reads`.
fn client(port: u16, number: u64, reads: bool) -> TcpStream {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let id = format!("{number:08}");
    let mut connect = vec![0x10, 12 + id.len() as u8, 0, 4];
    connect.extend_from_slice(b"MQTT");
    connect.extend_from_slice(&[4, 2, 0, 0, 0, id.len() as u8]);
    connect.extend_from_slice(id.as_bytes());
    socket.write_all(&connect).unwrap();
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    if reads {
        socket.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 1]).unwrap();
        let mut suback = [0; 5];
        socket.read_exact(&mut suback).unwrap();
        assert_eq!(suback, [0x90, 3, 0, 1, 1]);
    }
    socket
}

/// One that reads, and what it has of a message that is not whole yet.
struct Subscriber {
    socket: TcpStream,
    partial: Vec<u8>,
    left: u64,
}

impl Subscriber {
    /// Reads once, and acknowledges each message.
    fn drive(&mut self, space: &mut [u8]) {
        match self.socket.read(space) {
            Ok(n) => {
                assert!(n > 0, "closed");
                self.partial.extend_from_slice(&space[..n]);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => panic!("{e}"),
        }
        let whole = self.partial.len() / MESSAGE * MESSAGE;
        let acks: Vec<u8> = self.partial[..whole]
            .chunks_exact(MESSAGE)
            .flat_map(|message| puback(&message[ID]))
            .collect();
        self.left -= (whole / MESSAGE) as u64;
        self.partial.drain(..whole);
        self.socket.write_all(&acks).unwrap();
    }
}

/// Starts it, with no bound that would drop a message.
fn start() -> (Running, u16, tempfile::TempDir) {
    // A port that was free a moment ago; nobody else on this machine takes it meanwhile.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mosquitto.conf");
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
         max_queued_messages 0\nset_tcp_nodelay true\npersistence false\nlog_type error\n"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(file).stderr(Stdio::null());
    let running = Running::start(command);
    eventually("mosquitto to listen", DEADLINE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    (running, port, folder)
}

/// So many messages from one to each of `readers`: how many come out in a second.
pub fn rate(messages: u64, readers: u64) -> f64 {
    let (_running, port, _folder) = start();
    let mut readers: Vec<_> = (0..readers)
        .map(|number| {
            let socket = client(port, number, true);
            Subscriber { socket, partial: Vec::new(), left: messages }
        })
        .collect();
    let mut writer = client(port, 99_999_999, false);
    let all: Vec<u8> =
        (0..messages).flat_map(|number| publish((number % 65_535) as u16 + 1)).collect();
    let mut confirmed = writer.try_clone().unwrap();
    let began = Instant::now();
    let write = thread::spawn(move || writer.write_all(&all).unwrap());
    let confirm = thread::spawn(move || {
        let mut left = messages as usize * PUBACK;
        let mut space = vec![0; 64 * 1024];
        while left > 0 {
            let n = confirmed.read(&mut space).unwrap();
            assert!(n > 0, "closed");
            left -= n;
        }
    });
    let alone = readers.len() == 1;
    for reader in &readers {
        // One waits for its socket; many are looked at in a circle.
        reader.socket.set_nonblocking(!alone).unwrap();
    }
    let mut space = vec![0; 256 * 1024];
    let total = messages * readers.len() as u64;
    let until = Instant::now() + 10 * DEADLINE;
    while readers.iter().any(|reader| reader.left > 0) {
        assert!(Instant::now() < until, "not all messages came");
        readers.iter_mut().for_each(|reader| reader.drive(&mut space));
    }
    let took = began.elapsed();
    write.join().unwrap();
    confirm.join().unwrap();
    total as f64 / took.as_secs_f64()
}
