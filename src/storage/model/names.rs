//! Who and what a history is about.
//!
//! Two agents, and a session, another merchant's of the same id, and a cart that shares the session's
//! partition.

use crate::domain::id::{AgentId, MerchantId, SessionId};
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::domain::session::{SessionKind, SessionTotal};
use crate::idempotency::{Scope, ScopeParts};
use crate::ledger::{Ledger, RecordSet};
use crate::records::RecordKey;
use crate::token::PaymentToken;

/// One of the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// The one most happens to.
    Main,
    /// At another merchant, under the same id.
    Elsewhere,
    /// At the merchant of [`Self::Main`], under the same id.
    Cart,
}

impl Slot {
    pub(super) const ALL: [Self; 3] = [Self::Main, Self::Elsewhere, Self::Cart];

    pub(super) fn kind(self) -> SessionKind {
        if self == Self::Cart { SessionKind::Cart } else { SessionKind::Checkout }
    }

    pub(super) fn merchant(self) -> MerchantId {
        MerchantId::parse(if self == Self::Elsewhere { "other" } else { "shop" }).unwrap()
    }

    pub(super) fn id(self) -> SessionId {
        SessionId::parse("cs_1").unwrap()
    }

    pub(super) fn is_of(self, token: &PaymentToken) -> bool {
        token.allowance.merchant == self.merchant() && token.allowance.session == self.id()
    }

    pub(super) fn address(self, ledger: &Ledger) -> RecordSet {
        ledger.record_set(self.kind(), &self.merchant(), &self.id())
    }
}

/// One of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Agent {
    /// The one that owns most.
    One,
    /// Another.
    Two,
}

impl Agent {
    pub(super) fn id(self) -> AgentId {
        AgentId::parse(if self == Self::One { "one" } else { "two" }).unwrap()
    }
}

/// What an idempotency key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Create,
    Mint,
    Mutate,
    Complete,
}

/// An idempotency key in its scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyName {
    pub(super) route: Route,
    /// Whose partition its record is in; `None` where it has its own.
    pub(super) slot: Option<Slot>,
    pub(super) agent: Agent,
    pub(super) number: u8,
}

impl KeyName {
    pub(super) fn scope(&self) -> Scope {
        let agent = self.agent.id();
        let merchant = self.slot.map(Slot::merchant);
        let path = format!("/{:?}/{:?}", self.route, self.slot);
        let key = self.number.to_string();
        ScopeParts { agent: &agent, merchant: merchant.as_ref(), method: "POST", path: &path, key: &key }
            .scope()
    }

    pub(super) fn record_key(&self, ledger: &Ledger) -> RecordKey {
        let tag = self.slot.map(|slot| ledger.partitions().tag(&slot.merchant(), &slot.id()));
        self.scope().record_key(tag.as_deref())
    }
}

pub(super) fn dollars(amount: u64) -> Money {
    Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse("usd").unwrap() }
}

pub(super) fn euros(amount: u64) -> Money {
    Money { currency: Currency::parse("eur").unwrap(), ..dollars(amount) }
}

pub(super) fn total(settlement: Money) -> SessionTotal {
    SessionTotal { settlement, presentment: None }
}
