//! The canonical forms of JSON: no input panics, and a canonical form is its own.
#![no_main]

use countersign::acp::canonical::{canonicalize, check, exact_form};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut canonical = Vec::new();
    if canonicalize(input, &mut canonical).is_ok() {
        assert!(check(input).is_ok(), "what has a canonical form is accepted");
        assert!(serde_json::from_slice::<serde_json::Value>(&canonical).is_ok(), "it is JSON");
        let mut again = Vec::new();
        canonicalize(&canonical, &mut again).expect("a canonical form is accepted");
        assert_eq!(canonical, again, "it does not change");
    }
    let mut exact = Vec::new();
    if exact_form(input, &mut exact).is_ok() && exact_form(&canonical, &mut Vec::new()).is_ok() {
        let mut of_canonical = Vec::new();
        if canonicalize(input, &mut Vec::new()).is_ok() {
            exact_form(&canonical, &mut of_canonical).expect("an exact form");
            assert_eq!(exact, of_canonical, "what is equal in canonical form is equal exactly");
        }
    }
});
