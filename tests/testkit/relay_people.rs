//! People at a relay: listeners that are ready, and a sender by cells that says only what a test
//! wants said.
//!
//! ```ignore
//! let (relay, bob, alice) = (relay(), Home::with_identity(), Home::with_identity());
//! befriend(&alice, "alice", &bob, "bob");
//! let listener = listen(&bob, &relay, &[]);
//! let sent = Sender::new(&alice, &bob).send(&mut relay.client(), b"hi\n");
//! ```

use std::path::Path;

use anonchat::crypto::sodium::{KeyPair, OsRandom, PublicKey, random};
use anonchat::keys::KeyFile;
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{
    Head, Kind, MessageId, PACKET_LEN, Sealer, Way, fragment_of, fragments,
};
use anonchat::proto::datagram::receipt::Awaited;
use anonchat::proto::relay::cell::{Address, Cell, Command};
use anonchat::proto::relay::mailbox::{Channel, epoch};

use super::common::{DEADLINE, Home, Running, eventually, unix_ms};
use super::keys::identity;
use super::relay_client::{Client, Relay};

/// A relay on a port of its own.
pub fn relay() -> Relay {
    Relay::spawn(&["127.0.0.1:0"])
}

/// `home@127.0.0.1:PORT`, a relay as `person` names it, who files its key.
pub fn name_of(relay: &Relay, person: &Home) -> String {
    name_at(relay, person, "home", relay.port)
}

/// The same under another name and behind another port.
pub fn name_at(relay: &Relay, person: &Home, name: &str, port: u16) -> String {
    let path = person.path().join(format!("{name}.relay.pub"));
    std::fs::write(&path, relay.stdout()).unwrap();
    let filed = person.keygen(&["--import", path.to_str().unwrap(), "--as", name, "--force"]);
    super::common::assert_code(&filed, 0);
    format!("{name}@127.0.0.1:{port}")
}

/// `ac-listen --via RELAY ARGS` that has said that it hears.
pub fn listen(person: &Home, relay: &Relay, args: &[&str]) -> Running {
    listen_by(person, &[&name_of(relay, person)], args)
}

/// The same at several relays, by their names.
pub fn listen_by(person: &Home, relays: &[&str], args: &[&str]) -> Running {
    let via = relays.iter().flat_map(|name| ["--via", name]);
    let args: Vec<&str> = via.chain(args.iter().copied()).collect();
    let listener = Running::start(person.command("ac-listen", &args));
    for name in relays {
        let petname = name.split('@').next().unwrap();
        listener.wait_stderr(&format!("listening at relay {petname}"));
    }
    listener
}

/// Into which mailbox of the recipient.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Box {
    Pair,
    Public,
}

/// A message that is sealed.
pub struct Letter {
    pub id: MessageId,
    pub time_ms: u64,
    pub ack_key: [u8; 32],
    pub packets: Vec<[u8; PACKET_LEN]>,
}

/// Somebody who sends by cells.
pub struct Sender {
    pub me: KeyPair,
    pub to: PublicKey,
    pub access: [u8; 32],
}

impl Sender {
    /// From one person's identity to another's.
    pub fn new(from: &Home, to: &Home) -> Self {
        let me = identity(from).pair;
        Self::with_key(me, &to.public_key_file())
    }

    /// From the holder of a key to that of a public key file.
    pub fn with_key(me: KeyPair, to: &Path) -> Self {
        match KeyFile::parse(&std::fs::read(to).unwrap()) {
            Ok(KeyFile::Public(contact)) => {
                Self { me, to: contact.public, access: *contact.access.as_bytes() }
            }
            _ => panic!("{}: no public key file", to.display()),
        }
    }

    /// Seals a message that is made now.
    pub fn seal(&self, body: &[u8]) -> Letter {
        self.seal_as(Kind::Message, body, random(), unix_ms(), random())
    }

    /// Seals a message.
    pub fn seal_as(
        &self,
        kind: Kind,
        body: &[u8],
        run: [u8; 8],
        time_ms: u64,
        ack_key: [u8; 32],
    ) -> Letter {
        let sealer = Sealer::new(&self.me, &self.to, &self.access);
        let id = MessageId { run, sequence: 0 };
        let of = fragments(body.len()) as u16;
        let packets = (0..of).map(|fragment| {
            let head = Head {
                kind,
                way: Way::Relay,
                more: false,
                id,
                time_ms,
                ack_key: &ack_key,
                fragment,
                of,
            };
            let mut packet = [0; PACKET_LEN];
            let part = fragment_of(body, fragment.into());
            sealer.seal(&head, part, &mut OsRandom, &mut packet);
            packet
        });
        let packets = packets.collect();
        Letter { id, time_ms, ack_key, packets }
    }

    /// Where it is posted.
    pub fn mailbox(&self, to: Box, time_ms: u64) -> Address {
        let channel = match to {
            Box::Pair => Channel::pair(&self.me, &self.to, self.me.public(), &self.to).unwrap(),
            Box::Public => Channel::open(&self.access),
        };
        channel.at(&self.to, epoch(time_ms)).unwrap().address
    }

    /// Posts a message, and waits until the relay has all of it.
    pub fn post(&self, client: &mut Client, to: Box, letter: &Letter) {
        let mailbox = self.mailbox(to, letter.time_ms);
        for (id, packet) in (1..).zip(&letter.packets) {
            client.queue(&Cell::post(id, mailbox, packet));
        }
        assert!(client.flush());
        for _ in &letter.packets {
            while client.next_cell().command != Command::Ack {}
        }
    }

    /// Reads what becomes of a message.
    pub fn await_receipts(&self, client: &mut Client, letter: &Letter) {
        let channel = Channel::receipts(&letter.ack_key, letter.id);
        let at = epoch(letter.time_ms);
        let address = client.subscribe(&channel, &self.me, at, [0; 8], 0);
        while client.next_cell().address != address {}
    }

    /// The next receipt for a message.
    pub fn receipt(&self, client: &mut Client, letter: &Letter) -> Status {
        let awaited = Awaited::new(self.me.public(), letter.id, &letter.ack_key);
        eventually("a receipt", DEADLINE, || {
            let cell = client.next_cell();
            let packet: &[u8; PACKET_LEN] = cell.body.as_slice().try_into().ok()?;
            awaited.read(&self.me, &self.to, packet)
        })
    }

    /// The receipt that is final.
    pub fn outcome(&self, client: &mut Client, letter: &Letter) -> Status {
        loop {
            let status = self.receipt(client, letter);
            if status != Status::Received {
                return status;
            }
        }
    }

    /// Sends a message to somebody who listens, and waits for what comes of it.
    pub fn send(&self, client: &mut Client, body: &[u8]) -> Status {
        let letter = self.seal(body);
        self.await_receipts(client, &letter);
        self.post(client, Box::Pair, &letter);
        self.outcome(client, &letter)
    }
}
