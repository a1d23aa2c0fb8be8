//! What the programs share in front of a user: options, destinations, output, errors.

pub mod chat;
pub mod common;
pub mod config;
mod contact_book;
pub mod descriptor;
pub mod destination;
pub mod discover;
mod duplex;
pub mod failure;
mod history;
pub mod json;
pub mod keygen;
pub mod listen;
pub mod local_time;
mod moving;
pub mod output;
mod outputs;
pub mod passphrase;
mod plain;
pub mod program;
mod progress;
pub mod sanitize;
mod sealed_file;
pub mod send;
mod terminal;
mod trace;
pub mod units;
