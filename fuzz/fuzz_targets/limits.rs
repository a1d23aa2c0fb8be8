//! Whatever comes and goes at the door, nobody is served twice, forgotten or over the limit.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anonchat::sched::limits::{Bounds, Door};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|steps: Vec<(u8, u8)>| {
    let mut door = Door::new(Bounds::new(Duration::from_secs(30)));
    let mut now = Duration::from_secs(10);
    let (mut there, mut served) = (BTreeSet::new(), BTreeSet::new());
    for (number, (what, which)) in steps.into_iter().enumerate() {
        match what % 3 {
            0 => {
                door.arrive(number, IpAddr::V4(Ipv4Addr::new(10, 0, 0, which)), now);
                there.insert(number);
                if which % 2 == 0 {
                    door.knock(number, now);
                }
            }
            1 => {
                if let Some(gone) = door.yields(now) {
                    assert!(there.remove(&gone));
                    door.leave(gone, now);
                }
            }
            _ => now += Duration::from_millis(u64::from(which)),
        }
        while let Some(next) = door.next(now) {
            assert!(there.contains(&next) && served.insert(next));
        }
        assert_eq!(door.len(), there.len());
    }
});
