//! What tests of datagrams need beside the harness: a hand that seals packets as somebody, a
//! stranger's socket, and a proxy that watches, drops, doubles and reorders.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anonchat::crypto::sodium::{OsRandom, random};
use anonchat::keys::{Contact, LocalKey};
use anonchat::proto::datagram::packet::{Head, Kind, MessageId, PACKET_LEN, Sealer, Way};
use anonchat::proto::datagram::probe::Prober;
use anonchat::proto::time::Now;

use super::common::{DEADLINE, Home, Listener, unix_ms};

pub type Packet = [u8; PACKET_LEN];

/// A message of one packet, stamped `time_ms`, each a run of its own.
pub fn packet(from: &LocalKey, to: &Contact, way: Way, time_ms: u64, body: &[u8]) -> Packet {
    let head = Head {
        kind: Kind::Message,
        way,
        more: false,
        id: MessageId { run: random(), sequence: 0 },
        time_ms,
        ack_key: &random(),
        fragment: 0,
        of: 1,
    };
    sealed(from, to, &head, body)
}

/// A packet with that head.
pub fn sealed(from: &LocalKey, to: &Contact, head: &Head, body: &[u8]) -> Packet {
    let mut out = [0; PACKET_LEN];
    let sealer = Sealer::new(&from.pair, &to.public, to.access.as_bytes());
    sealer.seal(head, body, &mut OsRandom, &mut out);
    out
}

/// `ac-listen -u ARGS`.
pub fn listen(home: &Home, args: &[&str]) -> Listener {
    Listener::spawn(home, &[&["-u", "127.0.0.1:0"], args].concat())
}

/// A socket that speaks to one port of this machine.
pub struct Stranger(UdpSocket);

impl Stranger {
    pub fn to(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    pub fn send(&self, bytes: &[u8]) {
        assert_eq!(self.0.send(bytes).unwrap(), bytes.len());
    }

    /// The next answer; panics when none comes in time.
    pub fn answer(&self) -> Vec<u8> {
        let mut space = [0; 4096];
        let len = self.0.recv(&mut space).unwrap();
        space[..len].to_vec()
    }

    /// Nothing came so far: to be asked once the listener is known to have read everything.
    pub fn assert_nothing_came(&self) {
        self.0.set_nonblocking(true).unwrap();
        let came = self.0.recv(&mut [0; 4096]).map_err(|e| e.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock));
        self.0.set_nonblocking(false).unwrap();
    }

    /// Asks as `me` whether `to` is there, and waits for the proof: what was sent before is read.
    pub fn wait_until_read(&self, me: &LocalKey, to: &Contact) {
        let prober = Prober::new(&me.pair, &to.public, to.access.as_bytes(), &mut OsRandom);
        let now = Now { mono: Duration::ZERO, unix_ms: unix_ms() };
        let mut probe = [0; PACKET_LEN];
        prober.packet(now, &mut OsRandom, &mut probe);
        self.send(&probe);
        assert!(prober.is_answer(&self.answer(), now));
    }
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    ToListener,
    Back,
}

/// A way between one sender and a listener. A policy says what becomes of each packet.
pub struct Proxy {
    port: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Given a packet, what goes on in its place, in order.
pub type Policy = dyn FnMut(Going, Vec<u8>) -> Vec<Vec<u8>> + Send;

impl Proxy {
    pub fn before(
        port: u16,
        policy: impl FnMut(Going, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(("127.0.0.1", port)).unwrap();
        let own_port = front.local_addr().unwrap().port();
        let (front, back) = (Arc::new(front), Arc::new(back));
        let policy: Arc<Mutex<Policy>> = Arc::new(Mutex::new(policy));
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        let stop = Arc::new(AtomicBool::new(false));
        let there = {
            let (front, back) = (Arc::clone(&front), Arc::clone(&back));
            let (policy, client, stop) =
                (Arc::clone(&policy), Arc::clone(&client), Arc::clone(&stop));
            std::thread::spawn(move || {
                relay(&front, &stop, |packet, from| {
                    *client.lock().unwrap() = Some(from);
                    for packet in policy.lock().unwrap()(Going::ToListener, packet) {
                        // A listener that is gone is the sender's business.
                        let _ = back.send(&packet);
                    }
                });
            })
        };
        let answers = {
            let (policy, stop) = (Arc::clone(&policy), Arc::clone(&stop));
            std::thread::spawn(move || {
                relay(&back, &stop, |packet, _| {
                    let Some(to) = *client.lock().unwrap() else { return };
                    for packet in policy.lock().unwrap()(Going::Back, packet) {
                        let _ = front.send_to(&packet, to);
                    }
                });
            })
        };
        Self { port: own_port, stop, threads: vec![there, answers] }
    }

    /// `NAME@127.0.0.1:PORT`, to send to.
    pub fn destination(&self, name: &str) -> String {
        format!("{name}@127.0.0.1:{}", self.port)
    }
}

fn relay(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(Vec<u8>, SocketAddr)) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut space = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut space) {
            take(space[..len].to_vec(), from);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Everything that passed a proxy, to look at from outside.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Passed>>>);

type Passed = (Going, Vec<u8>);

impl Record {
    pub fn note(&self, going: Going, packet: &[u8]) {
        self.0.lock().unwrap().push((going, packet.to_vec()));
    }

    /// A policy that passes everything on and notes it.
    pub fn policy(&self) -> impl FnMut(Going, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static {
        let record = self.clone();
        move |going, packet| {
            record.note(going, &packet);
            vec![packet]
        }
    }

    pub fn all(&self) -> Vec<Passed> {
        self.0.lock().unwrap().clone()
    }

    pub fn going(&self, way: Going) -> Vec<Vec<u8>> {
        let all = self.all().into_iter();
        all.filter(|(going, _)| *going == way).map(|(_, packet)| packet).collect()
    }
}
