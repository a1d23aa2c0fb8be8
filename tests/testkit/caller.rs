//! A caller that speaks the protocol and keeps none of its manners: it says only what a test wants
//! said, from the loopback address that the test names.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::keys::Contact;
use anonchat::proto::stream::handshake::{Initiator, REPLY_LEN};
use anonchat::proto::stream::link::Link;
use anonchat::proto::stream::meta::Meta;
use anonchat::proto::stream::record::Kind;
use anonchat::proto::stream::session::{PlainBuffer, Session, plain_buffer};
use anonchat::proto::time::Now;
use socket2::{Domain, Socket, Type};

use super::common::{DEADLINE, Home, unix_ms};
use super::keys::{contact, identity};

/// A connection to `port` from an address of this machine.
pub fn connect_from(from: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.into()
}

/// The handshake of `me`, as far as WELCOME is due.
pub fn shake(socket: &mut TcpStream, me: &KeyPair, them: &Contact) -> Session {
    let (initiator, hello) =
        Initiator::start(me, &them.public, them.access.as_bytes(), unix_ms()).unwrap();
    socket.write_all(&hello).unwrap();
    let mut reply = [0; REPLY_LEN];
    socket.read_exact(&mut reply).unwrap();
    let (session, confirm) = initiator.confirm(&reply).unwrap();
    socket.write_all(&confirm).unwrap();
    session
}

/// A session with a listener, which let us in.
pub struct Caller {
    socket: TcpStream,
    link: Link,
    plain: PlainBuffer,
    began: Instant,
    /// What the listener said, in its order, keepalives left out.
    pub heard: Vec<(Kind, Vec<u8>)>,
}

impl Caller {
    /// `me` calls `them`, and waits for WELCOME.
    pub fn call(me: &Home, them: &Home, port: u16) -> Self {
        Self::call_from(Ipv4Addr::LOCALHOST, me, them, port)
    }

    /// The same from that loopback address.
    pub fn call_from(from: Ipv4Addr, me: &Home, them: &Home, port: u16) -> Self {
        let mut socket = connect_from(from, port);
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let session = shake(&mut socket, &identity(me).pair, &contact(them));
        let now = Now { mono: Duration::ZERO, unix_ms: unix_ms() };
        let link = Link::new(session, now, false);
        let (plain, began) = (plain_buffer(), Instant::now());
        let mut caller = Self { socket, link, plain, began, heard: Vec::new() };
        caller.wait("WELCOME", |heard| heard.iter().any(|(kind, _)| *kind == Kind::Welcome));
        caller
    }

    fn now(&self) -> Now {
        Now { mono: self.began.elapsed(), unix_ms: 0 }
    }

    /// Says a record, if the listener still takes it.
    pub fn say(&mut self, kind: Kind, body: &[u8]) {
        self.link.send(kind, body, self.now());
        let pending = self.link.pending().to_vec();
        let _ = self.socket.write_all(&pending);
        self.link.consumed(pending.len());
    }

    /// Begins a message with these bytes.
    pub fn begin(&mut self, bytes: &[u8]) {
        self.say(Kind::Meta, &Meta::message(random(), 0).encode());
        self.say(Kind::Data, bytes);
    }

    /// Says a whole message.
    pub fn message(&mut self, bytes: &[u8]) {
        self.begin(bytes);
        self.say(Kind::End, &(bytes.len() as u64).to_be_bytes());
    }

    /// Reads what comes until `enough`, or the listener closes: then it was not enough.
    pub fn wait(&mut self, what: &str, enough: impl Fn(&[(Kind, Vec<u8>)]) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !enough(&self.heard) {
            assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
            assert!(self.read_more(DEADLINE), "{what}: closed");
        }
    }

    /// How many messages were acknowledged so far.
    pub fn acks(&self) -> usize {
        self.heard.iter().filter(|(kind, _)| *kind == Kind::Ack).count()
    }

    /// Whether the listener keeps the session open for `time`. Signs of life are given if `alive`.
    pub fn is_kept_for(&mut self, time: Duration, alive: bool) -> bool {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if alive {
                self.say(Kind::Pad, &[]);
            }
            if !self.read_more(left.clamp(Duration::from_millis(1), Duration::from_millis(100))) {
                return false;
            }
        }
        true
    }

    /// One read; false when the listener has closed.
    fn read_more(&mut self, patience: Duration) -> bool {
        let mut bytes = [0; 16_384];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let len = match self.socket.read(&mut bytes) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return true;
            }
            Err(_) => return false,
        };
        let now = self.now();
        let heard = &mut self.heard;
        self.link
            .feed(&bytes[..len], now, &mut self.plain, |kind, body| {
                if kind != Kind::Pad {
                    heard.push((kind, body.to_vec()));
                }
                Ok(())
            })
            .unwrap();
        true
    }
}
