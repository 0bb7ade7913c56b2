//! Names of the headers a merchant receives that the `http` crate does not know.

use http::HeaderName;

/// ACP's version.
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("api-version");
/// Who asks for what.
pub(super) const COUNTERSIGN_CONTEXT: HeaderName = HeaderName::from_static("countersign-context");
/// The token's grant.
pub(super) const COUNTERSIGN_GRANT: HeaderName = HeaderName::from_static("countersign-grant");
/// ACP's key, here ours.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// ACP's correlation id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// When this was sent (RFC 3339).
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("timestamp");
/// W3C Trace Context.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
