//! What goes back to the agent: JSON byte for byte, or a flat ACP error, cleaned.
//!
//! A success byte for byte when it is JSON, anything else as a flat ACP error, cleaned. Nothing of a
//! merchant's answer reaches an agent past this file.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::envelope::{Described, read_error};
use super::exchange::Answer;
use super::scrub::scrub;
use crate::acp::problem::{Problem, ProblemKind};
use crate::acp::version::Version;
use crate::acp::wire::write_only::strip_write_only;

/// A merchant's success on its way to the agent, as `application/json`.
#[derive(Clone, PartialEq, Eq)]
pub struct Passed {
    /// The merchant's status, 2xx.
    pub status: StatusCode,
    /// The allowed headers, `Content-Type` not among them.
    pub headers: HeaderMap,
    /// The body, byte for byte, unless it held what only agents may write.
    pub body: Bytes,
}

impl fmt::Debug for Passed {
    /// Status and length, as for the answer it was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.len();
        f.debug_struct("Passed").field("status", &self.status).field("bytes", &bytes).finish_non_exhaustive()
    }
}

/// The flat error in place of what is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPassed {
    /// The error.
    pub problem: Box<Problem>,
    /// The word for the log where the error is ours and not the merchant's.
    pub ours: Option<&'static str>,
}

impl NotPassed {
    fn ours(problem: Problem, word: &'static str) -> Self {
        Self { problem: Box::new(problem), ours: Some(word) }
    }
}

/// What the agent is told of an answer. A complete that is in doubt, and that there is no answer, are
/// for the gateway to word.
///
/// # Errors
/// The flat error in place of everything that is not a JSON success.
pub fn relay(answer: &Answer) -> Result<Passed, NotPassed> {
    let ours = |message: Cow<'static, str>, word| Err(NotPassed::ours(bad_gateway(message), word));
    match answer.status.as_u16() {
        200..=299 if answer.is_json() => {
            let Some(body) = strip_write_only(answer.body.clone()) else {
                return ours("The merchant's answer could not be read.".into(), "merchant_answer_unreadable");
            };
            Ok(Passed { status: answer.status, headers: answer.headers.clone(), body })
        }
        // It is our credential that was refused, not the agent's.
        401 | 403 | 407 => {
            ours("The merchant refused the gateway's own credential.".into(), "merchant_refused_gateway")
        }
        400..=599 => Err(NotPassed { problem: Box::new(described(answer)), ours: None }),
        200..=299 => ours("The merchant's answer is not JSON.".into(), "merchant_answer_not_json"),
        status => {
            let message = format!("The merchant answered with status {status}, which is not passed on.");
            ours(message.into(), "merchant_status_unusable")
        }
    }
}

fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Problem {
    Problem::processing_error(StatusCode::BAD_GATEWAY, message)
}

/// A merchant's error: its status, and of its text what can be read, cleaned.
fn described(answer: &Answer) -> Problem {
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
    match answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()) {
        Some(seconds) => problem.with_retry_after(seconds),
        None => problem,
    }
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
pub(super) fn clean_code(code: &str) -> Option<String> {
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
        let status = StatusCode::from_u16(status).unwrap();
        Answer::new(status, None, headers, Bytes::copy_from_slice(body), Duration::ZERO)
    }

    fn refused(status: u16, body: &str) -> Problem {
        *relay(&answered(status, body.as_bytes())).unwrap_err().problem
    }

    #[test]
    fn a_json_success_passes_byte_for_byte() {
        let body = b" {\"b\":1.0,\"a\":null, \"number\":\"4242424242424242\"}\n";
        let passed = relay(&answered(201, body)).unwrap();
        assert_eq!((passed.status, &passed.body[..]), (StatusCode::CREATED, &body[..]));
    }

    #[test]
    fn no_printed_form_shows_a_body() {
        let answer = answered(200, b"\"4242424242424242\"");
        let printed = format!("{answer:?} {:?}", relay(&answer));
        assert!(!printed.contains("4242") && printed.contains("200"), "{printed}");
    }

    #[test]
    fn what_only_agents_may_write_does_not_come_back() {
        let answer = answered(200, br#"{"id":"cs_1","affiliate_attribution":{"token":"t"}}"#);
        assert_eq!(relay(&answer).unwrap().body, r#"{"id":"cs_1"}"#);
    }

    #[test]
    fn a_success_that_is_not_json_is_502() {
        for body in [&b""[..], b"<html>", b"{", b"{}{}", b"\xff", b"\"\xff\""] {
            let problem = relay(&answered(200, body)).unwrap_err().problem;
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
            let problem = relay(&answered(status, &body)).unwrap_err().problem;
            let flat: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
            prop_assert!(flat["type"].is_string() && flat["code"].is_string() && flat["message"].is_string());
        }
    }
}
