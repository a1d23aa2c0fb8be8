//! Whatever records a peer sends, messages begin, go on and end in order.
#![no_main]

use anonchat::proto::stream::inbound::{Inbound, Step};
use anonchat::proto::stream::record::Kind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: Vec<(u8, Vec<u8>, bool)>| {
    let mut inbound = Inbound::default();
    let mut open = false;
    for (kind, body, refuse) in &records {
        let _ = inbound.offer();
        let Ok(kind) = Kind::try_from(*kind) else { return };
        let Ok(step) = inbound.step(kind, body) else { return };
        match step {
            Step::Begin(_) => assert!(!std::mem::replace(&mut open, true)),
            Step::Data(_) | Step::StartAt(_) => assert!(open),
            Step::End | Step::Aborted(_) => assert!(std::mem::take(&mut open)),
            Step::Nothing => {}
        }
        if *refuse {
            inbound.refuse();
            open = false;
        }
    }
});
