//! Whole programs, as people run them: command lines, terminals, pipes, exit codes and what is said.
#![allow(clippy::unwrap_used)]

#[path = "../testkit/mod.rs"]
mod testkit;

mod a_stopped_program_cuts_nobody;
mod bad_input;
mod chat;
mod chat_fetches_files;
mod chat_in_tmux;
mod chat_terminal;
mod closed_stdout_is_an_error;
mod config;
mod datagram_endings;
mod destinations;
mod duplex;
mod duplex_carries;
mod endings;
mod exec;
mod exit_codes;
mod harness_holds;
mod heavy;
mod json_form;
mod man_pages;
mod named_pipes;
mod nonblocking_descriptors_are_waited_for;
mod passphrase_prompt;
mod plain;
mod programs_tell_their_version;
mod progress_is_shown_on_a_terminal;
mod several_destinations;
mod sharing_stdout;
mod systems_that_lack_calls;
mod terminal_form;
mod the_sealing_work_is_shown;
mod waiting_costs_no_processor_time;
