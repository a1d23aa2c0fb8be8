//! Datagrams: one sealed libsodium box a packet, over UDP or in a file. PROTOCOL.md, 4.
//!
//! [`packet`] has the bytes, [`ack`] the answers. [`sender`] and [`receiver`] are the two ends of a
//! *run*: what one `ac-send` says, cut into messages of at most 64 packets, one in flight at a
//! time; [`held`] is the receiver's end of what comes in the cells of relays. Both ask by [`admission`] who is heard. `replay` is what a
//! receiver remembers so that nothing is taken twice, [`answered`] which questions it has answered,
//! `windows` who shares such a memory with whom, `path` what a sender knows of the way,
//! [`past`] what outlives a listener. [`probe`] asks whether anybody is there, [`boxfile`] seals for
//! a file.

pub mod ack;
pub mod admission;
pub mod answered;
mod assembly;
pub mod boxfile;
pub mod cache;
mod flight;
pub mod held;
pub mod meet;
pub mod packet;
pub mod past;
mod path;
pub mod presence;
pub mod probe;
pub mod receipt;
pub mod receiver;
mod replay;
mod run;
pub mod sender;
mod windows;
