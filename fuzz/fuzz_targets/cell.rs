//! What is taken for a cell is exactly that cell, and no bit of it goes unseen.
#![no_main]

use anonchat::proto::relay::cell::{CELL_LEN, Cell, Side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|start: &[u8]| {
    let mut bytes = [0; CELL_LEN];
    let len = start.len().min(CELL_LEN);
    bytes[..len].copy_from_slice(&start[..len]);
    if let Ok(cell) = Cell::parse(&bytes) {
        assert!(cell.is_said_by(Side::Client) || cell.is_said_by(Side::Relay));
        let mut again = [0xff; CELL_LEN];
        cell.write(&mut again);
        assert!(again == bytes);
    }
});
