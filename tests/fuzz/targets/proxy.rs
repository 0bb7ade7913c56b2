//! The PROXY header: whatever a balancer sends is a header or is none, and nothing panics.
#![no_main]

use countersign::server::proxy::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(Some(client)) = parse(input) {
        assert_eq!(client.ip(), client.ip().to_canonical(), "an address has one form");
    }
});
