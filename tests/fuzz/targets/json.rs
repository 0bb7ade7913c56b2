//! The walker over JSON bodies: it accepts what is JSON, and every value can be visited.
#![no_main]

use bytes::Bytes;
use countersign::acp::wire::json::{Document, Value};
use countersign::acp::wire::write_only::strip_write_only;
use libfuzzer_sys::fuzz_target;

fn visit(value: Value<'_>, depth: u8) {
    let _ = (value.boolean(), value.integer(), value.text().map(|text| text.to_owned()));
    if depth == 0 {
        return;
    }
    for member in value.array().into_iter().flatten() {
        visit(member, depth - 1);
    }
    if let Some(object) = value.object() {
        for (name, member) in object.members() {
            assert!(object.get(name).is_some(), "a member is found by its name");
            visit(member, depth - 1);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let document = Document::of_body(input);
    // The independent reader also gives up at a depth of 128.
    match serde_json::from_slice::<serde_json::Value>(input) {
        Ok(value) if value.is_object() || value.is_array() => {
            assert!(document.is_some(), "what is JSON is read");
        }
        Err(error) if error.is_syntax() => {
            // Numbers beyond a double and escapes of half a pair are JSON all the same (RFC 8259 §8.2).
            let stricter = ["recursion", "number out of range", "surrogate", "hex escape"];
            let said = error.to_string();
            let is_stricter = stricter.iter().any(|reason| said.contains(reason));
            assert!(document.is_none() || is_stricter, "what is no JSON is refused: {said}");
        }
        _ => {}
    }
    if let Some(document) = document {
        visit(document.value(), 40);
    }
    if let Some(stripped) = strip_write_only(Bytes::copy_from_slice(input)) {
        let again = strip_write_only(stripped.clone()).expect("what was passed on is read");
        assert_eq!(stripped, again, "nothing is left to take out");
    }
});
