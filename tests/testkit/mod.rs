//! What the tests of more than one promise need.
#![allow(dead_code)] // each of the test programs uses a part of it

pub mod caller;
pub mod common;
pub mod datagram_forge;
pub mod foreign;
pub mod keys;
pub mod machines;
pub mod measure;
pub mod proxy;
pub mod random;
pub mod relay_client;
pub mod relay_people;
pub mod relay_reader;
pub mod scene;
pub mod screen;
pub mod transfer;
pub mod udp;
pub mod vectors;
