//! The closed sets of labels: every word that a counter can be told apart by.
//!
//! Each is at 0 from the start, because the first count of a series that was not there is no rise to
//! Prometheus. A word that is counted and does not stand here ends a debug build, and so a test.

/// What can come of a reload.
pub(super) const RELOADS: [&str; 5] =
    ["applied", "unchanged", "config_invalid", "reload_refused", "reload_unavailable"];

/// What can come of a span.
pub(super) const SPANS: [&str; 3] = ["exported", "not_taken", "lost"];

/// Routes, and what is none.
pub(super) const ROUTES: [&str; 18] = [
    "cart_cancel",
    "cart_create",
    "cart_get",
    "cart_update",
    "checkout_cancel",
    "checkout_complete",
    "checkout_create",
    "checkout_get",
    "checkout_update",
    "delegate_payment",
    "discovery",
    "granted_token",
    "issued_token",
    "jwks",
    "redeem_token",
    "revoke_token",
    "signature_directory",
    "unknown",
];

/// Why what is asked of a merchant can come to nothing. What an operator withheld is no failure.
pub(super) const UPSTREAM_FAILURES: [&str; 36] = [
    "address_forbidden",
    "body_timeout",
    "connect_timeout",
    "connection_failed",
    "connection_refused",
    "credential_refused",
    "dns_timeout",
    "head_timeout",
    "malformed",
    "misplaced",
    "no_stream",
    "not_built",
    "pool_timeout",
    "reset",
    "status_unusable",
    "stream_refused",
    "tls_alert",
    "tls_certificate_expired",
    "tls_certificate_invalid",
    "tls_certificate_not_yet_valid",
    "tls_client_certificate",
    "tls_ended",
    "tls_failed",
    "tls_incompatible",
    "tls_not_spoken",
    "tls_timeout",
    "tls_unknown_issuer",
    "tls_wrong_name",
    "too_large",
    "truncated",
    "undecodable",
    "unreachable",
    "unreadable",
    "unresolved",
    "unwritten",
    "write_timeout",
];

/// Why the gateway refuses a request, operators' among them.
pub(super) const REFUSALS: &[&str] = &[
    "agent_suspended",
    "already_redeemed",
    "amount_exceeds_allowance",
    "amount_exceeds_claim",
    "body_incomplete",
    "body_too_large",
    "body_too_slow",
    "card_suspended",
    "card_testing",
    "cart_not_found",
    "checkout_session_attempts_exceeded",
    "checkout_session_busy",
    "checkout_session_closed",
    "checkout_session_completed",
    "checkout_session_not_found",
    "claim_unknown",
    "content_digest_mismatch",
    "content_digest_unusable",
    "credential_suspended",
    "currency_mismatch",
    "currency_not_allowed",
    "expiry_too_late",
    "handler_unlisted",
    "idempotency_conflict",
    "idempotency_in_flight",
    "idempotency_key_required",
    "invalid_body",
    "invalid_header",
    "invalid_host",
    "invalid_json",
    "key_suspended",
    "merchant_ambiguous",
    "merchant_answer_invalid",
    "merchant_answer_lost",
    "merchant_not_found",
    "merchant_retired",
    "merchant_suspended",
    "merchant_timeout",
    "merchant_unavailable",
    "merchant_unreachable",
    "method_not_allowed",
    "missing_api_version",
    "not_found",
    "operator_role",
    "operator_unauthorized",
    "outcome_unknown",
    "over_agent_ceiling",
    "payments_suspended",
    "processing_error",
    "purchase_order_not_allowed",
    "query_not_allowed",
    "redeemer_not_proven",
    "repeated_declines",
    "risk_signal_blocked",
    "security_codes_unavailable",
    "service_unavailable",
    "shutting_down",
    "signature_algorithm_mismatch",
    "signature_ambiguous",
    "signature_body_not_canonical",
    "signature_component_unsupported",
    "signature_coverage_insufficient",
    "signature_expired",
    "signature_invalid",
    "signature_key_unknown",
    "signature_lifetime_not_accepted",
    "signature_malformed",
    "signature_outside_window",
    "signature_parameter_missing",
    "signature_profile_not_allowed",
    "signature_replayed",
    "signature_required",
    "small_amount_burst",
    "suspensions_unknown",
    "token_attempts_exceeded",
    "token_consumed",
    "token_expired",
    "token_in_use",
    "token_required",
    "token_revoked",
    "token_unknown",
    "too_many_requests",
    "too_many_tokens",
    "too_much_kept",
    "total_unavailable",
    "trailers_not_allowed",
    "unauthorized",
    "unknown_host",
    "unsupported_api_version",
    "unsupported_media_type",
];

/// Agents' signatures: by which profile, and what they were.
pub(super) const SIGNATURES: [[&str; 2]; 9] = [
    ["acp", "absent"],
    ["acp", "invalid"],
    ["acp", "verified"],
    ["acp-bound", "verified"],
    ["none", "absent"],
    ["none", "invalid"],
    ["rfc9421", "absent"],
    ["rfc9421", "invalid"],
    ["rfc9421", "verified"],
];

/// How a signature is computed.
pub(super) const COMPUTED: [&str; 3] = ["alone", "split", "together"];

/// What can happen to a token.
pub(super) const TOKEN_EVENTS: [&str; 5] = ["consumed", "minted", "redeemed", "redeemed_again", "revoked"];

/// What an idempotency key can turn out to be.
pub(super) const KEYS: [&str; 5] = ["conflict", "fresh", "in_flight", "replayed", "resumed"];

/// Whose limit it can be.
pub(super) const LIMITS: [&str; 13] = [
    "address",
    "agent",
    "agent-concurrency",
    "agent-kept-bytes",
    "agent-unsigned",
    "failed-authentication",
    "failed-signature",
    "kept-bytes",
    "merchant",
    "merchant-concurrency",
    "redeem",
    "redeem-concurrency",
    "unfinished-bodies",
];

/// Rules of fraud, and what each can say.
const VERDICTS: [[&str; 2]; 10] = [
    ["agent_ceiling", "deny"],
    ["card_testing", "deny"],
    ["card_testing", "review"],
    ["declines", "deny"],
    ["declines", "review"],
    ["risk_signals", "deny"],
    ["risk_signals", "review"],
    ["shared_card", "review"],
    ["small_amounts", "deny"],
    ["small_amounts", "review"],
];

/// What a fraud rule can say, and whether it counts.
pub(super) fn fraud() -> impl Iterator<Item = [&'static str; 3]> {
    let modes = |[rule, verdict]: [&'static str; 2]| ["enforced", "shadow"].map(|mode| [rule, verdict, mode]);
    VERDICTS.into_iter().flat_map(modes)
}

/// What can come of a claim.
pub(super) const CLAIMS: [&str; 6] = ["charged", "charged_late", "in_doubt", "pending", "released", "stale"];

/// What a merchant can say twice.
pub(super) const SECOND_ANSWERS: [&str; 2] = ["answer", "order"];

/// How a session can contradict ACP.
pub(super) const SESSION_FAULTS: [&str; 2] = ["authentication_metadata_missing", "option_not_offered"];

/// What connections speak.
pub(super) const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// The bounds a connection can meet.
pub(super) const CONNECTIONS_REFUSED: [&str; 5] = ["address", "all", "network", "rate", "resources"];

/// What a connection can hold that others need.
pub(super) const CONNECTIONS_EVICTED: [&str; 2] = ["quiet", "unread"];

/// Why a handshake can fail.
pub(super) const HANDSHAKES: [&str; 8] =
    ["alert", "alpn", "certificate", "closed", "incompatible", "malformed", "other", "timeout"];

/// What can be wrong with a PROXY header.
pub(super) const PROXY_ERRORS: [&str; 3] = ["closed", "malformed", "missing"];

/// What is asked of a store.
const STORE_OPERATIONS: [&str; 3] = ["commit", "read", "sweep"];
/// What can come of that.
const STORE_OUTCOMES: [&str; 6] = ["changed", "corrupt", "no_space", "ok", "unacknowledged", "unavailable"];

/// What is asked of a store, and what can come of it.
pub(super) fn store_operations() -> impl Iterator<Item = [&'static str; 2]> {
    let outcomes = |operation| STORE_OUTCOMES.map(|outcome| [operation, outcome]);
    let of_their_own =
        [["commit", "conflict"], ["register", "ok"], ["register", "too_old"], ["register", "unavailable"]];
    STORE_OPERATIONS.into_iter().flat_map(outcomes).chain(of_their_own)
}
