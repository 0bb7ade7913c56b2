//! What goes back to the caller, and the headers every answer carries.

use std::sync::Arc;

use bytes::Bytes;
use byteview::StrView;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::refusal::{Internal, Refusal};
use crate::acp::header::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, IdempotencyKey, REQUEST_ID};
use crate::acp::problem::{ErrorDialect, Problem};
use crate::idempotency::{NotKept, Operation, StoredAnswer};
use crate::limit::Quota;
use crate::merchant::{self, Exchange, InvalidAnswer, NotPassed};
use crate::structured_fields::Lines;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer before the headers that all answers share.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The word for logs: what was decided.
    pub decision: &'static str,
}

impl Reply {
    /// A JSON answer of ours.
    pub(super) fn json(
        status: StatusCode,
        body: &impl Serialize,
        decision: &'static str,
    ) -> Result<Self, Refusal> {
        let body = serde_json::to_vec(body).map_err(|_| Refusal::Internal(Internal::NotWritten))?;
        Ok(Self::bytes(status, JSON, body.into(), decision))
    }

    /// Bytes of a media type.
    pub(super) fn bytes(
        status: StatusCode,
        media_type: HeaderValue,
        body: Bytes,
        decision: &'static str,
    ) -> Self {
        // Room for all that every answer carries, and for `Date`.
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(CONTENT_TYPE, media_type);
        Self { status, headers, body, decision }
    }

    /// An error in ACP's flat form.
    pub(super) fn problem(problem: &Problem, decision: &'static str) -> Self {
        let mut reply = Self::bytes(problem.status, JSON, problem.body(), decision);
        if let Some(seconds) = problem.retry_after {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }

    /// A refusal as the caller sees it.
    pub(super) fn refusal(refusal: &Refusal, dialect: ErrorDialect) -> Self {
        let mut reply = Self::problem(&refusal.problem().in_dialect(dialect), refusal.reason());
        if let Refusal::MethodNotAllowed(allow) = refusal {
            reply.headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        // What is left of the body is not waited for, so HTTP/1.1 ends here and must say so: the
        // next request would be lost (RFC 9112 §9.6). HTTP/2 knows no such header and gets none.
        if matches!(refusal, Refusal::TooLarge | Refusal::TooSlow | Refusal::Broken) {
            reply.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    /// A merchant's answer as the agent sees it.
    ///
    /// # Errors
    /// [`Refusal::NotSent`], [`Refusal::Lost`] or [`Refusal::MerchantAnswer`] when the merchant gave no
    /// answer: nothing of it can be kept.
    pub(super) fn relayed(exchange: &Exchange) -> Result<Self, Refusal> {
        let answer = match exchange {
            Exchange::NotSent(reason) => return Err(Refusal::NotSent(*reason)),
            Exchange::Lost(reason) => return Err(Refusal::Lost(*reason)),
            Exchange::Answered(answer) if merchant::is_not_the_merchants(answer) => {
                return Err(Refusal::MerchantAnswer(InvalidAnswer::NotTheMerchants));
            }
            Exchange::Answered(answer) => answer,
        };
        Ok(match merchant::relay(answer) {
            Ok(passed) => {
                let mut reply = Self::bytes(passed.status, JSON, passed.body, "relayed");
                reply.headers.extend(passed.headers);
                reply
            }
            // Only checkout and carts are forwarded.
            Err(NotPassed { problem, ours }) => {
                Self::problem(&problem.in_dialect(ErrorDialect::Checkout), ours.unwrap_or("relayed"))
            }
        })
    }

    /// The same, where more was decided than to pass an answer on.
    #[must_use]
    pub(super) fn decided(self, decision: &'static str) -> Self {
        Self { decision, ..self }
    }

    /// Seals it, to be kept against the key of its operation. `None` where it is not kept.
    pub(super) fn seal(&self, operation: &Operation) -> Result<Option<StoredAnswer>, NotKept> {
        operation.seal_answer(self.status, self.content_type(), &self.body)
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Marks a replay (rfc.agentic_checkout §6.3).
    #[must_use]
    pub(super) fn replayed(self) -> Self {
        self.with(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))
    }

    /// The media type, as text.
    fn content_type(&self) -> Option<StrView> {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(StrView::new)
    }
}

/// What is echoed to the caller whatever the answer is.
pub(super) struct ResponseHead {
    pub request_id: Arc<str>,
    pub idempotency_key: Option<IdempotencyKey>,
    pub quota: Option<Quota>,
    pub dialect: ErrorDialect,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl ResponseHead {
    /// The HTTP response.
    pub(super) fn respond(&self, reply: Reply) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(reply.body));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        *headers = reply.headers;
        let mut lines = Lines::with_capacity(256);
        // All of it is visible ASCII: what the agent sent as an id or key was read as that.
        let _ = lines.add_text(REQUEST_ID, &self.request_id);
        if let Some(key) = &self.idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, key.as_value().clone());
        }
        if let Some(quota) = &self.quota {
            let _ = lines.add(RATE_LIMIT, |out| quota.append_rate_limit(out));
            let _ = lines.add(RATE_LIMIT_POLICY, |out| quota.append_policy(out));
        }
        let _ = lines.put(headers);
        // Sessions and tokens belong to one agent: nothing on the way may keep them.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}
