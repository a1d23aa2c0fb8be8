//! Who of my contacts is on this network, PROTOCOL.md, 6, or listens at a relay, 5.7.
//!
//! The pure half: bytes and time in, packets and changes out. A [`seeker`] asks, by the plan of a
//! `schedule`, and keeps a [`roster`] of those whose addresses a round trip has checked; an
//! [`announcer`] answers those whom it would hear, from what its `memory` says are no replays.
//! [`introduction`] is how members of a group hand out their own keys. Both spend no more than a
//! [bucket](crate::proto::bucket) allows. An [`inquiry`] asks by a relay instead.
//!
//! The half that has sockets: [`seek`], [`announce`] and [`relayed`]; and [`public`], DNS-SD for those
//! who choose to be seen.

pub mod announce;
pub mod announcer;
pub mod inquiry;
pub mod introduction;
mod memory;
pub mod public;
mod pursuit;
pub mod relayed;
pub mod roster;
mod schedule;
pub mod seek;
pub mod seeker;

/// The UDP port of discovery.
pub const PORT: u16 = 6000;
