//! Members an agent may send and must never get back: `intent_trace`, `affiliate_attribution`.
//!
//! rfc.intent_traces §3.1 and rfc.affiliate_attribution §4.3.4 say so. The only place where a merchant's
//! answer is rewritten, and only if it leaks one.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::json::{Document, Value};

const WRITE_ONLY: [&str; 2] = ["intent_trace", "affiliate_attribution"];

/// The deepest nesting that is searched: what the gateway accepts anywhere.
const MAX_DEPTH: u8 = 32;

/// Removes write-only members at any depth. An answer without any keeps its bytes exactly. `None`
/// when it may hold one and cannot be read: then it must not be passed on.
pub fn strip_write_only(body: Bytes) -> Option<Bytes> {
    if !may_hold_one(&body) {
        return Some(body);
    }
    let stripped = strip(Document::of_body(&body)?.value(), MAX_DEPTH)?;
    Some(stripped.map_or(body, Bytes::from))
}

/// Cheap and never wrong in the safe direction: a name can only hide behind a Unicode escape.
fn may_hold_one(text: &[u8]) -> bool {
    // Made once: to make a finder costs as much as to look through an answer.
    static FINDERS: LazyLock<[Finder<'static>; 3]> =
        LazyLock::new(|| [WRITE_ONLY[0], WRITE_ONLY[1], r"\u00"].map(Finder::new));
    FINDERS.iter().any(|finder| finder.find(text).is_some())
}

/// The value without write-only members; the inner `None` when it has none. The outer `None` is for
/// nesting too deep or repeated members.
fn strip(value: Value<'_>, depth: u8) -> Option<Option<String>> {
    let text = value.raw();
    if !may_hold_one(text.as_bytes()) || !text.starts_with(['{', '[']) {
        return Some(None);
    }
    let below = depth.checked_sub(1)?;
    let mut parts = Vec::new();
    let mut changed = false;
    if let Some(elements) = value.array() {
        for element in elements {
            let stripped = strip(element, below)?;
            changed |= stripped.is_some();
            parts.push(stripped.unwrap_or_else(|| element.raw().to_owned()));
        }
        return Some(changed.then(|| format!("[{}]", parts.join(","))));
    }
    for (name, member) in value.object()?.members() {
        if WRITE_ONLY.contains(&name) {
            changed = true;
            continue;
        }
        let stripped = strip(member, below)?;
        changed |= stripped.is_some();
        let name = serde_json::to_string(name).ok()?;
        parts.push(format!("{name}:{}", stripped.as_deref().unwrap_or_else(|| member.raw())));
    }
    Some(changed.then(|| format!("{{{}}}", parts.join(","))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(body: &str) -> Option<String> {
        let stripped = strip_write_only(Bytes::copy_from_slice(body.as_bytes()))?;
        Some(String::from_utf8(stripped.to_vec()).unwrap())
    }

    #[test]
    fn write_only_members_are_removed_at_any_depth_however_they_are_spelt() {
        for (body, expected) in [
            (r#"{"id":"a","intent_trace":{"reason_code":"other"},"x":1}"#, r#"{"id":"a","x":1}"#),
            (r#"{"order":{"affiliate_attribution":{"token":"t"}},"n":1.50}"#, r#"{"order":{},"n":1.50}"#),
            (r#"{"a":[1,{"intent_trace":1, "b" : 2}]}"#, r#"{"a":[1,{"b":2}]}"#),
            (r#"{"intent\u005ftrace":1,"b":2}"#, r#"{"b":2}"#),
        ] {
            assert_eq!(stripped(body).as_deref(), Some(expected));
        }
    }

    #[test]
    fn an_answer_without_them_keeps_its_bytes() {
        for body in [
            r#"{ "id" : "a" }"#,
            r#"{ "message" : "intent_trace is write-only" }"#,
            r#"{ "a" : "é\u0000" , "n" : 1.0 }"#,
            "not json",
        ] {
            assert_eq!(stripped(body).as_deref(), Some(body));
        }
    }

    #[test]
    fn an_answer_that_may_hide_one_and_cannot_be_read_is_not_passed_on() {
        assert_eq!(stripped(r#"{"intent_trace":"#), None);
        assert_eq!(stripped(&format!("{}{{\"intent_trace\":1}}{}", "[".repeat(40), "]".repeat(40))), None);
    }

    proptest! {
        #[test]
        fn nothing_else_is_lost(name in "[a-z_]{1,4}", value in any::<String>(), inner in any::<i64>()) {
            prop_assume!(!WRITE_ONLY.contains(&name.as_str()));
            let kept = serde_json::json!({ name.clone(): [value, { name.clone(): inner }] });
            let mut leaking = kept.clone();
            leaking["intent_trace"] = serde_json::json!({ "reason_code": "other" });
            leaking[&name][1]["affiliate_attribution"] = serde_json::json!({ "token": "t" });
            let read: serde_json::Value = serde_json::from_str(&stripped(&leaking.to_string()).unwrap()).unwrap();
            prop_assert_eq!(read, kept);
        }
    }
}
