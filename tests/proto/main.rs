//! The pure core, without a socket and on no clock but the one that a test turns: parsers, sealing,
//! scheduling and simulations by seed, held against models, properties and published vectors.
#![allow(clippy::unwrap_used)]

#[path = "../testkit/mod.rs"]
mod testkit;

mod a_paused_reader_cuts_nobody;
mod announcers_are_silent;
mod chat_loses_no_line;
mod datagram_boxfile;
mod datagram_packets;
mod datagram_simulation;
mod datagram_vectors;
mod discovery_by_relay;
mod discovery_simulation;
mod discovery_vectors;
mod fair_turns;
mod held_packets;
mod held_simulation;
mod key_vectors;
mod keyfile_corpus;
mod keyfile_properties;
mod limits_by_seed;
mod local_time_follows_tz;
mod low_order;
mod low_order_keys;
mod noise_vectors;
mod one_door_to_libsodium;
mod peers_text_is_harmless;
mod posting_simulation;
mod protocol_document;
mod relay_crowd;
mod relay_properties;
mod relay_room;
mod relay_table;
mod relay_vectors;
mod sessions_rekey;
mod state_properties;
mod stream_properties;
mod stream_simulation;
mod stream_vectors;
mod two_way_sessions;
mod wycheproof;
