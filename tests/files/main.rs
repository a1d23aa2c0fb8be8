//! What stands on a disk: files and folders that travel, keyrings, histories, boxes and states.
#![allow(clippy::unwrap_used)]

#[path = "../testkit/mod.rs"]
mod testkit;

mod a_folder_that_is_cut_off_is_told;
mod a_restart_delivers_nothing_twice;
mod box_files;
mod files_are_declined;
mod files_are_resumed;
mod files_arrive;
mod files_by_relay;
mod files_travel;
mod folders;
mod history;
mod history_properties;
mod hostile_files;
mod hostile_names;
mod inbox;
mod items_land_once;
mod keygen;
mod keyring;
mod outbox;
