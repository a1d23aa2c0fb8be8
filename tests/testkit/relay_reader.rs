//! A recipient at a relay that does what a test wants, and people who know the relay.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anonchat::crypto::sodium::{OsRandom, PublicKey};
use anonchat::keys::LocalKey as Key;
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::meet::Meet;
use anonchat::proto::datagram::packet::{Kind, LocalKey, MessageId, Opened, PACKET_LEN, Way};
use anonchat::proto::datagram::probe::Probe;
use anonchat::proto::datagram::receipt::{self, Receipted};
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::mailbox::{Channel, epoch};
use anonchat::proto::time::Now;

use super::common::{Home, assert_code, befriend};
use super::relay_client::{Client, Relay};

pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { mono: unix, unix_ms: unix.as_millis() as u64 }
}

/// Two people who know each other, and a relay that the first knows as `home`.
pub struct Scene {
    pub alice: Home,
    pub bob: Home,
    pub relay: Relay,
}

impl Scene {
    /// With a relay as it is by default.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With a relay that has these options.
    pub fn with(args: &[&str]) -> Self {
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let relay = Relay::spawn(&[args, &["127.0.0.1:0"]].concat());
        know(&alice, &relay, "home", relay.port);
        Self { alice, bob, relay }
    }
}

/// Files the relay's public key file in `home` as `name`, with `port` for where it is.
pub fn know(home: &Home, relay: &Relay, name: &str, port: u16) {
    let file = home.path().join("relay-to-import.pub");
    std::fs::write(&file, key_file(relay, port)).unwrap();
    assert_code(&home.keygen(&["--import", file.to_str().unwrap(), "--as", name]), 0);
    std::fs::remove_file(&file).unwrap();
}

/// The relay's public key file, as if it had been started with `--address`.
pub fn key_file(relay: &Relay, port: u16) -> String {
    let text = String::from_utf8(relay.stdout()).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("address"));
    kept.map(|line| format!("{line}\n")).collect::<String>()
        + &format!("address = [\"127.0.0.1:{port}\"]\n")
}

/// A message that came whole.
pub struct Message {
    pub kind: Kind,
    pub sender: PublicKey,
    pub id: MessageId,
    pub body: Vec<u8>,
    /// How many packets of it came until it was whole.
    pub packets: usize,
    ack_key: [u8; 32],
    time_ms: u64,
}

/// Somebody who reads one mailbox, and answers when told to.
pub struct Recipient {
    me: Key,
    local: LocalKey,
    client: Client,
}

impl Recipient {
    /// Reads what `sender` writes to its contact, the holder of `me`.
    pub fn of(me: Key, sender: &PublicKey, relay: &Relay) -> Self {
        let channel = Channel::pair(&me.pair, sender, sender, me.pair.public()).unwrap();
        Self::on(me, &channel, relay)
    }

    /// Reads what anybody writes to the holder of `me`, or to the group.
    pub fn public(me: Key, relay: &Relay) -> Self {
        let channel = Channel::open(me.access.as_bytes());
        Self::on(me, &channel, relay)
    }

    fn on(me: Key, channel: &Channel, relay: &Relay) -> Self {
        let mut client = relay.client();
        client.subscribe(channel, &me.pair, epoch(now().unix_ms), [0; 8], 0);
        let local = LocalKey::new(me.pair.duplicate(), me.access.as_bytes());
        Self { me, local, client }
    }

    /// The next packet that is held or comes.
    pub fn packet(&mut self) -> Opened {
        loop {
            let cell = self.client.next_cell();
            if cell.command != Command::Cell {
                continue;
            }
            let packet: &[u8; PACKET_LEN] = cell.body[..].try_into().unwrap();
            assert!(self.local.recognises(packet), "a packet for somebody else");
            let opened = Opened::open(&self.me.pair, packet, 0, &[]).expect("it opens");
            assert!(opened.way() == Way::Relay);
            return opened;
        }
    }

    /// The next message, once it is whole.
    pub fn message(&mut self) -> Message {
        let mut runs: BTreeMap<MessageId, (usize, BTreeMap<u16, Vec<u8>>)> = BTreeMap::new();
        loop {
            let packet = self.packet();
            assert!(!packet.more() && packet.id().sequence == 0);
            let (packets, fragments) = runs.entry(packet.id()).or_default();
            *packets += 1;
            fragments.insert(packet.fragment(), packet.body().to_vec());
            if fragments.len() == usize::from(packet.of()) {
                return Message {
                    kind: packet.kind(),
                    sender: *packet.sender(),
                    id: packet.id(),
                    body: fragments.values().flatten().copied().collect(),
                    packets: *packets,
                    ack_key: *packet.ack_key(),
                    time_ms: packet.time_ms(),
                };
            }
        }
    }

    /// Says what became of it.
    pub fn answer(&mut self, message: &Message, status: Status) {
        let Message { sender, id, ack_key, time_ms, .. } = message;
        let mut packet = [0; PACKET_LEN];
        let of = Receipted { sender, id: *id, ack_key };
        receipt::seal(&self.me.pair, &of, status, now(), &mut OsRandom, &mut packet);
        let receipts = Channel::receipts(ack_key, *id).at(sender, epoch(*time_ms)).unwrap();
        self.client.post(77, receipts.address, &packet);
    }

    /// Takes the next message, and says that it was delivered.
    pub fn deliver(&mut self) -> Message {
        let message = self.message();
        self.answer(&message, Status::Delivered);
        message
    }
}

/// A program at the relay that leads every circuit to a listener on this machine.
pub struct Bridge;

impl Bridge {
    /// For what `sender` writes to its contact, the holder of `me`.
    pub fn of(me: Key, sender: &PublicKey, relay: &Relay, port: u16) {
        let recipient = Recipient::of(me, sender, relay);
        Self::run(recipient, relay, port, [1; 8]);
    }

    /// For the public mailbox or a group's; `instance` tells several apart.
    pub fn public(me: Key, relay: &Relay, port: u16, instance: [u8; 8]) {
        Self::run(Recipient::public(me, relay), relay, port, instance);
    }

    /// Ends with the relay.
    fn run(mut recipient: Recipient, relay: &Relay, port: u16, instance: [u8; 8]) {
        // Everything before it is done.
        while recipient.client.next_cell().command != Command::Live {}
        let (contact, there) = (relay.contact.clone(), relay.port);
        std::thread::spawn(move || {
            while let Some(packet) = recipient.try_packet() {
                match packet.kind() {
                    Kind::Probe => recipient.here(&packet, instance),
                    Kind::Meet => {
                        let meet = Meet::read(&packet, now()).expect("a MEET");
                        if meet.instance.is_none_or(|meant| meant == instance) {
                            let mut client = Client::call(&contact, there);
                            client.connect(&meet.rendezvous);
                            lead(client.joined(), port);
                        }
                    }
                    _ => {}
                }
            }
        });
    }
}

/// Joins a circuit with a connection to `port`.
fn lead(circuit: TcpStream, port: u16) {
    let listener = TcpStream::connect(("127.0.0.1", port)).unwrap();
    circuit.set_read_timeout(None).unwrap();
    let copy = |socket: &TcpStream| socket.try_clone().unwrap();
    for (mut from, mut to) in [(copy(&circuit), copy(&listener)), (listener, circuit)] {
        std::thread::spawn(move || {
            // Whatever ends it ends it for the other one too.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

impl Recipient {
    /// The next packet, until the relay closes the link.
    fn try_packet(&mut self) -> Option<Opened> {
        loop {
            let cell = self.client.try_next_cell(Duration::from_secs(3600))?;
            if cell.command == Command::Cell {
                let packet: &[u8; PACKET_LEN] = cell.body[..].try_into().unwrap();
                return Some(Opened::open(&self.me.pair, packet, 0, &[]).expect("it opens"));
            }
        }
    }

    fn here(&mut self, packet: &Opened, instance: [u8; 8]) {
        let body = [&[0xa1, 3, 0x48][..], &instance].concat();
        let mut here = [0; PACKET_LEN];
        let probe = Probe::new(packet, 0);
        probe.answer(&self.me.pair, Way::Relay, &body, now(), &mut OsRandom, &mut here);
        let receipts = Channel::receipts(packet.ack_key(), packet.id());
        let mailbox = receipts.at(packet.sender(), epoch(packet.time_ms())).unwrap();
        self.client.say(&Cell::post(5, mailbox.address, &here).volatile());
    }
}
