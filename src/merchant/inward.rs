//! Which of a merchant's headers may reach an agent: an allow-list, of values that can carry
//! nothing else. `Content-Type` is not among them, because only JSON goes back, and says so itself.

use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use crate::acp::header::IDEMPOTENT_REPLAYED;

/// Longest value that is passed on, in bytes.
const MAX_VALUE_BYTES: usize = 64;

/// The headers that travel back, each at most once.
pub fn allowed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(3);
    for (name, is_plain) in ALLOWED {
        if let Some(value) = headers.get(&name).filter(|value| passes(value, is_plain)) {
            passed.insert(name, value.clone());
        }
    }
    passed
}

/// Whether a header's value carries what its name says and no more.
type IsPlain = fn(&str) -> bool;

const ALLOWED: [(HeaderName, IsPlain); 3] =
    [(CACHE_CONTROL, is_cache_control), (CONTENT_LANGUAGE, is_language_list), (RETRY_AFTER, is_seconds)];

fn passes(value: &HeaderValue, is_plain: IsPlain) -> bool {
    value.len() <= MAX_VALUE_BYTES && value.to_str().is_ok_and(is_plain)
}

/// Whether an answer says that it was given before.
pub fn is_replay(headers: &HeaderMap) -> bool {
    headers.get(IDEMPOTENT_REPLAYED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// `Content-Type` without its parameters, lower-case, where it is one: it is logged.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next()?.trim().to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'+' | b'-');
    let shaped = (1..=MAX_VALUE_BYTES).contains(&essence.len()) && essence.bytes().all(plain);
    (shaped && few_digits(&essence)).then_some(essence)
}

/// Directives with plain arguments.
fn is_cache_control(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'=' | b',' | b' ');
    text.bytes().all(plain) && few_digits(text)
}

/// Language tags.
fn is_language_list(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b',' | b' ')) && few_digits(text)
}

/// Whole seconds, at most six digits; ACP knows no other form (rfc.agentic_checkout §6.4).
fn is_seconds(text: &str) -> bool {
    (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Fewer digits in all than the shortest card number has.
fn few_digits(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() < 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        allowed(&headers).len() == 1
    }

    #[test]
    fn what_an_agent_may_use_passes() {
        assert!(passed("retry-after", "30"));
        assert!(passed("cache-control", "no-store, max-age=0"));
        assert!(passed("content-language", "en-US"));
    }

    #[test]
    fn everything_else_is_dropped() {
        for name in [
            "set-cookie",
            "location",
            "signature",
            "signature-input",
            "idempotency-key",
            "idempotent-replayed",
            "content-encoding",
            "content-length",
            "www-authenticate",
            "server",
            "via",
            "x-anything",
        ] {
            assert!(!passed(name, "1"), "{name}");
        }
    }

    #[test]
    fn a_media_type_is_one_or_is_not_named() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            media_type(&headers)
        };
        assert_eq!(read("Application/JSON; charset=utf-8").as_deref(), Some("application/json"));
        for value in ["", ";", "a b", "text/4242424242424242", "text/\"x\""] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn a_value_that_could_carry_more_is_dropped() {
        assert!(!passed("retry-after", "4242424242424242"));
        assert!(!passed("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"));
        assert!(!passed("cache-control", "a=424242424,b=2424242"));
        assert!(!passed("cache-control", "private=\"x\""));
        assert!(!passed("content-language", "4242 4242 4242 4242"));
    }
}
