//! Sockets, the event loop, and the pump between stdio and a session.
//!
//! One re-arm rule for the whole layer. mio's events are edges, so each socket is registered once,
//! for both directions, and never again; an event only sets a flag (`readable`, `writable`), and
//! only `WouldBlock` clears it. A connection makes progress whenever a flag is set and its state
//! wants that direction: interest is derived from state, and nothing re-arms anything. Events may
//! be spurious.
//!
//! Inherited descriptors stay blocking, because `O_NONBLOCK` would leak to whoever shares them:
//! [`input`] and [`output`] use pipes and sockets call by call without waiting (`prompt`), and read
//! and write what may still block from a thread of their own, so that the loop never waits for
//! stdio, nor, through [`resolve`], for a name server.

pub mod box_file;
pub mod buffers;
pub mod call;
pub mod clock;
pub mod command;
pub mod descriptors;
pub mod dial;
pub mod duplex;
pub mod ears;
pub mod fan;
pub mod feed;
pub mod hub;
pub mod input;
pub mod lan;
pub mod listen;
mod low_water;
pub mod output;
pub mod pipe;
pub mod plain_send;
pub mod private_file;
mod prompt;
pub mod receiver;
pub mod resolve;
pub mod send;
pub mod send_datagrams;
pub mod several;
pub mod signals;
pub mod sockets;
pub mod speaker;
pub mod state_file;
mod stdio;
pub mod timers;
pub mod tokens;
pub mod via;
pub mod wire;
