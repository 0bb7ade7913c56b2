//! Where a request may go, and where it went.

use crate::domain::base_url::BaseUrl;
use crate::domain::session::{Ending, Session, ShownAt};
use crate::merchant::Exchange;

/// Where a request may go.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// To any, one after the other as long as nothing of it was sent.
    Any,
    /// There first, where the merchant is still, and then to any.
    Rather(BaseUrl),
    /// There first, also where the merchant is no more, and then to any.
    From(BaseUrl),
    /// There and nowhere else, also where the merchant is no more.
    Only(BaseUrl),
}

impl Way {
    /// Of what is asked about a session.
    pub(super) fn of(session: &Session) -> Self {
        let Some(url) = &session.places.claim else { return Self::Any };
        if session.claim.is_some() {
            Self::From(url.clone())
        } else if matches!(session.ending, Some(Ending::Charged { .. })) {
            // What has an order shows it there first, and elsewhere sooner or later.
            Self::Rather(url.clone())
        } else {
            Self::Any
        }
    }
}

/// What became of a request, and where.
pub(super) struct Reached {
    pub exchange: Exchange,
    pub shown_at: ShownAt,
}

impl Reached {
    /// Of one that was never sent anywhere.
    pub(super) fn nowhere(exchange: Exchange) -> Self {
        Self { exchange, shown_at: ShownAt { url: BaseUrl::new(""), is_only: false, is_first: false } }
    }
}
