//! Which of a merchant's headers may reach an agent: an allow-list, of values that can carry nothing else.
//!
//! `Content-Type` is not among them, because only JSON goes back, and says so itself.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use crate::acp::header::IDEMPOTENT_REPLAYED;
use crate::acp::header::media_type::MediaType;
use crate::domain::clock::Timestamp;

/// Not registered with IANA's permanent fields, and yet what servers say.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How long a request may be on its way to a peer that is about to close its connection.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// Longest value that is passed on, in bytes.
const MAX_VALUE_BYTES: usize = 64;
const JSON: &str = "application/json";

/// The longest wait that is told: the largest number of six digits.
const LONGEST_WAIT: u32 = 999_999;
/// The wait where an instant is named by a server that does not say what time it has.
const UNDATED_WAIT: u32 = 30;

/// The headers that travel back, each at most once. `Retry-After` becomes seconds, the only form ACP
/// knows (rfc.agentic_checkout §6.4).
pub(super) fn allowed(headers: &HeaderMap) -> HeaderMap {
    // Most answers have none of them.
    let mut passed = HeaderMap::new();
    if let Some(seconds) = retry_after(headers) {
        passed.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, is_plain) in ALLOWED {
        if let Some(value) = headers.get(&name).filter(|value| passes(value, is_plain)) {
            passed.insert(name, value.clone());
        }
    }
    passed
}

/// Whether a header's value carries what its name says and no more.
type IsPlain = fn(&str) -> bool;

const ALLOWED: [(HeaderName, IsPlain); 2] =
    [(CACHE_CONTROL, is_cache_control), (CONTENT_LANGUAGE, is_language_list)];

/// Seconds to wait, in both forms of RFC 9110 §10.2.3. An instant is counted from the answer's own
/// `Date`: a merchant's clock need not be right for that.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
    }
    let until = instant(value)?;
    let Some(now) = text(DATE).and_then(instant) else { return Some(UNDATED_WAIT) };
    Some(u32::try_from(until.since(now).as_secs()).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

/// RFC 9110 §5.6.7, the obsolete forms too.
fn instant(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok().map(Timestamp::of_system)
}

fn passes(value: &HeaderValue, is_plain: IsPlain) -> bool {
    value.len() <= MAX_VALUE_BYTES && value.to_str().is_ok_and(is_plain)
}

/// How long an HTTP/1.1 connection may be idle before its peer closes it, as the peer says
/// (`Keep-Alive: timeout=`, RFC 2068 §19.7.1), less what a request may be on its way.
pub(super) fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = said.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"'))
    })?;
    Some(Duration::from_secs(timeout.parse().ok()?).saturating_sub(ON_ITS_WAY))
}

/// Whether an answer says that it was given before.
pub(super) fn is_replay(headers: &HeaderMap) -> bool {
    headers.get(IDEMPOTENT_REPLAYED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// `Content-Type` without its parameters, lower-case, where it is one: it is logged.
pub(super) fn media_type(headers: &HeaderMap) -> Option<Cow<'static, str>> {
    let essence = MediaType::parse(headers.get(CONTENT_TYPE)?.as_bytes())?.essence;
    // What nearly every answer is, without a copy.
    if essence.eq_ignore_ascii_case(JSON) {
        return Some(Cow::Borrowed(JSON));
    }
    let essence = essence.to_ascii_lowercase();
    (essence.len() <= MAX_VALUE_BYTES && few_digits(&essence)).then_some(Cow::Owned(essence))
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
    fn a_connection_is_kept_a_second_less_than_its_peer_says() {
        let kept = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(KEEP_ALIVE, HeaderValue::from_static(value));
            kept_for(&headers).map(|kept| kept.as_secs())
        };
        assert_eq!([kept("timeout=5"), kept("timeout=5, max=1000")], [Some(4); 2]);
        assert_eq!([kept("max=9 ,Timeout = \"61\""), kept("timeout=0")], [Some(60), Some(0)]);
        for nothing in ["", "max=5", "timeout", "timeout=", "timeout=-1", "timeout=soon", "5"] {
            assert_eq!(kept(nothing), None, "{nothing}");
        }
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

    fn told(retry_after: &str, date: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        allowed(&headers).get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_wait_is_told_in_seconds_whichever_form_it_comes_in() {
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        for (value, seconds) in [
            ("0", "0"),
            ("0030", "30"),
            ("999999", "999999"),
            ("1000000", "999999"),
            ("4242424242424242", "999999"),
            ("99999999999999999999999", "999999"),
            ("Wed, 21 Oct 2026 07:28:45 GMT", "45"),
            ("Wednesday, 21-Oct-26 07:29:00 GMT", "60"),
            ("Wed Oct 21 07:28:01 2026", "1"),
            ("Wed, 21 Oct 2026 07:27:00 GMT", "0"),
            ("Fri, 31 Dec 9999 23:59:59 GMT", "999999"),
        ] {
            assert_eq!(told(value, date).as_deref(), Some(seconds), "{value}");
        }
        assert_eq!(told("Wed, 21 Oct 2026 07:28:45 GMT", None).as_deref(), Some("30"));
        for value in
            ["", "-1", "+7", "1.5", "7s", "soon", "Wed, 21 Oct 2026 07:28:45", "2026-10-21T07:28:45Z"]
        {
            assert_eq!(told(value, date), None, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_instant_is_read_as_an_independent_writer_writes_it(
            seconds in 0i64..253_402_300_000, wait in 0i64..2_000_000
        ) {
            let written = |seconds| {
                let instant = jiff::Timestamp::from_second(seconds).unwrap();
                jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&instant).unwrap()
            };
            let latest = seconds.min(253_402_207_200 - 2_000_000);
            let expected = wait.min(999_999).to_string();
            proptest::prop_assert_eq!(told(&written(latest + wait), Some(&written(latest))), Some(expected));
        }
    }

    #[test]
    fn a_value_that_could_carry_more_is_dropped() {
        assert!(!passed("cache-control", "a=424242424,b=2424242"));
        assert!(!passed("cache-control", "private=\"x\""));
        assert!(!passed("content-language", "4242 4242 4242 4242"));
    }
}
