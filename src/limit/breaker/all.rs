//! The breakers of all merchants, one a base URL.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Breaker, Change, LOOK_AFTER, Report, Sign, Slowed, Standing, State};
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::Registry;

/// A breaker a base URL, so that a merchant of which one is down is asked at another.
pub struct Breakers {
    merchants: HashMap<MerchantId, Vec<(BaseUrl, Shared)>>,
}

type Shared = Arc<Mutex<Breaker>>;

impl Breakers {
    /// All closed.
    pub fn new(registry: &Registry) -> Self {
        let breakers = Self { merchants: HashMap::new() }.reloaded(registry);
        breakers.judge_by(registry);
        breakers
    }

    /// Those under a new configuration: who stays stands where it stood. They judge as before until
    /// [`Self::judge_by`] says so.
    #[must_use]
    pub fn reloaded(&self, registry: &Registry) -> Self {
        let merchants = registry
            .merchants()
            .map(|merchant| {
                let known = |url: &BaseUrl| self.at(&merchant.id, url).map(Arc::clone).unwrap_or_default();
                let urls = merchant.endpoint.base_url_texts();
                (merchant.id.clone(), urls.map(|url| (url.clone(), known(&url))).collect())
            })
            .collect();
        Self { merchants }
    }

    /// From now on as these entries say.
    pub fn judge_by(&self, registry: &Registry) {
        for merchant in registry.merchants() {
            let all = registry.agents().filter(|agent| agent.may_use(&merchant.id)).count();
            for (_, breaker) in self.merchants.get(&merchant.id).into_iter().flatten() {
                let breaker = &mut *breaker.lock();
                breaker.settings = merchant.breaker;
                breaker.agents = all.min(usize::try_from(merchant.breaker.agents).unwrap_or(usize::MAX));
            }
        }
    }

    /// How a merchant's best stands.
    pub fn standing(&self, merchant: &MerchantId) -> Standing {
        self.merchants.get(merchant).map_or(Standing::Closed, |urls| best(urls))
    }

    /// How the one of this base URL stands; of one that is not the merchant's any more nothing is known.
    pub fn standing_at(&self, merchant: &MerchantId, url: &BaseUrl) -> Standing {
        self.at(merchant, url).map_or(Standing::Closed, |breaker| breaker.lock().standing())
    }

    /// How every merchant's best stands.
    pub fn standings(&self) -> impl Iterator<Item = (&MerchantId, Standing)> {
        self.merchants.iter().map(|(id, urls)| (id, best(urls)))
    }

    fn at(&self, merchant: &MerchantId, url: &BaseUrl) -> Option<&Shared> {
        let mut urls = self.merchants.get(merchant)?.iter();
        urls.find(|(own, _)| own == url).map(|(_, breaker)| breaker)
    }

    /// By how much an agent's requests that are signed, or are not, are to slow down at a merchant.
    pub fn slowed(
        &self,
        merchant: &MerchantId,
        agent: &AgentId,
        is_signed: bool,
        clock: &dyn Clock,
    ) -> Option<Slowed> {
        self.merchants.get(merchant)?.iter().find_map(|(_, breaker)| {
            let breaker = breaker.lock();
            let slowing = breaker.slowed.get(&(agent.clone(), is_signed))?;
            let wait = slowing.until.since(clock.steady());
            (!wait.is_zero()).then_some(Slowed { at_most: slowing.at_most, wait })
        })
    }

    /// A request to this base URL has ended.
    pub fn note(
        &self,
        merchant: &MerchantId,
        url: &BaseUrl,
        report: &Report<'_>,
        clock: &dyn Clock,
    ) -> Option<Change> {
        let breaker = &mut *self.at(merchant, url)?.lock();
        // What nearly every request comes to.
        if report.sign == Sign::Answered && matches!(breaker.state, State::Closed(None)) {
            return None;
        }
        breaker.note(report, clock.steady())
    }

    /// Where to connect to now: who asks does it, and says what came of it.
    pub fn to_look_at(&self, now: Timestamp) -> Vec<(MerchantId, BaseUrl)> {
        let is_due = |breaker: &Mutex<Breaker>| match &mut breaker.lock().state {
            State::Open { looked, .. } if now.since(*looked) >= LOOK_AFTER => {
                *looked = now;
                true
            }
            State::Open { .. } | State::HalfOpen { .. } | State::Closed(_) => false,
        };
        let all = self.merchants.iter().flat_map(|(id, urls)| urls.iter().map(move |one| (id, one)));
        let due = all.filter(|(_, (_, breaker))| is_due(breaker));
        due.map(|(id, (url, _))| (id.clone(), url.clone())).collect()
    }

    /// A connection to a merchant was made, or not.
    pub fn looked(
        &self,
        merchant: &MerchantId,
        url: &BaseUrl,
        is_reached: bool,
        now: Timestamp,
    ) -> Option<Change> {
        let breaker = &mut *self.at(merchant, url)?.lock();
        let State::Open { since, looked } = &mut breaker.state else { return None };
        if !is_reached {
            *looked = now;
            return None;
        }
        breaker.state = State::HalfOpen { since: *since, window: None };
        Some(Change::HalfOpened)
    }
}

fn best(urls: &[(BaseUrl, Shared)]) -> Standing {
    urls.iter().map(|(_, breaker)| breaker.lock().standing()).min().unwrap_or(Standing::Closed)
}
