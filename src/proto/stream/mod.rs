//! Streams, over TCP or a relay circuit: PROTOCOL.md, section 3.
//!
//! [`handshake`] makes a [`session`] out of two keys; a [`link`] carries [`record`]s over bytes that
//! come in pieces of any size; [`gate`] is what stands in front of a listener's link; [`inbound`]
//! checks the order of the peer's messages and [`outbound`] that of ours and of the answers to them;
//! [`meta`] are the two bodies with fields in them.

pub mod gate;
pub mod handshake;
pub mod inbound;
pub mod link;
pub mod meta;
pub mod outbound;
pub mod outgoing;
pub mod record;
pub mod replay;
pub mod session;
