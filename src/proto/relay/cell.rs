//! A cell: what one record of a link to a relay holds, either way. PROTOCOL.md, 5.2.
//!
//! ```text
//! cell 1280: command 1, flags 1, length 2, id 8, log 8, address 32, body ≤ 1228, zeros
//! ```
//!
//! Every field that a command does not use is zero, so a cell has exactly one form.

use crate::crypto::noise::TAG_LEN;
use crate::proto::datagram::packet::PACKET_LEN;
use crate::proto::stream::record::Violation;

/// Size of every cell, in bytes.
pub const CELL_LEN: usize = 1280;
/// Size of a cell on the wire: its length u16 and Noise's tag added.
pub const WIRE_LEN: usize = 2 + CELL_LEN + TAG_LEN;
/// Everything before the body, in bytes.
pub const HEAD_LEN: usize = 1 + 1 + 2 + 8 + 8 + 32;
/// The longest body, in bytes.
pub const MAX_BODY: usize = CELL_LEN - HEAD_LEN;
/// Size of a mailbox address, in bytes.
pub const ADDRESS_LEN: usize = 32;
/// Size of a proof of the right to read, in bytes.
pub const PROOF_LEN: usize = 16;
/// Size of a rendezvous, in bytes.
pub const RENDEZVOUS_LEN: usize = 32;
/// Flag of POST and CELL: for whoever reads the mailbox now; it is not held.
pub const FLAG_VOLATILE: u8 = 1;

const _: () = assert!(MAX_BODY == 1228);

/// Where cells are posted and read: a blinded X25519 public key.
pub type Address = [u8; ADDRESS_LEN];
/// Names one life of a mailbox: random, made with it.
pub type Log = [u8; 8];

/// What a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// A sign of life, either way.
    Noop = 0,
    /// Put a packet into a mailbox.
    Post = 1,
    /// Read a mailbox from sequence `id` of `log` on; the body is the proof.
    Subscribe = 2,
    /// A packet of a mailbox that is read.
    Cell = 3,
    /// From the relay: POST `id` was taken. From a reader: free what is held up to `id`.
    Ack = 4,
    /// From the relay: a request was not granted; the body is an [`ErrorCode`].
    Error = 5,
    /// Wait for whoever brings the same rendezvous, the body.
    Connect = 6,
    /// Both are there: what follows is theirs.
    Joined = 7,
    /// Of a mailbox that is read: everything that was held is sent.
    Live = 8,
    /// Read a mailbox no more.
    Leave = 9,
}

impl Command {
    const ALL: [Self; 10] = [
        Self::Noop,
        Self::Post,
        Self::Subscribe,
        Self::Cell,
        Self::Ack,
        Self::Error,
        Self::Connect,
        Self::Joined,
        Self::Live,
        Self::Leave,
    ];

    /// Which of `(id, log, address)` it uses, and how long its body is.
    fn shape(self) -> ([bool; 3], usize) {
        match self {
            Self::Noop | Self::Joined => ([false, false, false], 0),
            Self::Post => ([true, false, true], PACKET_LEN),
            Self::Subscribe => ([true, true, true], PROOF_LEN),
            Self::Cell => ([true, true, true], PACKET_LEN),
            Self::Ack | Self::Live => ([true, true, true], 0),
            Self::Error => ([true, false, true], 1),
            Self::Connect => ([false, false, false], RENDEZVOUS_LEN),
            Self::Leave => ([false, false, true], 0),
        }
    }
}

/// An end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever made the link.
    Client,
    /// Whoever holds the mailboxes.
    Relay,
}

/// Why a relay does not do what it was asked to: the body of [`Command::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// The mailbox holds as many cells as one may (POST).
    MailboxFull = 1,
    /// The relay has no memory left (POST, SUBSCRIBE, CONNECT).
    RelayFull = 2,
    /// This link reads as many mailboxes as one may (SUBSCRIBE).
    TooMany = 3,
    /// Nobody else came (CONNECT).
    Nobody = 4,
}

impl ErrorCode {
    /// The code of this number; `None` for one that this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::MailboxFull, Self::RelayFull, Self::TooMany, Self::Nobody]
            .into_iter()
            .find(|code| *code as u8 == byte)
    }
}

/// A cell taken apart; what its command does not use is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What it is.
    pub command: Command,
    /// [`FLAG_VOLATILE`] of POST and CELL, else 0.
    pub flags: u8,
    /// A number that the poster chose, or a sequence number of the mailbox.
    pub id: u64,
    /// Which life of the mailbox.
    pub log: Log,
    /// The mailbox.
    pub address: Address,
    /// As long as the command says.
    pub body: &'a [u8],
}

impl<'a> Cell<'a> {
    /// A cell of which nothing but the command is said yet.
    pub fn new(command: Command) -> Self {
        Self { command, flags: 0, id: 0, log: [0; 8], address: [0; 32], body: &[] }
    }

    /// POST of `packet`, 1200 bytes, to `address`.
    pub fn post(id: u64, address: Address, packet: &'a [u8; PACKET_LEN]) -> Self {
        Self { id, address, body: packet, ..Self::new(Command::Post) }
    }

    /// The same, for whoever reads the mailbox now.
    #[must_use]
    pub fn volatile(self) -> Self {
        Self { flags: FLAG_VOLATILE, ..self }
    }

    /// The body of POST and CELL.
    pub fn packet(&self) -> Option<&'a [u8; PACKET_LEN]> {
        self.body.try_into().ok()
    }

    /// Whether this end of a link may say it, with these fields.
    pub fn is_said_by(&self, from: Side) -> bool {
        match self.command {
            Command::Noop => true,
            // The relay's own names the POST, and no mailbox.
            Command::Ack => from == Side::Client || (self.log, self.address) == ([0; 8], [0; 32]),
            Command::Post | Command::Subscribe | Command::Connect | Command::Leave => {
                from == Side::Client
            }
            Command::Cell | Command::Error | Command::Joined | Command::Live => from == Side::Relay,
        }
    }

    /// Writes all of `out`.
    pub fn write(&self, out: &mut [u8; CELL_LEN]) {
        debug_assert!(self.body.len() <= MAX_BODY);
        out[0] = self.command as u8;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&(self.body.len() as u16).to_be_bytes());
        out[4..12].copy_from_slice(&self.id.to_be_bytes());
        out[12..20].copy_from_slice(&self.log);
        out[20..52].copy_from_slice(&self.address);
        let (body, zeros) = out[HEAD_LEN..].split_at_mut(self.body.len());
        body.copy_from_slice(self.body);
        zeros.fill(0);
    }

    /// Takes a cell apart.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for an unknown command or flag, a body of another length than the
    /// command has, or anything that is not zero and should be.
    pub fn parse(cell: &'a [u8; CELL_LEN]) -> Result<Self, Violation> {
        let command = Command::ALL.into_iter().find(|command| *command as u8 == cell[0]);
        let command = command.ok_or(Violation::Malformed)?;
        let (uses, body_len) = command.shape();
        let mut parsed = Self { flags: cell[1], ..Self::new(command) };
        parsed.id = cell[4..12].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        parsed.log.copy_from_slice(&cell[12..20]);
        parsed.address.copy_from_slice(&cell[20..52]);
        let len = usize::from(u16::from_be_bytes([cell[2], cell[3]]));
        let (body, zeros) = cell[HEAD_LEN..].split_at_checked(len).ok_or(Violation::Malformed)?;
        parsed.body = body;
        let has = [parsed.id != 0, parsed.log != [0; 8], parsed.address != [0; 32]];
        let extra = has.iter().zip(uses).any(|(has, uses)| *has && !uses);
        let bears_flag = [Command::Post, Command::Cell].contains(&command);
        let allowed = if bears_flag { FLAG_VOLATILE } else { 0 };
        let good = len == body_len
            && !extra
            && parsed.flags & !allowed == 0
            && zeros.iter().all(|byte| *byte == 0);
        if good { Ok(parsed) } else { Err(Violation::Malformed) }
    }
}
