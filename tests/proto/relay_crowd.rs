//! One address does not take every place of a relay: whoever has most gives way.

use std::net::{IpAddr, Ipv4Addr};

use anonchat::relay::crowd::Crowd;
use anonchat::sched::party::{Network, Party};

fn party(last: u8) -> Party {
    Party::Address(Network::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))))
}

#[test]
fn the_party_that_has_most_gives_way_until_all_have_the_same() {
    let mut crowd = Crowd::default();
    (0..10).for_each(|client| crowd.enter(party(1), client));
    let mut moved = 0;
    while let Some(yields) = crowd.yields_to(party(2)) {
        assert!(yields < 10);
        crowd.leave(party(1), yields);
        crowd.enter(party(2), 100 + moved);
        moved += 1;
    }
    assert_eq!((moved, crowd.len()), (5, 10));
    assert_eq!(crowd.yields_to(party(1)), None, "nobody gives way to who has as many");
    assert!(crowd.yields_to(party(3)).is_some());
}

#[test]
fn nobody_is_left_behind() {
    let mut crowd = Crowd::default();
    crowd.enter(party(1), 7);
    crowd.leave(party(1), 7);
    crowd.leave(party(1), 7);
    assert!(crowd.is_empty());
    assert_eq!(crowd.yields_to(party(2)), None);
}
