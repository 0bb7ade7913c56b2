//! Every refusal of the gateway, and the one place that says what each looks like.
//!
//! HTTP status, ACP error, metric reason. Inner stages know no HTTP; this match is exhaustive, so a new
//! refusal is a question from the compiler.

mod conversions;
mod internal;
mod merchants;
mod reason;

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

pub(super) use self::internal::Internal;
use super::suspended::Stopped;
use crate::acp::header::HeaderError;
use crate::acp::problem::{Problem, ProblemKind};
use crate::acp::version::Version;
use crate::auth::signature::SignatureRefusal;
use crate::domain::session::{ClaimRefusal, RedeemRefusal, RevokeRefusal};
use crate::fraud::Denied;
use crate::limit::Limited;
use crate::merchant::{InvalidAnswer, Lost, NotSent};
use crate::records::StoreError;

/// Why a request was not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An agent that may not use this merchant, or a merchant that does not exist: one answer.
    MerchantUnknown,
    /// `API-Version` is none of those that are served there.
    Version(Vec<Version>),
    /// No `API-Version` header, where one of these is served.
    MissingVersion(Vec<Version>),
    /// The head cannot be used.
    Header(HeaderError),
    /// Anything that was read from head or body and found wanting, with its own description.
    Malformed(Box<Problem>),
    /// No such path.
    NotFound,
    /// No such method on this path.
    MethodNotAllowed(&'static str),
    /// Not an authority of ours.
    Misdirected,
    /// No credential, or an unknown one.
    Unauthenticated,
    /// The signature policy was not met.
    Signature(SignatureRefusal),
    /// A redeemer's credential without the proof configured for it.
    RedeemerNotProven,
    /// The same signature was used for another request.
    Replayed,
    /// A rate or concurrency limit.
    Limited(Limited),
    /// The gateway is shutting down.
    Draining,
    /// Body too large.
    TooLarge,
    /// Body too slow.
    TooSlow,
    /// The client went away while it was sending.
    Broken,
    /// The session does not exist for this agent.
    SessionUnknown,
    /// The cart does not exist for this agent.
    CartUnknown,
    /// Another operation on the session is under way, and will be for so long, as far as is known.
    SessionBusy(Duration),
    /// The token does not exist for this agent.
    TokenUnknown,
    /// Complete without a token, where one is needed.
    TokenMissing,
    /// A claim cannot begin.
    Claim(ClaimRefusal),
    /// A card does not leave.
    Redeem(RedeemRefusal),
    /// A token cannot be revoked.
    Revoke(RevokeRefusal),
    /// The idempotency key is needed and absent.
    KeyRequired,
    /// The key was used for another body.
    KeyConflict {
        /// 422, or 409 on `delegate_payment` before 2026-04-17.
        status: StatusCode,
    },
    /// The key's operation is under way.
    KeyInFlight,
    /// The outcome of the key's operation is not known yet, nor will be for so long, as far as is known.
    OutcomeUnknown(Duration),
    /// The fraud rules deny it.
    Fraud(Denied),
    /// As many live tokens as allowed.
    TooManyTokens,
    /// The store cannot answer.
    Store(StoreError),
    /// What is sent to the merchant now would be lost; more may be known after so long.
    MerchantUnavailable(Duration),
    /// Certainly nothing of the request reached the merchant.
    NotSent(NotSent),
    /// Bytes may have left and no whole answer came.
    Lost(Lost),
    /// The merchant's answer cannot be used.
    MerchantAnswer(InvalidAnswer),
    /// The merchant answered with an id that belongs to another agent.
    OwnershipConflict,
    /// An operator has stopped it; why is not told.
    Suspended(Stopped),
    /// The merchant takes no new purchases.
    MerchantRetired,
    /// Nobody knows what operators have stopped.
    SuspensionsUnknown,
    /// The servers that hold the keys of security codes do not answer, or may not be used.
    SecurityCodesUnavailable,
    /// Something of ours failed.
    Internal(Internal),
}

/// Seconds an agent should wait where only time helps.
const SHORT_WAIT: u32 = 1;
/// Seconds to wait for a token to end.
const TOKEN_WAIT: u32 = 5;

impl Refusal {
    /// The ACP error, before the route's dialect ([`Problem::in_dialect`]).
    pub(super) fn problem(&self) -> Problem {
        use StatusCode as S;
        let code = self.reason();
        match self {
            Self::Malformed(problem) => (**problem).clone(),
            Self::MerchantUnknown => invalid(S::NOT_FOUND, code, "There is no such merchant for this agent."),
            Self::Version(accepted) => Problem::unsupported_version(accepted.iter().copied()),
            Self::MissingVersion(accepted) => Problem::missing_version(accepted.iter().copied()),
            Self::Header(error) => Problem::of_header(*error, Version::NEWEST_FIRST),
            Self::NotFound => Problem::not_found(),
            Self::MethodNotAllowed(_) => {
                invalid(S::METHOD_NOT_ALLOWED, code, "This path does not take this method.")
            }
            Self::Misdirected => invalid(S::MISDIRECTED_REQUEST, code, "This host is not served here."),
            Self::Unauthenticated => Problem::unauthorized(),
            // Which rule was broken, and by what, helps the owner of the key and nobody else.
            Self::Signature(error) => Problem::invalid_request(
                S::UNAUTHORIZED,
                code,
                format!("The request signature was not accepted: {error}."),
            ),
            Self::RedeemerNotProven => invalid(
                S::UNAUTHORIZED,
                code,
                "The credential is not accepted from here: see the redeemer's configured proof.",
            ),
            Self::Replayed => {
                invalid(S::UNAUTHORIZED, code, "This signature was already used for another request.")
            }
            Self::Limited(limited) => limited_problem(limited),
            Self::Draining => unavailable(code, "The gateway is shutting down; try again.", SHORT_WAIT),
            Self::TooLarge => invalid(S::PAYLOAD_TOO_LARGE, code, "The request body is too large."),
            Self::TooSlow => invalid(S::REQUEST_TIMEOUT, code, "The request body did not arrive in time."),
            Self::Broken => invalid(S::BAD_REQUEST, code, "The request body did not arrive whole."),
            Self::SessionUnknown => invalid(S::NOT_FOUND, code, "There is no such checkout session."),
            Self::CartUnknown => invalid(S::NOT_FOUND, code, "There is no such cart."),
            Self::SessionBusy(wait) => {
                invalid(S::CONFLICT, code, "Another operation on this checkout session is under way.")
                    .with_retry_after(seconds(*wait))
            }
            Self::TokenUnknown => {
                invalid(S::UNPROCESSABLE_ENTITY, code, "There is no such token for this checkout session.")
            }
            Self::TokenMissing => invalid(
                S::UNPROCESSABLE_ENTITY,
                code,
                "A payment token minted here is required to complete. Without payment_data only a total of zero \
                 completes, at merchants whose entry here allows free orders.",
            ),
            Self::Claim(refusal) => claim_problem(*refusal, code),
            Self::Redeem(refusal) => redeem_problem(*refusal, code),
            Self::Revoke(refusal) => revoke_problem(*refusal, code),
            Self::KeyRequired => Problem::idempotency_key_required(),
            Self::KeyConflict { status } => Problem::idempotency_conflict(*status),
            Self::KeyInFlight => Problem::idempotency_in_flight(SHORT_WAIT),
            Self::OutcomeUnknown(wait) => unavailable(
                code,
                "The merchant has not confirmed the outcome of this request; repeat it with the same Idempotency-Key.",
                seconds(*wait),
            ),
            Self::Fraud(_) => invalid(S::FORBIDDEN, code, "The request was declined by risk rules."),
            Self::TooManyTokens => Problem::new(
                S::TOO_MANY_REQUESTS,
                ProblemKind::RateLimitExceeded,
                code,
                "There are as many unspent tokens as allowed; spend, revoke or let one expire.",
            )
            .with_retry_after(TOKEN_WAIT),
            Self::Store(StoreError::Unacknowledged) => unavailable(
                code,
                "The gateway could not confirm that this was recorded; repeat it with the same Idempotency-Key.",
                SHORT_WAIT,
            ),
            Self::Store(
                StoreError::Unavailable | StoreError::NoSpace | StoreError::Corrupt | StoreError::Changed,
            ) => {
                unavailable(code, "The gateway cannot record this safely now; nothing was done.", SHORT_WAIT)
            }
            Self::MerchantUnavailable(wait) => unavailable(
                code,
                "The merchant does not answer now, and nothing new is sent to it; nothing was done.",
                seconds(*wait),
            ),
            Self::NotSent(reason) => merchants::not_sent(*reason, code),
            Self::Lost(reason) => merchants::lost(*reason, code),
            Self::MerchantAnswer(invalid) => merchants::invalid_answer(*invalid, code),
            Self::OwnershipConflict => merchants::ownership_conflict(code),
            Self::Suspended(_) => {
                invalid(S::FORBIDDEN, code, "This is suspended; what was begun before is finished.")
            }
            Self::MerchantRetired => invalid(
                S::FORBIDDEN,
                code,
                "This merchant takes no new purchases here; what was begun before is finished.",
            ),
            Self::SuspensionsUnknown => unavailable(
                code,
                "The gateway does not know now what is suspended, and begins nothing new; nothing was done.",
                SHORT_WAIT,
            ),
            Self::SecurityCodesUnavailable => unavailable(
                code,
                "The gateway can neither keep nor open security codes now; nothing was done.",
                SHORT_WAIT,
            ),
            Self::Internal(_) => {
                processing(S::INTERNAL_SERVER_ERROR, code, "The gateway could not process this request.")
            }
        }
    }

    /// What of a merchant's answer is no use: a word for the log.
    pub(super) const fn merchant_fault(&self) -> Option<&'static str> {
        match self {
            Self::MerchantAnswer(invalid) => Some(invalid.as_str()),
            _ => None,
        }
    }

    /// Why it is not the caller's doing: a word for the log alone.
    pub(super) const fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Internal(internal) => Some(internal.as_str()),
            Self::NotSent(reason) => Some(reason.as_str()),
            Self::Lost(reason) => Some(reason.as_str()),
            Self::Store(StoreError::Unavailable) => Some("store_unavailable"),
            Self::Store(StoreError::NoSpace) => Some("store_no_space"),
            Self::Store(StoreError::Unacknowledged) => Some("store_unacknowledged"),
            Self::Store(StoreError::Corrupt) => Some("store_corrupt"),
            Self::Store(StoreError::Changed) => Some("store_changed"),
            _ => None,
        }
    }
}

/// A wait in seconds, and at least a short one.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(SHORT_WAIT)
}

fn claim_problem(refusal: ClaimRefusal, code: &'static str) -> Problem {
    use StatusCode as S;
    const TOKEN: &str = "$.payment_data";
    match refusal {
        ClaimRefusal::SessionBusy => Refusal::SessionBusy(Duration::ZERO).problem(),
        ClaimRefusal::AlreadyCharged => {
            invalid(S::CONFLICT, code, "This checkout session is already completed.")
        }
        ClaimRefusal::SessionClosed => {
            invalid(S::CONFLICT, code, "This checkout session was canceled or has expired.")
        }
        ClaimRefusal::AtWork { wait } => Refusal::OutcomeUnknown(wait).problem(),
        ClaimRefusal::TotalUnknown => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "The merchant states no single total for this checkout session.",
        ),
        ClaimRefusal::TokenElsewhere => Refusal::TokenUnknown.problem().with_param(TOKEN),
        ClaimRefusal::TokenExpired => {
            invalid(S::UNPROCESSABLE_ENTITY, code, "The token has expired.").with_param(TOKEN)
        }
        ClaimRefusal::TokenRevoked => {
            invalid(S::UNPROCESSABLE_ENTITY, code, "The token was revoked.").with_param(TOKEN)
        }
        ClaimRefusal::TokenWornOut => {
            invalid(S::UNPROCESSABLE_ENTITY, code, "The token has no attempts left.").with_param(TOKEN)
        }
        ClaimRefusal::SessionWornOut => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "This checkout session has no attempts left; create another.",
        ),
        ClaimRefusal::HandlerUnlisted => {
            let message = "The session lists no payment handler of this id; read the session.";
            invalid(S::UNPROCESSABLE_ENTITY, code, message).with_param("$.payment_data.handler_id")
        }
        ClaimRefusal::TokenConsumed => {
            invalid(S::CONFLICT, code, "The token was already used.").with_param(TOKEN)
        }
        ClaimRefusal::TokenClaimed => invalid(S::CONFLICT, code, "The token is held by another operation.")
            .with_param(TOKEN)
            .with_retry_after(SHORT_WAIT),
        ClaimRefusal::OverCap => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "The total of this checkout session is above the token's maximum amount; mint a new token.",
        ),
        ClaimRefusal::CurrencyMismatch => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "The total of this checkout session is in another currency than the token.",
        ),
        ClaimRefusal::PaymentDue => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "The total of this checkout session is not zero: a payment token minted here is required.",
        ),
        ClaimRefusal::PurchaseOrderRefused => {
            invalid(S::FORBIDDEN, code, "Completing with a purchase order and no token is not allowed here.")
        }
    }
}

fn redeem_problem(refusal: RedeemRefusal, code: &'static str) -> Problem {
    use StatusCode as S;
    match refusal {
        RedeemRefusal::NoSuchClaim => {
            invalid(S::CONFLICT, code, "No complete with this claim is under way for the token.")
                .with_param("$.claim")
        }
        RedeemRefusal::Gone => invalid(S::GONE, code, "The token was already redeemed for this claim."),
        RedeemRefusal::AlreadyExposed => {
            invalid(S::GONE, code, "The card was handed out in an earlier claim of this checkout session.")
        }
        RedeemRefusal::Revoking => invalid(S::CONFLICT, code, "The agent has revoked the token."),
        RedeemRefusal::Expired => invalid(S::CONFLICT, code, "The token has expired."),
        RedeemRefusal::OverChecked => {
            invalid(S::UNPROCESSABLE_ENTITY, code, "The amount is above what was approved for this claim.")
                .with_param("$.amount")
        }
        RedeemRefusal::CurrencyMismatch => invalid(
            S::UNPROCESSABLE_ENTITY,
            code,
            "The currency differs from what was approved for this claim.",
        )
        .with_param("$.currency"),
    }
}

fn revoke_problem(refusal: RevokeRefusal, code: &'static str) -> Problem {
    match refusal {
        RevokeRefusal::Consumed => invalid(StatusCode::CONFLICT, code, "The token was already used."),
        RevokeRefusal::InUse => {
            invalid(StatusCode::CONFLICT, code, "The token's card is in use by the merchant.")
        }
    }
}

fn limited_problem(limited: &Limited) -> Problem {
    let (wait, scope) = (limited.retry_after_seconds, limited.scope);
    let over = if scope.is_callers_doing() { Problem::rate_limited } else { Problem::service_unavailable };
    if scope.is_about_what_is_kept() { over(wait).too_much_kept() } else { over(wait) }
}

fn invalid(status: StatusCode, code: &'static str, message: &'static str) -> Problem {
    Problem::new(status, ProblemKind::InvalidRequest, code, message)
}

fn processing(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(status, ProblemKind::ProcessingError, code, message)
}

fn unavailable(code: &'static str, message: &'static str, retry_after: u32) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemKind::ServiceUnavailable, code, message)
        .with_retry_after(retry_after)
}
