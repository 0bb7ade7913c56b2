//! The reason of every refusal, one stable word each: an error's code, and what logs and metrics say.

use std::borrow::Cow;
use std::time::Duration;

use super::Refusal;
use crate::acp::header::HeaderError;
use crate::domain::session::{ClaimRefusal, RedeemRefusal, RevokeRefusal};
use crate::limit::Limited;
use crate::merchant::Lost;
use crate::records::StoreError;

impl Refusal {
    /// The reason in logs and metrics: the error's own code, before the route's dialect.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(problem) => match problem.code {
                Cow::Borrowed(code) => code,
                // Only a merchant's errors have codes that are not ours.
                Cow::Owned(_) => "refused",
            },
            Self::MerchantUnknown => "merchant_not_found",
            Self::Version(_) => "unsupported_api_version",
            Self::MissingVersion(_) => "missing_api_version",
            Self::Header(error) => of_header(*error),
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Misdirected => "unknown_host",
            Self::Unauthenticated => "unauthorized",
            Self::Signature(error) => error.code(),
            Self::RedeemerNotProven => "redeemer_not_proven",
            Self::Replayed => "signature_replayed",
            Self::Limited(limited) => of_limit(limited),
            Self::Draining => "shutting_down",
            Self::TooLarge => "body_too_large",
            Self::TooSlow => "body_too_slow",
            Self::Broken => "body_incomplete",
            Self::SessionUnknown => "checkout_session_not_found",
            Self::CartUnknown => "cart_not_found",
            Self::SessionBusy(_) => "checkout_session_busy",
            Self::TokenUnknown => "token_unknown",
            Self::TokenMissing => "token_required",
            Self::OutcomeUnknown(_) | Self::Store(StoreError::Unacknowledged) => "outcome_unknown",
            Self::Claim(refusal) => of_claim(*refusal),
            Self::Redeem(refusal) => of_redeem(*refusal),
            Self::Revoke(refusal) => of_revoke(*refusal),
            Self::KeyRequired => "idempotency_key_required",
            Self::KeyConflict { .. } => "idempotency_conflict",
            Self::KeyInFlight => "idempotency_in_flight",
            Self::Fraud(denied) => denied.by.code,
            Self::TooManyTokens => "too_many_tokens",
            Self::Store(
                StoreError::Unavailable | StoreError::NoSpace | StoreError::Corrupt | StoreError::Changed,
            ) => "service_unavailable",
            Self::MerchantUnavailable(_) => "merchant_unavailable",
            Self::NotSent(_) => "merchant_unreachable",
            Self::Lost(Lost::Timeout | Lost::SlowBody) => "merchant_timeout",
            Self::Lost(Lost::Misplaced) | Self::MerchantAnswer(_) | Self::OwnershipConflict => {
                "merchant_answer_invalid"
            }
            Self::Lost(
                Lost::Reset
                | Lost::Alerted(_)
                | Lost::Malformed
                | Lost::Truncated
                | Lost::TooLarge
                | Lost::Undecodable,
            ) => "merchant_answer_lost",
            Self::Suspended(stopped) => stopped.code(),
            Self::MerchantRetired => "merchant_retired",
            Self::SuspensionsUnknown => "suspensions_unknown",
            Self::SecurityCodesUnavailable => "security_codes_unavailable",
            Self::Internal(_) => "processing_error",
        }
    }
}

const fn of_header(error: HeaderError) -> &'static str {
    match error {
        HeaderError::Repeated(_) => "invalid_header",
        HeaderError::MalformedAuthorization => "unauthorized",
        HeaderError::UnsupportedVersion => "unsupported_api_version",
        HeaderError::InvalidIdempotencyKey => "idempotency_key_required",
        HeaderError::UnsupportedMediaType | HeaderError::UnsupportedEncoding => "unsupported_media_type",
    }
}

const fn of_limit(limited: &Limited) -> &'static str {
    if limited.scope.is_about_what_is_kept() {
        "too_much_kept"
    } else if limited.scope.is_callers_doing() {
        "too_many_requests"
    } else {
        "service_unavailable"
    }
}

fn of_claim(refusal: ClaimRefusal) -> &'static str {
    match refusal {
        ClaimRefusal::SessionBusy => Refusal::SessionBusy(Duration::ZERO).reason(),
        ClaimRefusal::AlreadyCharged => "checkout_session_completed",
        ClaimRefusal::SessionClosed => "checkout_session_closed",
        ClaimRefusal::AtWork { wait } => Refusal::OutcomeUnknown(wait).reason(),
        ClaimRefusal::TotalUnknown => "total_unavailable",
        ClaimRefusal::TokenElsewhere => Refusal::TokenUnknown.reason(),
        ClaimRefusal::TokenExpired => "token_expired",
        ClaimRefusal::TokenRevoked => "token_revoked",
        ClaimRefusal::TokenWornOut => "token_attempts_exceeded",
        ClaimRefusal::HandlerUnlisted => "handler_unlisted",
        ClaimRefusal::SessionWornOut => "checkout_session_attempts_exceeded",
        ClaimRefusal::TokenConsumed => "token_consumed",
        ClaimRefusal::TokenClaimed => "token_in_use",
        ClaimRefusal::OverCap => "amount_exceeds_allowance",
        ClaimRefusal::CurrencyMismatch => "currency_mismatch",
        ClaimRefusal::PaymentDue => Refusal::TokenMissing.reason(),
        ClaimRefusal::PurchaseOrderRefused => "purchase_order_not_allowed",
    }
}

const fn of_redeem(refusal: RedeemRefusal) -> &'static str {
    match refusal {
        RedeemRefusal::NoSuchClaim => "claim_unknown",
        RedeemRefusal::Gone | RedeemRefusal::AlreadyExposed => "already_redeemed",
        RedeemRefusal::Revoking => "token_revoked",
        RedeemRefusal::Expired => "token_expired",
        RedeemRefusal::OverChecked => "amount_exceeds_claim",
        RedeemRefusal::CurrencyMismatch => "currency_mismatch",
    }
}

const fn of_revoke(refusal: RevokeRefusal) -> &'static str {
    match refusal {
        RevokeRefusal::Consumed => "token_consumed",
        RevokeRefusal::InUse => "token_in_use",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acp::version::Version;
    use crate::limit::LimitScope;

    /// The errors that are worded elsewhere, with codes of their own.
    #[test]
    fn the_reason_is_the_code_of_the_error_the_caller_gets() {
        let limited = |scope| Refusal::Limited(Limited { scope, retry_after_seconds: 1, quota: None });
        let headers = [
            HeaderError::Repeated("timestamp"),
            HeaderError::MalformedAuthorization,
            HeaderError::UnsupportedVersion,
            HeaderError::InvalidIdempotencyKey,
            HeaderError::UnsupportedMediaType,
            HeaderError::UnsupportedEncoding,
        ];
        let conflict = http::StatusCode::UNPROCESSABLE_ENTITY;
        let others = [
            Refusal::Version(vec![Version::LATEST]),
            Refusal::MissingVersion(vec![Version::LATEST]),
            Refusal::NotFound,
            Refusal::Unauthenticated,
            Refusal::KeyRequired,
            Refusal::KeyConflict { status: conflict },
            Refusal::KeyInFlight,
            Refusal::Malformed(Box::new(crate::acp::problem::Problem::not_found())),
        ];
        let all = LimitScope::ALL.map(limited).into_iter().chain(headers.map(Refusal::Header)).chain(others);
        for refusal in all {
            assert_eq!(refusal.reason(), refusal.problem().code, "{refusal:?}");
        }
    }
}
