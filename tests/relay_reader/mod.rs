//! A recipient at a relay that does what a test wants, and people who know the relay.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses its own part of this

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anonchat::crypto::sodium::{OsRandom, PublicKey};
use anonchat::keys::{Keyring, LocalKey as Key, Passphrase, Passphrases};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{Kind, LocalKey, MessageId, Opened, PACKET_LEN, Way};
use anonchat::proto::datagram::receipt::{self, Receipted};
use anonchat::proto::relay::cell::Command;
use anonchat::proto::relay::mailbox::{Channel, epoch};
use anonchat::proto::time::Now;

use crate::common::{Home, assert_code};
use crate::relay_client::{Client, Relay};

pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { mono: unix, unix_ms: unix.as_millis() as u64 }
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

struct Unasked;

impl Passphrases for Unasked {
    fn get(&mut self, _: &Path, _: &str) -> Result<Passphrase, String> {
        Err("the keys of tests have none".into())
    }
}

/// The identity of `home`.
pub fn identity(home: &Home) -> Key {
    Keyring::at(home.path()).identity(&mut Unasked).unwrap()
}

/// A group's key in `home`.
pub fn group(home: &Home, name: &str) -> Key {
    Keyring::at(home.path()).local_key(name, &mut Unasked).unwrap()
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

/// What a person's own public key is.
pub fn public(home: &Home) -> PublicKey {
    *identity(home).pair.public()
}
