//! How the errors of inner stages become refusals.

use std::borrow::Cow;

use http::StatusCode;

use super::{Internal, Refusal};
use crate::acp::problem::Problem;
use crate::acp::wire::WireError;
use crate::crypto::random::RandomUnavailable;
use crate::domain::session::{ClaimRefusal, Moment, Session};
use crate::idempotency::{BodyError, KeyRefusal, NotKept};
use crate::records::StoreError;
use crate::token::NoKey;

impl Refusal {
    /// A body that cannot be used: 400 for its shape, 422 for its meaning.
    pub(crate) fn of_body(error: &WireError) -> Self {
        Self::Malformed(Box::new(Problem::of_body(error.clone())))
    }
}

impl Refusal {
    /// The store failed after the merchant had answered: something was done, and a retry finds it.
    pub(crate) const fn unrecorded(_: StoreError) -> Self {
        Self::Store(StoreError::Unacknowledged)
    }

    /// A claim that cannot begin on this session.
    pub(crate) fn of_claim(refusal: ClaimRefusal, session: &Session, moment: Moment) -> Self {
        match refusal {
            ClaimRefusal::SessionBusy => Self::SessionBusy(session.busy_for(moment)),
            refusal => Self::Claim(refusal),
        }
    }

    /// A key that is not taken. `conflict` is the status of another body under it.
    pub(crate) const fn of_key(refusal: KeyRefusal, conflict: StatusCode) -> Self {
        match refusal {
            KeyRefusal::InFlight => Self::KeyInFlight,
            KeyRefusal::Conflict => Self::KeyConflict { status: conflict },
        }
    }
}

impl From<KeyRefusal> for Refusal {
    fn from(refusal: KeyRefusal) -> Self {
        Self::of_key(refusal, StatusCode::UNPROCESSABLE_ENTITY)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let (code, message) = match error {
            BodyError::Json(error) => {
                ("invalid_json", format!("The request body is not acceptable JSON: {error}.").into())
            }
            BodyError::NotAnObject => ("invalid_body", Cow::Borrowed("The body must be one JSON object.")),
        };
        let problem = Problem::invalid_request(StatusCode::BAD_REQUEST, code, message).with_param("$");
        Self::Malformed(Box::new(problem))
    }
}

impl From<NotKept> for Refusal {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Unsealed(error) => Self::Internal(Internal::NotSealed(error)),
            NotKept::RequestUnopened(error) => Self::Internal(Internal::RequestUnopened(error)),
            NotKept::AnswerUnopened(error) => Self::Internal(Internal::AnswerUnopened(error)),
            NotKept::AnswerUnusable => Self::Internal(Internal::AnswerUnusable),
            NotKept::Damaged(error) => Self::Store(error),
        }
    }
}

impl From<RandomUnavailable> for Refusal {
    fn from(RandomUnavailable: RandomUnavailable) -> Self {
        Self::Internal(Internal::NoRandomness)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<NoKey> for Refusal {
    fn from(error: NoKey) -> Self {
        match error {
            NoKey::Unavailable => Self::Store(StoreError::Unavailable),
            NoKey::ServersUnusable => Self::SecurityCodesUnavailable,
        }
    }
}

impl From<ClaimRefusal> for Refusal {
    fn from(refusal: ClaimRefusal) -> Self {
        Self::Claim(refusal)
    }
}
