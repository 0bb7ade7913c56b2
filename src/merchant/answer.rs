//! What goes back to the agent: a success byte for byte when it is JSON, anything else as a flat
//! ACP error, cleaned. Nothing of a merchant's answer reaches an agent past this file.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::de::IgnoredAny;

use super::envelope::{Described, read_error};
use super::exchange::Answer;
use super::scrub::scrub;
use crate::acp::problem::{Problem, ProblemKind};
use crate::acp::version::Version;

/// What the agent gets of a merchant's answer. `Content-Type` is always `application/json` and
/// never among the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForAgent {
    /// A success, as it came.
    Body {
        /// The merchant's status, 2xx.
        status: StatusCode,
        /// The allowed headers.
        headers: HeaderMap,
        /// The body, byte for byte.
        body: Bytes,
    },
    /// The flat error that stands for everything else.
    Problem {
        /// What is said, `Retry-After` included.
        problem: Problem,
        /// The other allowed headers.
        headers: HeaderMap,
    },
}

/// What the agent gets of a merchant's answer. A 2xx of a complete that cannot be read is in doubt
/// and for the gateway to word; here it is a 502 like any other.
pub fn for_agent(answer: &Answer) -> ForAgent {
    let problem = match answer.status.as_u16() {
        200..=299 if is_json(&answer.body) => {
            return ForAgent::Body {
                status: answer.status,
                headers: answer.headers.clone(),
                body: answer.body.clone(),
            };
        }
        // It is our credential that was refused, not the agent's.
        401 | 403 | 407 => bad_gateway("The merchant refused the gateway's own credential."),
        400..=599 => return described(answer),
        200..=299 => bad_gateway("The merchant's answer is not JSON."),
        _ => bad_gateway("The merchant's answer is not one that can be passed on."),
    };
    ForAgent::Problem { problem, headers: HeaderMap::new() }
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn bad_gateway(message: &'static str) -> Problem {
    Problem::processing_error(StatusCode::BAD_GATEWAY, message)
}

/// A merchant's error: its status, and of its text what can be read, cleaned.
fn described(answer: &Answer) -> ForAgent {
    let said = read_error(&answer.body).unwrap_or_default();
    let plain = plain_words(answer.status);
    let kind = said.kind.as_deref().and_then(read_kind).unwrap_or(plain.kind);
    let code = said.code.as_deref().and_then(clean_code);
    let message = said.message.as_deref().map(scrub).filter(|text| !text.trim().is_empty());
    let mut problem = Problem::new(
        answer.status,
        kind,
        code.map_or(Cow::Borrowed(plain.code), Cow::Owned),
        message.map_or(Cow::Borrowed(plain.message), Cow::Owned),
    )
    .with_supported_versions(supported_versions(&said));
    if let Some(param) = said.param.as_deref().map(scrub).filter(|text| !text.is_empty()) {
        problem = problem.with_param(param);
    }
    let mut headers = answer.headers.clone();
    let retry_after = headers.remove(RETRY_AFTER);
    if let Some(seconds) = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()) {
        problem = problem.with_retry_after(seconds);
    }
    ForAgent::Problem { problem, headers }
}

/// What an error says where the merchant did not.
struct PlainWords {
    kind: ProblemKind,
    code: &'static str,
    message: &'static str,
}

fn plain_words(status: StatusCode) -> PlainWords {
    let (kind, code) = match status.as_u16() {
        404 => (ProblemKind::InvalidRequest, "not_found"),
        405 => (ProblemKind::InvalidRequest, "method_not_allowed"),
        409 => (ProblemKind::InvalidRequest, "conflict"),
        429 => (ProblemKind::RateLimitExceeded, "too_many_requests"),
        400..=499 => (ProblemKind::InvalidRequest, "invalid_request"),
        503 => (ProblemKind::ServiceUnavailable, "service_unavailable"),
        _ => (ProblemKind::ProcessingError, "processing_error"),
    };
    let message =
        if status.is_client_error() { "The merchant refused the request." } else { "The merchant failed." };
    PlainWords { kind, code, message }
}

/// ACP's categories; `None` for any other word, a former one included.
fn read_kind(text: &str) -> Option<ProblemKind> {
    match text {
        "invalid_request" => Some(ProblemKind::InvalidRequest),
        "rate_limit_exceeded" => Some(ProblemKind::RateLimitExceeded),
        "processing_error" => Some(ProblemKind::ProcessingError),
        "service_unavailable" => Some(ProblemKind::ServiceUnavailable),
        _ => None,
    }
}

/// A code as programs write them: up to 64 of `[A-Za-z0-9_.-]`, and nothing `scrub` would touch.
fn clean_code(code: &str) -> Option<String> {
    let shaped = (1..=64).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    (shaped && scrub(code) == code).then(|| code.to_owned())
}

fn supported_versions(said: &Described) -> impl Iterator<Item = Version> {
    said.supported_versions.iter().filter_map(|text| Version::parse(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn answered(status: u16, body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            media_type: None,
            headers,
            body: Bytes::copy_from_slice(body),
            elapsed: Duration::ZERO,
        }
    }

    fn refused(status: u16, body: &str) -> Problem {
        problem(&answered(status, body.as_bytes()))
    }

    fn problem(answer: &Answer) -> Problem {
        let ForAgent::Problem { problem, headers } = for_agent(answer) else { panic!("passed") };
        assert!(!headers.contains_key(RETRY_AFTER));
        problem
    }

    #[test]
    fn a_json_success_passes_byte_for_byte() {
        let body = b" {\"b\":1.0,\"a\":null, \"number\":\"4242424242424242\"}\n";
        let answer = answered(201, body);
        let ForAgent::Body { status, headers, body: passed } = for_agent(&answer) else { panic!() };
        assert_eq!((status, headers, &passed[..]), (StatusCode::CREATED, answer.headers, &body[..]));
    }

    #[test]
    fn a_success_that_is_not_json_is_502() {
        for body in [&b""[..], b"<html>", b"{", b"{}{}", b"\xff", b"\"\xff\""] {
            let problem = problem(&answered(200, body));
            assert_eq!(
                (problem.status, problem.kind),
                (StatusCode::BAD_GATEWAY, ProblemKind::ProcessingError)
            );
        }
    }

    #[test]
    fn an_error_keeps_its_status_and_what_can_be_read() {
        let problem = refused(
            422,
            r#"{"error":{"type":"invalid_request","code":"out_of_stock","message":"gone","param":"items[0]"}}"#,
        );
        assert_eq!(problem.status.as_u16(), 422);
        assert_eq!((problem.code.as_ref(), problem.message.as_ref()), ("out_of_stock", "gone"));
        assert_eq!(problem.param.as_deref(), Some("$.items[0]"));
        assert_eq!(problem.retry_after, Some(7));
    }

    #[test]
    fn an_unknown_category_becomes_the_one_of_its_status() {
        for (status, kind) in [
            (400, ProblemKind::InvalidRequest),
            (429, ProblemKind::RateLimitExceeded),
            (500, ProblemKind::ProcessingError),
            (503, ProblemKind::ServiceUnavailable),
        ] {
            assert_eq!(refused(status, r#"{"type":"request_not_idempotent"}"#).kind, kind, "{status}");
        }
    }

    #[test]
    fn a_debug_page_never_reaches_the_agent() {
        for status in [400, 404, 500, 599] {
            let problem = refused(status, "<html>4242424242424242 secret</html>");
            let body = String::from_utf8(problem.body().to_vec()).unwrap();
            assert!(!body.contains("4242") && !body.contains("secret"), "{body}");
            assert_eq!(problem.status.as_u16(), status);
        }
    }

    #[test]
    fn card_numbers_are_masked_in_every_string() {
        let card = "4242 4242 4242 4242";
        let body = format!(
            r#"{{"type":"{card}","code":"4242424242424242","message":"{card}","param":"$['{card}']"}}"#
        );
        let body = String::from_utf8(refused(400, &body).body().to_vec()).unwrap();
        assert!(!body.contains("4242"), "{body}");
    }

    #[test]
    fn a_refusal_of_our_credential_is_not_the_agents() {
        for status in [401, 403] {
            let problem = refused(status, r#"{"code":"unauthorized","message":"Bearer s3cret is wrong"}"#);
            assert_eq!(
                (problem.status, problem.code.as_ref()),
                (StatusCode::BAD_GATEWAY, "processing_error")
            );
            assert!(!problem.message.contains("s3cret"));
        }
    }

    #[test]
    fn redirects_and_undefined_statuses_are_502() {
        for status in [101, 301, 302, 304, 307, 308, 600, 999] {
            assert_eq!(refused(status, "{}").status, StatusCode::BAD_GATEWAY, "{status}");
        }
    }

    #[test]
    fn versions_a_merchant_supports_are_told_where_they_are_versions() {
        let problem = refused(
            400,
            r#"{"code":"unsupported_api_version","supported_versions":["2025-09-29","9","2026-04-17"]}"#,
        );
        assert_eq!(problem.supported_versions, [Version::V2026_04_17, Version::V2025_09_29]);
    }

    proptest! {
        #[test]
        fn any_error_body_becomes_a_flat_error(status in 400u16..600, body in any::<Vec<u8>>()) {
            let problem = problem(&answered(status, &body));
            let flat: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
            prop_assert!(flat["type"].is_string() && flat["code"].is_string() && flat["message"].is_string());
        }
    }
}
