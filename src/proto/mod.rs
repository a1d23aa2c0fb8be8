//! The protocol without I/O: bytes and time in, actions out. It reads no clock, opens no file and
//! draws randomness only from what it is handed, except for the ephemeral keys that libsodium, snow
//! and ML-KEM make inside themselves and take no seed for. PROTOCOL.md is normative.

pub mod bucket;
pub mod datagram;
pub mod relay;
pub mod stream;
pub mod time;
