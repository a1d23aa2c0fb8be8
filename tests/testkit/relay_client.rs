//! A relay under test, and a client of it that says only what a test wants said.
//!
//! ```ignore
//! let relay = Relay::spawn(&["127.0.0.1:0"]);
//! let (mut bob, mut alice) = (relay.client(), relay.client());
//! let reader = KeyPair::generate();
//! let channel = Channel::open(&[7; 32]);
//! bob.subscribe(&channel, &reader, 0, [0; 8], 0);
//! alice.post(1, address(&channel, &reader, 0), &[9; PACKET_LEN]);
//! assert_eq!(alice.next_cell().command, Command::Ack);
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, PublicKey};
use anonchat::keys::{Contact, KeyFile};
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Address, CELL_LEN, Cell, Command, Log, WIRE_LEN};
use anonchat::proto::relay::link::CellLink;
use anonchat::proto::relay::mailbox::{Channel, Reader};
use anonchat::proto::stream::meta::Welcome;
use anonchat::proto::stream::record::Kind;
use anonchat::proto::stream::session::{Session, plain_buffer};
use anonchat::proto::time::Now;

use super::caller::{self, connect_from};
use super::common::{DEADLINE, Home, Running, port_in_ready_line};

/// `ac-relay` that has said that it hears.
pub struct Relay {
    running: Running,
    /// Its keyring.
    pub home: Home,
    /// Of its first ready line.
    pub port: u16,
    /// What it hands out.
    pub contact: Contact,
}

impl Relay {
    /// Runs `ac-relay ARGS`, for example `127.0.0.1:0`, with a key of its own.
    pub fn spawn(args: &[&str]) -> Self {
        Self::at(Home::new(), args)
    }

    /// The same with the key that `home` has, or gets.
    pub fn at(home: Home, args: &[&str]) -> Self {
        let command = home.command("ac-relay", args);
        Self::start(home, command)
    }

    /// Runs `command`, which is `ac-relay` as `home`.
    pub fn start(home: Home, command: std::process::Command) -> Self {
        let running = Running::start(command);
        let line = running.wait_stderr("listening on ");
        let port = port_in_ready_line(&line).unwrap_or_else(|| panic!("no port in {line:?}"));
        let contact = public_key_file(&running.stdout());
        Self { running, home, port, contact }
    }

    /// Kills it, and starts it anew with the same key.
    pub fn restarted(self, args: &[&str]) -> Self {
        let Self { running, home, .. } = self;
        drop(running);
        Self::at(home, args)
    }

    /// A client that was let in.
    pub fn client(&self) -> Client {
        Client::call(&self.contact, self.port)
    }

    /// A client from that loopback address.
    pub fn client_from(&self, from: Ipv4Addr) -> Client {
        Client::over(connect_from(from, self.port), &self.contact)
    }

    /// One of its counts, without the prefix that all have. It was started with
    /// `--metrics 127.0.0.1:0`.
    pub fn count(&self, name: &str) -> u64 {
        let line = self.wait_stderr("metrics on http://127.0.0.1:");
        let place = line.rsplit_once(':').and_then(|(_, rest)| rest.strip_suffix("/metrics"));
        let port: u16 = place.unwrap().parse().unwrap();
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let name = format!("anonchat_relay_{name} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name}in {answer}")).parse().unwrap()
    }

    /// Cells pass through it still.
    pub fn still_serves(&self) {
        let (mut reader, mut poster) = (self.client(), self.client());
        let (key, channel) = (KeyPair::generate(), Channel::open(&[1; 32]));
        let mailbox = reader.subscribe(&channel, &key, 0, [0; 8], 0);
        assert_eq!(reader.next_cell().command, Command::Live);
        poster.post(1, mailbox, &packet(1));
        assert_eq!(poster.next_cell().command, Command::Ack);
        assert_eq!(reader.next_cell().body, packet(1));
    }
}

impl Deref for Relay {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Relay {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// A relay's public key file.
pub fn public_key_file(bytes: &[u8]) -> Contact {
    match KeyFile::parse(bytes) {
        Ok(KeyFile::Relay(contact)) => contact,
        _ => panic!("no relay's public key file: {}", String::from_utf8_lossy(bytes)),
    }
}

/// A packet that says which it is.
pub fn packet(number: u64) -> [u8; PACKET_LEN] {
    let mut packet = [0xa5; PACKET_LEN];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    packet
}

/// Which packet it is.
pub fn number_of(packet: &[u8]) -> u64 {
    u64::from_be_bytes(packet[..8].try_into().unwrap())
}

/// The mailbox of `reader` on `channel` in `epoch`.
pub fn address(channel: &Channel, reader: &PublicKey, epoch: u64) -> Address {
    channel.at(reader, epoch).unwrap().address
}

/// A cell with its own body.
#[derive(Clone, PartialEq, Eq)]
pub struct Heard {
    pub command: Command,
    pub id: u64,
    pub log: Log,
    pub address: Address,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} ({} bytes)", self.command, self.id, self.body.len())
    }
}

/// A client's end of a link.
pub struct Client {
    pub socket: TcpStream,
    pub link: CellLink,
    /// What the relay said first.
    pub welcome: Welcome,
    began: Instant,
    heard: std::collections::VecDeque<Heard>,
}

/// The handshake, as far as WELCOME is due.
pub fn shake(socket: &mut TcpStream, relay: &Contact) -> Session {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    caller::shake(socket, &KeyPair::generate(), relay)
}

impl Client {
    /// Connects to a relay on this machine, and waits for WELCOME.
    pub fn call(relay: &Contact, port: u16) -> Self {
        Self::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), relay)
    }

    /// The same over a connection that is there.
    pub fn over(mut socket: TcpStream, relay: &Contact) -> Self {
        let mut session = shake(&mut socket, relay);
        let mut len = [0; 2];
        socket.read_exact(&mut len).unwrap();
        let mut sealed = vec![0; usize::from(u16::from_be_bytes(len))];
        socket.read_exact(&mut sealed).unwrap();
        let mut plain = plain_buffer();
        let (kind, body) = session.open(&sealed, &mut plain).unwrap();
        assert_eq!(kind, Kind::Welcome);
        let welcome = Welcome::decode(body).unwrap();
        socket.set_nodelay(true).unwrap();
        let link = CellLink::new(session, Now { mono: Duration::ZERO, unix_ms: 0 });
        Self { socket, link, welcome, began: Instant::now(), heard: Default::default() }
    }

    fn now(&self) -> Now {
        Now { mono: self.began.elapsed(), unix_ms: 0 }
    }

    /// Seals a cell, to be written by [`Client::flush`].
    pub fn queue(&mut self, cell: &Cell<'_>) {
        self.link.send(cell, self.now());
    }

    /// Writes what was queued, if the relay still takes it.
    pub fn flush(&mut self) -> bool {
        let written = self.socket.write_all(self.link.pending());
        self.link.consumed(self.link.pending().len());
        written.is_ok()
    }

    /// Says a cell.
    pub fn say(&mut self, cell: &Cell<'_>) {
        self.queue(cell);
        self.flush();
    }

    /// Puts a packet into a mailbox.
    pub fn post(&mut self, id: u64, address: Address, packet: &[u8; PACKET_LEN]) {
        self.say(&Cell::post(id, address, packet));
    }

    /// The proof that `reader` may read its mailbox on this link.
    pub fn proof(&self, channel: &Channel, reader: &KeyPair, epoch: u64) -> (Address, [u8; 16]) {
        let mailbox = channel.at(reader.public(), epoch).unwrap();
        let right = Reader::new(reader, &self.welcome.challenge.unwrap()).unwrap();
        let proof = right.prove(&mailbox, self.link.handshake_hash()).unwrap();
        (mailbox.address, proof)
    }

    /// Reads the mailbox of `reader` on `channel` in `epoch`, from sequence `from` of `log` on.
    pub fn subscribe(
        &mut self,
        channel: &Channel,
        reader: &KeyPair,
        epoch: u64,
        log: Log,
        from: u64,
    ) -> Address {
        let (address, proof) = self.proof(channel, reader, epoch);
        self.say(&Cell { id: from, log, address, body: &proof, ..Cell::new(Command::Subscribe) });
        address
    }

    /// Has the relay free what a mailbox holds up to a sequence.
    pub fn acknowledge(&mut self, address: Address, log: Log, upto: u64) {
        self.say(&Cell { id: upto, log, address, ..Cell::new(Command::Ack) });
    }

    /// The next cell that the relay says, NOOPs left out; `None` when it has closed the link.
    pub fn try_next_cell(&mut self, deadline: Duration) -> Option<Heard> {
        let end = Instant::now() + deadline;
        let mut space = [0; 16 * WIRE_LEN];
        loop {
            if let Some(cell) = self.heard.pop_front() {
                return Some(cell);
            }
            let left = end.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("no cell within {deadline:?}"));
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            // No further than to the end of a cell: what follows JOINED is no cell.
            let len = self.link.missing();
            match self.socket.read(&mut space[..len]) {
                Ok(0) => return None,
                Ok(n) => self.take(&space[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn take(&mut self, mut input: &[u8]) {
        let mut plain = [0; CELL_LEN];
        let now = self.now();
        while let Some(cell) = self.link.take(&mut input, now, &mut plain).unwrap() {
            if cell.command != Command::Noop {
                let Cell { command, id, log, address, body, .. } = cell;
                self.heard.push_back(Heard { command, id, log, address, body: body.to_vec() });
            }
        }
    }

    /// The next cell that the relay says.
    pub fn next_cell(&mut self) -> Heard {
        self.try_next_cell(DEADLINE).unwrap_or_else(|| panic!("the relay closed the link"))
    }

    /// The relay closes the link, whatever it says before.
    pub fn is_closed(&mut self) {
        while self.try_next_cell(DEADLINE).is_some() {}
    }

    /// Nothing was said to this client by the time the relay has served another one and this one:
    /// what is asked here is answered next.
    pub fn heard_nothing(&mut self) {
        let reader = KeyPair::generate();
        let address = self.subscribe(&Channel::open(&[2; 32]), &reader, 0, [0; 8], 0);
        let cell = self.next_cell();
        assert_eq!((cell.command, cell.address), (Command::Live, address), "{cell:?}");
        self.say(&Cell { address, ..Cell::new(Command::Leave) });
    }

    /// What was said before this call was done when it returns.
    pub fn heard_nothing_but_cells(&mut self) {
        let reader = KeyPair::generate();
        let address = self.subscribe(&Channel::open(&[2; 32]), &reader, 0, [0; 8], 0);
        while self.next_cell().address != address {}
        self.say(&Cell { address, ..Cell::new(Command::Leave) });
    }

    /// Asks to be joined with whoever brings the same.
    pub fn connect(&mut self, rendezvous: &[u8; 32]) {
        self.say(&Cell { body: rendezvous, ..Cell::new(Command::Connect) });
    }

    /// After JOINED: the connection, which is somebody else's now.
    pub fn joined(mut self) -> TcpStream {
        assert_eq!(self.next_cell().command, Command::Joined);
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        self.socket
    }
}
