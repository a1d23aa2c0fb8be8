//! Relays: what a client and a relay say to each other. PROTOCOL.md, 5.
//!
//! A [`link`] carries [`cell`]s; [`mailbox`] has the addresses that they are posted to, and who may
//! read them. What is in a cell is a packet of [`super::datagram`]. [`posting`] is one message on its
//! way into mailboxes, [`reading`] is how far a reader is.

pub mod cell;
pub mod link;
pub mod mailbox;
pub mod posting;
pub mod reading;
