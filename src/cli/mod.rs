//! What the programs share in front of a user: options, destinations, output, errors.

pub mod descriptor;
pub mod failure;
pub mod keygen;
pub mod local_time;
pub mod output;
pub mod passphrase;
pub mod sanitize;
mod terminal;
