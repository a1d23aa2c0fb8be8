//! AnonChat: the core that the programs share.
//!
//! In the order in which a message travels, from one person's stdin to the other's stdout:
//!
//! 1. [`cli`] reads the options and the destination, and asks [`keys`] for the key files: who sends,
//!    and to whom.
//! 2. [`net`] dials (`dial`, `resolve`) and reads stdin without ever waiting for it (`input`).
//! 3. [`proto`] turns bytes and time into actions, and does no I/O. Over TCP that is
//!    [`proto::stream`]: a handshake makes a session, a link carries its records. Over UDP and in
//!    files it is [`proto::datagram`]: a run of messages, each packet a sealed box.
//! 4. [`crypto`] seals. [`crypto::sodium`] is the only door to libsodium, [`crypto::noise`] runs
//!    Noise on it, [`crypto::kem`] is ML-KEM-768.
//! 5. [`net`] moves the packets (`send`, `send_datagrams`, or `box_file`), and at the other end
//!    accepts them (`listen`).
//! 6. [`proto`] again: a gate in front of strangers, the handshake, the order of records, what was
//!    seen before; and [`sched::mux`], by which many senders share one output.
//! 7. [`cli`] decides who is heard and gives messages their form; [`net::output`] writes them. Once
//!    that is flushed, the acknowledgement travels all the way back.
//!
//! In a chat ([`cli::chat`]) messages travel both ways on one session, many in turn.
//!
//! What was delivered is remembered for the next listener, if that is asked for, by
//! [`net::state_file`]. [`history`] keeps a sealed copy on the way, likewise, at either end.
//! [`transfer`] is files and folders: how they are read, what a peer may call them, and the directory
//! that they land in.
//!
//! [`discover`] finds, on the local network, where somebody listens, and answers those who ask.
//!
//! [`relay`] is the machine in between for those who cannot reach each other: it holds sealed cells and
//! joins connections, and can read neither.
//!
//! [`inherited`] looks, before all that, which descriptors the shell left open.
//!
//! Imports point down only: bin → cli → (transfer, relay, discover, history) → net → sched → proto → crypto, keys.
//! PROTOCOL.md says every byte.

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod crypto;
#[forbid(unsafe_code)]
pub mod discover;
#[forbid(unsafe_code)]
pub mod history;
pub mod inherited;
#[forbid(unsafe_code)]
pub mod keys;
#[forbid(unsafe_code)]
pub mod net;
#[forbid(unsafe_code)]
pub mod proto;
#[forbid(unsafe_code)]
pub mod relay;
#[forbid(unsafe_code)]
pub mod sched;
#[forbid(unsafe_code)]
pub mod transfer;
