//! To which of a merchant's base URLs a request goes.
//!
//! The complete of a claim goes where its record says, and nowhere else. Anything else may go to the next
//! where nothing of it was sent; what is asked about an open claim begins where that is.

use smallvec::SmallVec;

use super::upstreams::Upstreams;
use super::way::Way;
use crate::domain::base_url::BaseUrl;
use crate::domain::session::{Session, ShownAt};
use crate::limit::breaker::{Asked, Standing};
use crate::merchant::Exchange;
use crate::registry::Merchant;

impl Upstreams {
    /// Where a request is tried, the first first.
    pub(super) fn tried_at(&self, merchant: &Merchant, way: &Way, asked: Asked) -> SmallVec<[BaseUrl; 1]> {
        match way {
            Way::Only(url) => std::iter::once(url.clone()).collect(),
            Way::Rather(url) if !self.merchants.urls_of(&merchant.id).contains(url) => {
                self.anywhere(merchant, asked)
            }
            Way::From(url) | Way::Rather(url) => {
                let mut all = self.anywhere(merchant, asked);
                all.retain(|other| other != url);
                all.insert(0, url.clone());
                all
            }
            Way::Any => self.anywhere(merchant, asked),
        }
    }

    /// The merchant's base URLs, those first that are there.
    fn anywhere(&self, merchant: &Merchant, asked: Asked) -> SmallVec<[BaseUrl; 1]> {
        let all = self.merchants.urls_of(&merchant.id);
        if all.len() == 1 || !self.uses_every_url() {
            return all.first().cloned().into_iter().collect();
        }
        let standing = |url: &BaseUrl| self.availability.breakers.standing_at(&merchant.id, url);
        let mut ordered: SmallVec<[BaseUrl; 1]> = all.into();
        ordered.sort_by_key(|url| match standing(url) {
            // Somebody is to find out whether it is back, and no complete.
            Standing::HalfOpen if asked != Asked::Complete => 0,
            Standing::Closed => 1,
            Standing::HalfOpen => 2,
            Standing::Open(_) => 3,
        });
        // What changes something would be lost there; a read finds out.
        let mut number = 0;
        ordered.retain(|url| {
            number += 1;
            number == 1 || asked == Asked::Read || !matches!(standing(url), Standing::Open(_))
        });
        ordered
    }

    /// Where a complete that was not sent may go next.
    pub(super) fn next_for(&self, merchant: &Merchant, tried: &[BaseUrl]) -> Option<BaseUrl> {
        let every = self.tried_at(merchant, &Way::Any, Asked::Complete);
        every.into_iter().find(|url| !tried.contains(url))
    }

    /// Whether more than the first of a merchant's base URLs is used: only where a claim's record can say
    /// where it is.
    pub(super) fn uses_every_url(&self) -> bool {
        self.books.ledger.says_places()
    }

    /// Where a complete of this session goes first: where its total was shown, if that is still one of the
    /// merchant's.
    pub(super) fn begins_at(&self, session: &Session, merchant: &Merchant) -> Option<BaseUrl> {
        let all = self.merchants.urls_of(&merchant.id);
        match &session.places.total {
            Some(url) if self.uses_every_url() => all.contains(url).then(|| url.clone()),
            // Older formats do not say where it was shown.
            Some(_) | None => all.first().filter(|_| all.len() == 1 || !self.uses_every_url()).cloned(),
        }
    }

    /// Whether the total that is known was shown where a complete would go, and that can be asked.
    pub(super) fn can_begin(&self, session: &Session, merchant: &Merchant) -> bool {
        let begins_at = self.begins_at(session, merchant);
        begins_at.is_some_and(|url| !self.availability.is_on_trial(merchant, &url))
    }

    /// Whether it is still one of the merchant's.
    pub(super) fn is_one_of(&self, merchant: &Merchant, url: &BaseUrl) -> bool {
        self.merchants.urls_of(&merchant.id).contains(url)
    }

    /// Where a session's total is to be read: where a claim of it was given up in doubt, if one was, because
    /// its complete begins anew nowhere else.
    pub(super) fn totals_at(&self, session: &Session, merchant: &Merchant) -> Option<BaseUrl> {
        let doubted = session.doubted.as_ref().and(session.places.doubted.as_ref());
        doubted.filter(|url| self.uses_every_url() && self.is_one_of(merchant, url)).cloned()
    }

    /// Where a change of a session goes: where the session was last. Of a request that may have been sent
    /// before nothing goes elsewhere.
    pub(super) fn changes_at(
        &self,
        session: Option<&Session>,
        merchant: &Merchant,
        may_be_sent: bool,
    ) -> Way {
        let all = self.merchants.urls_of(&merchant.id);
        let last = session.and_then(|session| session.places.total.as_ref()).filter(|url| all.contains(url));
        match (last, all.first()) {
            (Some(url), _) | (None, Some(url)) if may_be_sent => Way::Only(url.clone()),
            (Some(url), _) if self.uses_every_url() => Way::Rather(url.clone()),
            (Some(_) | None, _) => Way::Any,
        }
    }

    /// Where the open claim is. Where older formats do not say it is at the first.
    pub(super) fn claim_at(&self, session: &Session, merchant: &Merchant) -> Option<BaseUrl> {
        let first = self.merchants.urls_of(&merchant.id).first();
        session.places.claim.as_ref().or(first).cloned()
    }

    /// Whether this is not the first of the merchant's base URLs: one that is asked in its place may lag
    /// behind it.
    pub(super) fn is_standby(&self, merchant: &Merchant, url: &BaseUrl) -> bool {
        self.merchants.urls_of(&merchant.id).first() != Some(url)
    }

    /// What is shown there, as evidence is weighed.
    pub(super) fn shown_at(&self, merchant: &Merchant, url: BaseUrl) -> ShownAt {
        let all = self.merchants.urls_of(&merchant.id);
        let is_first = all.first() == Some(&url);
        ShownAt { url, is_only: is_first && all.len() == 1, is_first }
    }
}

/// Whether a request may go to the next as well: nothing of it left, or it reads what is not known there
/// yet.
pub(super) fn may_go_on(exchange: &Exchange, asked: Asked) -> bool {
    reached_nobody(exchange) || (asked == Asked::Read && is_lack(exchange))
}

/// Whether an answer says that there is no such session.
pub(super) fn is_lack(exchange: &Exchange) -> bool {
    exchange.answer().is_some_and(|answer| matches!(answer.status.as_u16(), 404 | 410))
}

/// Whether nothing of a request left, because nobody could be reached.
pub(super) const fn reached_nobody(exchange: &Exchange) -> bool {
    match exchange {
        Exchange::NotSent(reason) => reason.is_unreached(),
        Exchange::Answered(_) | Exchange::Lost(_) => false,
    }
}
