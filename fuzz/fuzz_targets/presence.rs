//! Any bytes are the body of a PROBE or a HERE of discovery, or none; one that is read is written as
//! something that is read the same. None is a HERE both of the network and of a relay.
#![no_main]

use anonchat::proto::datagram::presence::{HereBody, ProbeBody, instance};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(probe) = ProbeBody::decode(bytes) {
        assert!(ProbeBody::decode(probe.encode().as_bytes()) == Some(probe));
    }
    // A HERE whose transports are all unknown has nothing to say.
    if let Some(here) = HereBody::decode(bytes).filter(|here| !here.endpoints.is_empty()) {
        assert!(HereBody::decode(here.encode().as_bytes()) == Some(here));
        assert!(instance(bytes).is_none());
    }
});
