//! Structured fields and the signature base: a base has one line for each component, and one more.
#![no_main]

use countersign::http_signature::{
    CONTENT_DIGEST, MessageView, SIGNATURE, SIGNATURE_INPUT, content_digest, received,
};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Lines: the two headers of a signature, a digest, and what else is covered.
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [SIGNATURE_INPUT, SIGNATURE, CONTENT_DIGEST, http::header::CONTENT_TYPE] {
        if let Some(value) = lines.next().and_then(|line| HeaderValue::from_bytes(line).ok()) {
            headers.append(name, value);
        }
    }
    let _ = content_digest::verify(&headers, b"{}");
    let message = MessageView {
        method: "POST",
        scheme: "https",
        authority: "pay.example",
        path: "/m/shop/checkout_sessions",
        query: None,
        headers: &headers,
    };
    for signature in received(&headers).into_iter().flatten() {
        if let Ok(base) = signature.base(&message) {
            let lines = base.split(|byte| *byte == b'\n').count();
            assert_eq!(lines, signature.components.len() + 1, "no value adds a line");
        }
    }
});
