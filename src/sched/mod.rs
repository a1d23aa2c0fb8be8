//! What a server gives to whom, and when: pure, like [`crate::proto`]. Time in, decisions out.
//!
//! [`limits`] bound what one caller may take; [`turns`] go from party to party; [`mux`] shares one output
//! among many messages. [`party`] names those who share.

pub mod limits;
pub mod mux;
pub mod party;
pub mod turns;
