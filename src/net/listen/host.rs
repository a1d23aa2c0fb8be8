//! What a listener needs of the program around it, and what it tells it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::net::sockets::Transport;
use crate::proto::mux::{Sink, Ticket};
use crate::proto::stream::link::Crossing;

/// A key that answers here.
pub struct Answering {
    /// The key pair.
    pub pair: KeyPair,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
}

/// What a caller has shown of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// That it holds this key.
    Key(PublicKey),
    /// Nothing: no encryption. Where the bytes came from, as far as anybody can tell.
    Plain(SocketAddr),
}

/// Who is heard, as far as their key tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Petname, or what stands for one; safe to show.
    pub name: String,
    /// What they have shown.
    pub origin: Origin,
    /// Whether it is a contact.
    pub known: bool,
}

/// What is known of a message when it begins.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Names it.
    pub id: [u8; 16],
    /// Whose it is.
    pub caller: Caller,
    /// The sender's clock, Unix ms; ours if it is not known.
    pub sent_ms: u64,
    /// Ours, Unix ms.
    pub arrived_ms: u64,
    /// A [`crate::proto::stream::meta::MessageKind`], or a number that this version does not know.
    pub kind: u8,
    /// How it came.
    pub transport: Transport,
}

/// Something to tell the user beside the messages.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The key proved itself, and is nobody whom we hear.
    TurnedAway(&'a PublicKey),
    /// A session begins.
    Connected(&'a Caller, SocketAddr),
    /// A message is acknowledged, or written if nothing was encrypted: this many bytes.
    Delivered(&'a Heard, u64),
    /// A message ended before it was whole.
    Cut(&'a Heard, &'static str),
    /// Something crossed the wire.
    Crossed(&'a Crossing),
}

/// What the loop asks of the program around it.
pub trait Host {
    /// Whether the holder of `caller` is heard when it calls key number `key`. `proven` says that
    /// the caller's key is certain even to other holders of that key.
    fn admit(&mut self, caller: &PublicKey, key: usize, proven: bool) -> Option<Caller>;
    /// Who is heard from `address` without encryption.
    fn unproven(&mut self, address: SocketAddr) -> Caller;
    /// Tells the user.
    fn notice(&mut self, notice: Notice<'_>);
}

/// The form that messages take, and the output that they go to.
pub trait Stage: Sink<Heard> {
    /// Nothing more comes for now: sends on what was gathered.
    fn settle(&mut self);
    /// The last ticket whose bytes were all written.
    fn flushed(&self) -> Ticket;
    /// The output's first error, once.
    fn take_error(&mut self) -> Option<io::Error>;
    /// The descriptor to watch for a reader that goes away.
    fn watched(&self) -> Option<RawFd>;
}

/// How long, how many, how openly.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A session may be silent this long.
    pub silence: Duration,
    /// The listener ends after hearing nothing for so long.
    pub idle: Option<Duration>,
    /// The listener ends after so many messages.
    pub count: Option<u64>,
    /// Note what crosses the wire.
    pub trace: bool,
}

/// Why a listener ended without an error of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It heard as many messages as it was asked to.
    Enough,
    /// Nobody said anything for as long as was allowed, after so many messages.
    Silence(u64),
}

/// Why it ended otherwise.
#[derive(Debug)]
pub enum ListenError {
    /// The output failed: nothing was acknowledged that was not written.
    Output(io::Error),
    /// The system failed us.
    Local(io::Error),
    /// A signal arrived; the peers have been told.
    Signal(i32),
}
