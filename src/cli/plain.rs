//! `--plain`: the words for what is not encrypted, so that they are the same everywhere.

use std::fmt::Display;

/// What a sender says first, whatever it is told to keep quiet about.
pub const SEND_WARNING: &str =
    "warning: PLAIN: nothing is encrypted: whoever is on the way can read it and change it";

/// What a listener says first.
pub const LISTEN_WARNING: &str = "warning: PLAIN: nothing is encrypted: anybody can write here, and whoever is on the way can read \
     it and change it";

/// What stands for a petname. No petname has a blank in it: none can look like this.
pub fn name(whose: impl Display) -> String {
    format!("PLAIN {whose}")
}
