//! What crosses a network, seen from there: the event loop and the listeners, relays and discovery,
//! facing peers that a test plays itself, and cables that lose packets and are cut.
#![allow(clippy::unwrap_used)]

#[path = "../testkit/mod.rs"]
mod testkit;

mod a_failed_output_is_not_waited_for;
mod circuits_carry;
mod clocks_five_minutes_apart;
mod commands_run_for_messages;
mod datagrams_deliver;
mod discovery;
mod discovery_on_the_wire;
mod discovery_public;
mod floods;
mod groups_by_relay;
mod interop_python;
mod kills_lose_nothing_at_a_relay;
mod listening_policy;
mod messages_by_relay;
mod messages_by_relay_arrive;
mod namespaces;
mod news_are_for_one_session;
mod one_input_feeds_several;
mod our_own_pipes_carry_a_duplex_stream;
mod relay_bears_hostile_clients;
mod relay_ends_by_signal;
mod relay_holds_cells;
mod relay_idle_clients;
mod relay_is_blind;
mod relay_is_silent_to_strangers;
mod relay_joins_two_connections;
mod relay_key_is_made_once;
mod relay_loses_nothing;
mod relay_presence;
mod relay_tells_counts;
mod relays_that_are_lost;
mod sent_by_relay_and_heard;
mod sessions_by_relay;
mod strangers_get_silence;
mod strangers_get_silence_by_relay;
mod strangers_get_silence_over_udp;
mod strangers_shut_nobody_out;
