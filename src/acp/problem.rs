//! A refusal as ACP writes it: one flat JSON object `{type, code, message, param?}`.
//!
//! rfc.agentic_checkout §3.1 and rfc.delegate_payment §2.6 say so; which of the two dialects of it is
//! written depends on the route (`src/acp/README.md`, "Errors").

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::header::HeaderError;
use super::version::Version;
use super::wire::{Fault, Mistakes, WireError};

/// A refusal on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The category.
    pub kind: ProblemKind,
    /// What went wrong, stable, for programs.
    pub code: Cow<'static, str>,
    /// What went wrong, for people. Never holds a caller's bytes.
    pub message: Cow<'static, str>,
    /// Which part of the body, as an RFC 9535 JSONPath beginning with `$`.
    pub param: Option<String>,
    /// On version errors: what would be accepted, newest first.
    pub supported_versions: Vec<Version>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
}

/// ACP's error categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request is at fault.
    InvalidRequest,
    /// Too many requests; exists only in the delegate_payment dialect.
    RateLimitExceeded,
    /// We or the merchant failed.
    ProcessingError,
    /// Not now.
    ServiceUnavailable,
}

/// ACP has two error schemas; which one depends on the route ([`super::route::Route::error_dialect`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorDialect {
    /// Checkout, carts and our own routes: free codes, no category for rate limits.
    Checkout,
    /// delegate_payment: a closed list of codes, and a category for rate limits.
    DelegatePayment,
}

/// Codes the delegate_payment dialect may carry: its schema's in 2026-04-17, then the four extras
/// that its closed list has no word for (`src/acp/README.md`, "Errors").
pub const DELEGATE_PAYMENT_CODES: [&str; 10] = [
    "invalid_card",
    "duplicate_request",
    "idempotency_conflict",
    "too_many_requests",
    "idempotency_key_required",
    "idempotency_in_flight",
    "unauthorized",
    "processing_error",
    "service_unavailable",
    "unsupported_api_version",
];

impl Problem {
    /// A refusal with everything said.
    pub fn new(
        status: StatusCode,
        kind: ProblemKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind,
            code: code.into(),
            message: message.into(),
            param: None,
            supported_versions: Vec::new(),
            retry_after: None,
        }
    }

    /// The request is at fault.
    pub fn invalid_request(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(status, ProblemKind::InvalidRequest, code, message)
    }

    /// What a refused head is answered with. `supported`: the versions served here, in any order.
    pub fn of_header(error: HeaderError, supported: impl IntoIterator<Item = Version>) -> Self {
        let invalid = |message| Self::invalid_request(StatusCode::BAD_REQUEST, "invalid_header", message);
        let unsupported = |message| {
            Self::invalid_request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
        };
        match error {
            HeaderError::Repeated(_) => {
                invalid("Authorization, API-Version, Timestamp and Signature may each stand only once.")
            }
            HeaderError::MalformedAuthorization => Self::unauthorized(),
            HeaderError::UnsupportedVersion => Self::unsupported_version(supported),
            HeaderError::InvalidIdempotencyKey => Self::idempotency_key_required(),
            HeaderError::UnsupportedMediaType => unsupported("The body must be application/json in UTF-8."),
            HeaderError::UnsupportedEncoding => unsupported("The body must not have a Content-Encoding."),
        }
    }

    /// What a refused body is answered with: 400 for its shape, 422 for its meaning
    /// (`src/acp/README.md`, "Errors"). delegate_payment's schema has one code for all of it, which
    /// [`Self::in_dialect`] sets.
    pub fn of_body(error: WireError) -> Self {
        let status = match error.fault {
            Fault::Structural => StatusCode::BAD_REQUEST,
            Fault::Semantic => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::invalid_request(status, "invalid_body", error.message).with_param(error.param)
    }

    /// All that is wrong with a body. ACP's error has no member for more than one mistake and allows no
    /// others, so what the first leaves to say stands behind its message.
    pub fn of_mistakes(mistakes: Mistakes) -> Self {
        let Mistakes { first, more, cut } = mistakes;
        let mut problem = Self::of_body(first);
        for WireError { param, message, .. } in &more {
            problem.message.to_mut().push_str(&format!(" Also {param}: {message}"));
        }
        if cut {
            problem.message.to_mut().push_str(" There are more.");
        }
        problem
    }

    /// 401: nobody we know. One code and one message whatever was wrong.
    pub fn unauthorized() -> Self {
        Self::invalid_request(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A valid bearer credential is required.",
        )
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::invalid_request(StatusCode::NOT_FOUND, "not_found", "Nothing is served at this path.")
    }

    /// 400: `API-Version` is missing. `supported` in any order.
    pub fn missing_version(supported: impl IntoIterator<Item = Version>) -> Self {
        Self::invalid_request(
            StatusCode::BAD_REQUEST,
            "missing_api_version",
            "The API-Version header is required.",
        )
        .with_supported_versions(supported)
    }

    /// 400: `API-Version` names a version that is not served here. `supported` in any order.
    pub fn unsupported_version(supported: impl IntoIterator<Item = Version>) -> Self {
        Self::invalid_request(
            StatusCode::BAD_REQUEST,
            "unsupported_api_version",
            "This API-Version is not supported.",
        )
        .with_supported_versions(supported)
    }

    /// 400: the key is missing or unusable (rfc.agentic_checkout §6.1).
    pub fn idempotency_key_required() -> Self {
        Self::invalid_request(
            StatusCode::BAD_REQUEST,
            "idempotency_key_required",
            "One Idempotency-Key header of 1 to 255 visible characters is required.",
        )
    }

    /// The same key with another body: 422, or what [`Version::delegate_conflict_status`] says.
    pub fn idempotency_conflict(status: StatusCode) -> Self {
        Self::invalid_request(
            status,
            "idempotency_conflict",
            "This Idempotency-Key was used with a different request body.",
        )
    }

    /// 409: the first request with this key is still under way (rfc.agentic_checkout §6.4).
    pub fn idempotency_in_flight(retry_after: u32) -> Self {
        Self::invalid_request(
            StatusCode::CONFLICT,
            "idempotency_in_flight",
            "A request with this Idempotency-Key is being processed.",
        )
        .with_retry_after(retry_after)
    }

    /// 429, in whichever words the route's dialect has for it.
    pub fn rate_limited(retry_after: u32) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            ProblemKind::RateLimitExceeded,
            "too_many_requests",
            "Too many requests.",
        )
        .with_retry_after(retry_after)
    }

    /// 503.
    pub fn service_unavailable(retry_after: u32) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ProblemKind::ServiceUnavailable,
            "service_unavailable",
            "The service is temporarily unavailable.",
        )
        .with_retry_after(retry_after)
    }

    /// The same, because as much is kept of earlier requests and answers as may be.
    #[must_use]
    pub fn too_much_kept(self) -> Self {
        let message = "As much is kept of earlier requests as may be; wait until some of it ends.";
        Self { code: Cow::Borrowed("too_much_kept"), message: Cow::Borrowed(message), ..self }
    }

    /// 500, 502 or 504: something behind us failed.
    pub fn processing_error(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, ProblemKind::ProcessingError, "processing_error", message)
    }

    /// Names the offending part. A bare path gets its `$.`.
    #[must_use]
    pub fn with_param(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.param = Some(if path.starts_with('$') { path } else { format!("$.{path}") });
        self
    }

    /// Sets `Retry-After`, in seconds; at least one, so that no one retries at once.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Lists acceptable versions, newest first whatever order they come in.
    #[must_use]
    pub fn with_supported_versions(mut self, supported: impl IntoIterator<Item = Version>) -> Self {
        self.supported_versions = supported.into_iter().collect();
        self.supported_versions.sort_unstable_by(|a, b| b.cmp(a));
        self.supported_versions.dedup();
        self
    }

    /// The same refusal in the words the route's schema allows. Status, message, `param`,
    /// versions and `Retry-After` never change.
    ///
    /// delegate_payment's list of codes is closed and has no general one, so a code outside
    /// [`DELEGATE_PAYMENT_CODES`] becomes the nearest inside: `unauthorized` for a 401,
    /// `invalid_card` for any other fault of the request, with `param` and message saying where.
    #[must_use]
    pub fn in_dialect(mut self, dialect: ErrorDialect) -> Self {
        match dialect {
            ErrorDialect::Checkout => {
                if self.kind == ProblemKind::RateLimitExceeded {
                    self.kind = ProblemKind::InvalidRequest;
                    if self.code == "too_many_requests" {
                        self.code = Cow::Borrowed("rate_limited");
                    }
                }
            }
            ErrorDialect::DelegatePayment => {
                if !DELEGATE_PAYMENT_CODES.contains(&self.code.as_ref()) {
                    self.code = Cow::Borrowed(match self.kind {
                        ProblemKind::InvalidRequest if !self.supported_versions.is_empty() => {
                            "unsupported_api_version"
                        }
                        // A signature that is refused says nothing about the card.
                        ProblemKind::InvalidRequest if self.status == StatusCode::UNAUTHORIZED => {
                            "unauthorized"
                        }
                        ProblemKind::InvalidRequest => "invalid_card",
                        ProblemKind::RateLimitExceeded => "too_many_requests",
                        ProblemKind::ProcessingError => "processing_error",
                        ProblemKind::ServiceUnavailable => "service_unavailable",
                    });
                }
            }
        }
        self
    }

    /// The body: flat JSON, media type `application/json`.
    pub fn body(&self) -> Bytes {
        #[derive(Serialize)]
        struct Flat<'a> {
            r#type: ProblemKind,
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            param: Option<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            supported_versions: Vec<&'static str>,
        }
        let flat = Flat {
            r#type: self.kind,
            code: &self.code,
            message: &self.message,
            param: self.param.as_deref(),
            supported_versions: self.supported_versions.iter().map(|version| version.as_str()).collect(),
        };
        // Strings and enums always serialise.
        serde_json::to_vec(&flat).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&problem.body()).unwrap()
    }

    #[test]
    fn a_body_is_flat_and_says_only_what_is_known() {
        let problem = Problem::invalid_request(StatusCode::BAD_REQUEST, "invalid_card", "Wrong.")
            .with_param("payment_method.number");
        let expected = serde_json::json!({
            "type": "invalid_request", "code": "invalid_card", "message": "Wrong.",
            "param": "$.payment_method.number"
        });
        assert_eq!(json(&problem), expected);
    }

    #[test]
    fn versions_are_listed_newest_first_whatever_order_they_come_in() {
        let problem = Problem::missing_version([Version::V2025_09_29, Version::LATEST, Version::V2026_01_30]);
        let listed = serde_json::json!(["2026-04-17", "2026-01-30", "2025-09-29"]);
        assert_eq!(json(&problem)["supported_versions"], listed);
    }

    #[test]
    fn a_rate_limit_is_said_in_the_words_of_the_route() {
        let said = |dialect| {
            let json = json(&Problem::rate_limited(0).in_dialect(dialect));
            (json["type"].as_str().unwrap().to_owned(), json["code"].as_str().unwrap().to_owned())
        };
        assert_eq!(said(ErrorDialect::Checkout), ("invalid_request".into(), "rate_limited".into()));
        let delegate = ("rate_limit_exceeded".into(), "too_many_requests".into());
        assert_eq!(said(ErrorDialect::DelegatePayment), delegate);
        let merchants = Problem { code: "slow_down".into(), ..Problem::rate_limited(0) };
        assert_eq!(merchants.in_dialect(ErrorDialect::Checkout).code, "slow_down");
        assert_eq!(Problem::rate_limited(0).retry_after, Some(1));
    }

    #[test]
    fn delegate_payment_never_says_a_code_outside_its_list() {
        let cases = [
            (Problem::not_found(), "invalid_card"),
            (Problem::missing_version(Version::NEWEST_FIRST), "unsupported_api_version"),
            (Problem::unauthorized(), "unauthorized"),
            (Problem::invalid_request(StatusCode::UNAUTHORIZED, "signature_invalid", "x"), "unauthorized"),
            (Problem::idempotency_in_flight(1), "idempotency_in_flight"),
            (
                Problem::new(StatusCode::BAD_GATEWAY, ProblemKind::ProcessingError, "x", "y"),
                "processing_error",
            ),
        ];
        for (problem, code) in cases {
            assert_eq!(problem.in_dialect(ErrorDialect::DelegatePayment).code, code);
        }
    }
}
