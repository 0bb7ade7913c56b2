//! Routes: a path that is routed is its own canonical path, and is routed the same again.
#![no_main]

use countersign::acp::route::Route;
use countersign::domain::id::MerchantId;
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let host = MerchantId::parse("shop");
    for method in [Method::GET, Method::POST, Method::PUT] {
        for host in [None, host.as_ref()] {
            let Ok(route) = Route::parse(&method, input, host) else { continue };
            // Where no prefix names a merchant, what was read is what goes on.
            if host.is_some() {
                assert_eq!(*route.canonical_path(), *input);
            }
            assert_eq!(Route::parse(&method, input, host), Ok(route), "one path, one route");
        }
    }
});
