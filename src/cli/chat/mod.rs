//! Chat: two and more people type lines to each other.
//!
//! [`editor`] is the line that is being typed, `recall` and `complete` what its keys offer;
//! [`command`] understands what was typed; [`talk`] knows who takes part and what waits to be said,
//! [`seen`] what was shown already.

pub mod command;
pub mod complete;
pub mod editor;
pub mod recall;
pub mod screen;
pub mod seen;
pub mod talk;
