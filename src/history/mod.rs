//! A history: what was sent and received, sealed to the owner's own key. PROTOCOL.md, section 11.
//!
//! [`entry`] is the format, [`append`] the file that several programs append to at once, [`record`]
//! what a program does while a message passes, [`replay`] finds the messages again.
//!
//! Recording needs the public key only. A record is complete before its message is: what a
//! listener acknowledges is in the file, and so is what a sender says the end of.

pub mod append;
pub mod entry;
pub mod record;
pub mod replay;
