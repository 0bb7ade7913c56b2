//! Requests under way at each merchant. Nothing waits here: what does not fit is refused at once,
//! so a slow merchant fills its own pools and costs no other merchant anything.
//!
//! An agent gets at most a quarter of a merchant's pool for what it signed, and another for what it did
//! not: who stole its bearer alone holds none of the places of its money. Reads get at most three quarters of it, so
//! that polling cannot keep a complete out. Redemptions have a pool of their own: while a complete
//! holds its permit, the merchant redeems the card, and must not need a permit that completes
//! can use up.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::breaker::Slowed;
use super::{LimitScope, Limited};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::{Merchant, Registry};

/// Requests under way, by merchant.
pub struct Concurrency {
    merchants: HashMap<MerchantId, Arc<Pools>>,
}

struct Pools(Mutex<UnderWay>);

/// What is under way at one merchant.
struct UnderWay {
    /// At most so many forwarded requests.
    limit: u32,
    /// Forwarded requests, reads included.
    forwarded: u32,
    reads: u32,
    redemptions: u32,
    /// Forwarded requests of each agent that has any.
    agents: HashMap<Sender, u32>,
}

/// An agent, and whether it signed.
type Sender = (AgentId, bool);

/// Leave for one request to be under way, given back when dropped. Moves into the task that does
/// the work, so that a caller who hangs up does not free it early.
#[must_use]
pub struct Permit {
    pools: Arc<Pools>,
    holder: Holder,
}

enum Holder {
    Mutation(Sender),
    Read(Sender),
    Redemption,
}

impl Concurrency {
    /// Nothing under way at any of these merchants.
    pub fn new(registry: &Registry) -> Self {
        let concurrency = Self { merchants: HashMap::new() }.reloaded(registry);
        concurrency.limit_by(registry);
        concurrency
    }

    /// Concurrency under a new configuration: what is under way stays counted. The limits are those from
    /// before until [`Self::limit_by`] says so.
    #[must_use]
    pub fn reloaded(&self, registry: &Registry) -> Self {
        let merchants = registry
            .merchants()
            .map(|merchant| {
                let pools = self.merchants.get(&merchant.id).cloned().unwrap_or_default();
                (merchant.id.clone(), pools)
            })
            .collect();
        Self { merchants }
    }

    /// From now on at most as many as these entries say.
    pub fn limit_by(&self, registry: &Registry) {
        for merchant in registry.merchants() {
            if let Some(pools) = self.merchants.get(&merchant.id) {
                pools.0.lock().limit = merchant.concurrency.get();
            }
        }
    }

    /// Leave to forward a request that changes something: create, update, complete, cancel.
    ///
    /// # Errors
    /// The agent has its quarter under way, or the merchant all it may have.
    pub fn forward(&self, merchant: &Merchant, agent: &AgentId, is_signed: bool) -> Result<Permit, Limited> {
        self.acquire(merchant, Holder::Mutation((agent.clone(), is_signed)), LimitScope::MerchantConcurrency)
    }

    /// As [`Self::forward`], for an agent that the merchant has told to slow down.
    ///
    /// # Errors
    /// It has as many under way as it is slowed down to, for so long.
    pub fn forward_slowly(
        &self,
        merchant: &Merchant,
        agent: &AgentId,
        is_signed: bool,
        slowed: Slowed,
    ) -> Result<Permit, Limited> {
        if self.under_way(merchant, agent, is_signed) >= slowed.at_most {
            let wait = slowed.wait.as_millis().div_ceil(1000);
            let retry_after_seconds = u32::try_from(wait).unwrap_or(u32::MAX).max(1);
            return Err(Limited { retry_after_seconds, ..limited(LimitScope::AgentConcurrency) });
        }
        self.forward(merchant, agent, is_signed)
    }

    /// Requests of an agent under way at a merchant.
    pub fn under_way(&self, merchant: &Merchant, agent: &AgentId, is_signed: bool) -> u32 {
        let Some(pools) = self.merchants.get(&merchant.id) else { return 0 };
        pools.0.lock().agents.get(&(agent.clone(), is_signed)).copied().unwrap_or(0)
    }

    /// Leave to forward a request that only reads.
    ///
    /// # Errors
    /// As [`Self::forward`], or reads have three quarters of the merchant's pool.
    pub fn read(&self, merchant: &Merchant, agent: &AgentId, is_signed: bool) -> Result<Permit, Limited> {
        self.acquire(merchant, Holder::Read((agent.clone(), is_signed)), LimitScope::MerchantConcurrency)
    }

    /// Leave to answer a redemption: as many at once as requests may be forwarded.
    ///
    /// # Errors
    /// As many redemptions as fit are under way.
    pub fn redeem(&self, merchant: &Merchant) -> Result<Permit, Limited> {
        self.acquire(merchant, Holder::Redemption, LimitScope::RedeemConcurrency)
    }

    fn acquire(&self, merchant: &Merchant, holder: Holder, unknown: LimitScope) -> Result<Permit, Limited> {
        let pools = self.merchants.get(&merchant.id).ok_or(limited(unknown))?;
        pools.0.lock().enter(&holder)?;
        Ok(Permit { pools: Arc::clone(pools), holder })
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self(Mutex::new(UnderWay {
            limit: 0,
            forwarded: 0,
            reads: 0,
            redemptions: 0,
            agents: HashMap::new(),
        }))
    }
}

impl UnderWay {
    fn enter(&mut self, holder: &Holder) -> Result<(), Limited> {
        match holder {
            Holder::Redemption => self.enter_redemption(),
            Holder::Mutation(agent) => self.enter_forwarded(agent),
            Holder::Read(agent) => {
                if self.reads >= (self.limit - self.limit / 4).max(1) {
                    return Err(limited(LimitScope::MerchantConcurrency));
                }
                self.enter_forwarded(agent)?;
                self.reads += 1;
                Ok(())
            }
        }
    }

    fn enter_forwarded(&mut self, agent: &Sender) -> Result<(), Limited> {
        let of_agent = self.agents.get(agent).copied().unwrap_or(0);
        if of_agent >= (self.limit / 4).max(1) {
            return Err(limited(LimitScope::AgentConcurrency));
        }
        if self.forwarded >= self.limit {
            return Err(limited(LimitScope::MerchantConcurrency));
        }
        self.forwarded += 1;
        self.agents.insert(agent.clone(), of_agent + 1);
        Ok(())
    }

    fn enter_redemption(&mut self) -> Result<(), Limited> {
        if self.redemptions >= self.limit {
            return Err(limited(LimitScope::RedeemConcurrency));
        }
        self.redemptions += 1;
        Ok(())
    }

    fn leave(&mut self, holder: &Holder) {
        let agent = match holder {
            Holder::Redemption => {
                self.redemptions = self.redemptions.saturating_sub(1);
                return;
            }
            Holder::Mutation(agent) => agent,
            Holder::Read(agent) => {
                self.reads = self.reads.saturating_sub(1);
                agent
            }
        };
        self.forwarded = self.forwarded.saturating_sub(1);
        match self.agents.get_mut(agent) {
            Some(of_agent) if *of_agent > 1 => *of_agent -= 1,
            _ => {
                self.agents.remove(agent);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pools.0.lock().leave(&self.holder);
    }
}

/// Requests finish within seconds or not at all, so the shortest wait that can be said is right.
const fn limited(scope: LimitScope) -> Limited {
    Limited { scope, retry_after_seconds: 1, quota: None }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::fixture::{merchant, registry};

    fn agent(id: &str) -> AgentId {
        AgentId::parse(id).unwrap()
    }

    #[test]
    fn an_agent_gets_a_quarter_and_the_merchant_its_limit() {
        let concurrency = Concurrency::new(&registry(1, 1, 8));
        let shop = merchant("shop", 1, 1, 8);
        let first = concurrency.forward(&shop, &agent("a"), true).unwrap();
        let _second = concurrency.forward(&shop, &agent("a"), true).unwrap();
        assert_eq!(
            concurrency.forward(&shop, &agent("a"), true).err().unwrap().scope,
            LimitScope::AgentConcurrency
        );

        let others: Vec<_> = ["b", "b", "c", "c", "d", "d"]
            .map(|id| concurrency.forward(&shop, &agent(id), true).unwrap())
            .into();
        let full = concurrency.forward(&shop, &agent("e"), true).err().unwrap();
        assert_eq!((full.scope, full.retry_after_seconds), (LimitScope::MerchantConcurrency, 1));

        drop(first);
        concurrency.forward(&shop, &agent("e"), true).map(drop).unwrap();
        drop(others);
        concurrency.forward(&shop, &agent("a"), true).map(drop).unwrap();
    }

    #[test]
    fn who_is_slowed_down_has_fewer_under_way_and_nobody_else_has() {
        let concurrency = Concurrency::new(&registry(1, 1, 16));
        let shop = merchant("shop", 1, 1, 16);
        let slowed = Slowed { at_most: 2, wait: std::time::Duration::from_millis(6_500) };
        let slowly = |id| concurrency.forward_slowly(&shop, &agent(id), true, slowed);
        let _two = [slowly("a").unwrap(), slowly("a").unwrap()];
        assert_eq!(concurrency.under_way(&shop, &agent("a"), true), 2);
        let over = slowly("a").err().unwrap();
        assert_eq!((over.scope, over.retry_after_seconds), (LimitScope::AgentConcurrency, 7));
        assert!(concurrency.forward(&shop, &agent("b"), true).is_ok());
    }

    #[test]
    fn a_tiny_merchant_still_serves_one_request_an_agent() {
        let concurrency = Concurrency::new(&registry(1, 1, 1));
        let shop = merchant("shop", 1, 1, 1);
        let permit = concurrency.read(&shop, &agent("a"), true).unwrap();
        assert!(concurrency.forward(&shop, &agent("b"), true).is_err());
        drop(permit);
        assert!(concurrency.forward(&shop, &agent("b"), true).is_ok());
    }

    #[test]
    fn reads_leave_room_for_completes() {
        let concurrency = Concurrency::new(&registry(1, 1, 8));
        let shop = merchant("shop", 1, 1, 8);
        let reader = |n: usize| agent(&format!("reader{}", n / 2));
        let reads: Vec<_> = (0..8).map_while(|n| concurrency.read(&shop, &reader(n), true).ok()).collect();
        assert_eq!(reads.len(), 6);
        assert!(concurrency.forward(&shop, &agent("buyer"), true).is_ok());
    }

    #[test]
    fn redemption_never_waits_for_completes() {
        let concurrency = Concurrency::new(&registry(1, 1, 4));
        let shop = merchant("shop", 1, 1, 4);
        let _completes = ["a", "b", "c", "d"].map(|id| concurrency.forward(&shop, &agent(id), true).unwrap());
        let redemptions: Vec<_> = (0..8).map_while(|_| concurrency.redeem(&shop).ok()).collect();
        assert_eq!(redemptions.len(), 4);
        assert_eq!(concurrency.redeem(&shop).err().unwrap().scope, LimitScope::RedeemConcurrency);
    }

    #[test]
    fn a_slow_merchant_costs_another_nothing_and_a_reload_forgets_nothing() {
        let concurrency = Concurrency::new(&registry(1, 1, 4));
        let (shop, slow) = (merchant("shop", 1, 1, 4), merchant("slow", 1, 1, 4));
        let stuck = ["a", "b", "c", "d"].map(|id| concurrency.forward(&slow, &agent(id), true).unwrap());
        assert!(concurrency.forward(&shop, &agent("a"), true).is_ok());

        let entries = registry(1, 1, 4);
        let reloaded = concurrency.reloaded(&entries);
        reloaded.limit_by(&entries);
        assert!(reloaded.forward(&slow, &agent("e"), true).is_err());
        drop(stuck);
        assert!(reloaded.forward(&slow, &agent("e"), true).is_ok());
    }

    #[test]
    fn a_permit_moves_into_a_task() {
        fn detached<T: Send + 'static>(_: T) {}
        let concurrency = Concurrency::new(&registry(1, 1, 4));
        detached(concurrency.redeem(&merchant("shop", 1, 1, 4)).unwrap());
    }

    proptest! {
        #[test]
        fn no_order_of_coming_and_going_breaks_a_cap(
            limit in 1..20u32,
            steps in prop::collection::vec((0..3usize, 0..6usize, any::<bool>()), 1..200),
        ) {
            let concurrency = Concurrency::new(&registry(1, 1, limit));
            let shop = merchant("shop", 1, 1, limit);
            let mut held: Vec<(usize, usize, Permit)> = vec![];
            for (pool, who, leave) in steps {
                if leave && !held.is_empty() {
                    drop(held.swap_remove(who % held.len()));
                    continue;
                }
                let id = agent(&format!("a{who}"));
                let permit = match pool {
                    0 => concurrency.forward(&shop, &id, true),
                    1 => concurrency.read(&shop, &id, true),
                    _ => concurrency.redeem(&shop),
                };
                held.extend(permit.ok().map(|permit| (pool, who, permit)));
                let count = |wanted: &dyn Fn(usize) -> bool| {
                    u32::try_from(held.iter().filter(|(pool, ..)| wanted(*pool)).count()).unwrap()
                };
                prop_assert!(count(&|pool| pool < 2) <= limit);
                prop_assert!(count(&|pool| pool == 1) <= (limit - limit / 4).max(1));
                prop_assert!(count(&|pool| pool == 2) <= limit);
                let mut agents: HashMap<usize, u32> = HashMap::new();
                for (_, who, _) in held.iter().filter(|(pool, ..)| *pool < 2) {
                    *agents.entry(*who).or_default() += 1;
                }
                prop_assert!(agents.values().all(|n| *n <= (limit / 4).max(1)));
            }
            held.clear();
            let pools = concurrency.merchants.get(&shop.id).unwrap().0.lock();
            prop_assert_eq!((pools.forwarded, pools.reads, pools.redemptions, pools.agents.len()), (0, 0, 0, 0));
        }
    }
}
