//! A checkout session, the one open claim on it, and every transition of session, claim and token.
//!
//! As the gateway knows it. Pure: records in, records out, no clock and no store.
//!
//! Each transition first finds every reason to refuse and changes nothing; after the comment "From
//! here on nothing is refused" it only changes. The table it implements is in deploy/operating.md,
//! "The life of a token".

mod claim;
mod evidence;
mod handlers;
mod order;
mod places;
mod redeem;
mod settle;
mod signs;
mod troubles;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use claim::{
    Attempt, BeginClaim, BegunClaim, Claim, ClaimRefusal, ClaimStanding, begin_claim, may_claim, reenter,
};
pub use evidence::{Evidence, Lifecycle, Observation, ResolveRefusal, observe, resolve};
pub use handlers::{HandlerMark, Handlers};
pub use order::{MAX_ORDERS, OrderMark};
pub use places::{Places, ShownAt};
pub use redeem::{Redeem, RedeemRefusal, Redeemed, RevokeRefusal, Revoked, redeem, revoke};
pub use settle::{Outcome, Settlement, settle};
pub use signs::{Milestones, Signs, Viewed, note_life, note_view};
pub use troubles::{Fruitless, Troubles};

use super::base_url::BaseUrl;
use super::clock::{Clock, Reading, Timestamp};
use super::id::{AgentId, ClaimId, MerchantId, SessionId, TokenId};
use super::money::{Currency, MinorUnits, Money};
use super::token::{Token, TokenState};

/// How far the steady clocks of two replicas may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// Mutations of one session that may be under way at once.
pub const MAX_OPEN_MUTATIONS: usize = 8;

/// Answered attempts a session has, whatever the answers and whichever tokens.
pub const MAX_SESSION_ANSWERS: u8 = 40;

/// A checkout session or cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Checkout session or cart.
    pub kind: SessionKind,
    /// Whose it is on the far side.
    pub merchant: MerchantId,
    /// The merchant's id for it.
    pub id: SessionId,
    /// The agent it belongs to.
    pub owner: AgentId,
    /// What is known of how it ended.
    pub ending: Option<Ending>,
    /// The merchant's total and when it was read, while no mutation has overtaken it.
    pub total: Option<ObservedTotal>,
    /// Counts starts and ends of mutations: the number of the last one started, while it is open.
    pub sequence: u64,
    /// Mutations whose answers have not arrived.
    pub mutations: Vec<OpenMutation>,
    /// The open claim: at most one, whichever token or key.
    pub claim: Option<Claim>,
    /// The last claim that ended without an order although it had been in doubt: if an order shows
    /// all the same, it is this claim's.
    pub doubted: Option<Doubted>,
    /// Tokens minted for it that may still be spent, with their expiry.
    pub tokens: Vec<(TokenId, Timestamp)>,
    /// When the gateway first saw it.
    pub created_at: Timestamp,
    /// What has shown of the merchant's work on the open claim.
    pub signs: Signs,
    /// Orders the merchant has shown for it, the first first. There should never be a second.
    pub orders: Vec<OrderMark>,
    /// What came of the requests that were to settle the open claim.
    pub troubles: Troubles,
    /// Which of the merchant's base URLs stand for what of it. Its record has them behind all else.
    #[serde(skip)]
    pub places: Places,
    /// Attempts that were answered or in doubt, of all its tokens; its record keeps it behind all else.
    #[serde(skip)]
    pub answered: u8,
    /// The payment handlers it listed where its total was read; kept there too.
    #[serde(skip)]
    pub handlers: Handlers,
}

/// Which kind of resource a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionKind {
    /// A cart: owned, never charged.
    Cart,
    /// A checkout session.
    Checkout,
}

/// A claim that was given up in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// Its id.
    pub claim: ClaimId,
    /// The token it held.
    pub token: Option<TokenId>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// An order exists.
    Charged {
        /// The claim that led to it; `None` when it was learned otherwise.
        claim: Option<ClaimId>,
    },
    /// Canceled or expired at the merchant.
    Closed,
}

/// A merchant's totals: what is charged and, where the buyer is shown another currency, that
/// (`src/acp/README.md`, "Totals").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTotal {
    /// In the session's `currency`.
    pub settlement: Money,
    /// In `presentment_currency`, where the merchant states it.
    pub presentment: Option<Money>,
}

impl SessionTotal {
    /// The zero that is due, where nothing is due in any currency.
    pub fn nothing_due(&self) -> Option<Money> {
        let mut stated = std::iter::once(self.settlement).chain(self.presentment);
        stated.all(|money| money.amount == MinorUnits::ZERO).then_some(self.settlement)
    }

    /// The total in the currency an allowance is in. Nothing is ever converted.
    pub fn in_currency(&self, currency: Currency) -> Option<Money> {
        std::iter::once(self.settlement).chain(self.presentment).find(|money| money.currency == currency)
    }
}

/// A total and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedTotal {
    /// What the merchant said.
    pub total: SessionTotal,
    /// When it said so.
    pub at: Timestamp,
}

/// A mutation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMutation {
    /// Its number.
    pub sequence: u64,
    /// The incarnation of the store under which it began.
    pub incarnation: u64,
    /// Its answer is not waited for beyond this.
    pub until: Timestamp,
}

/// Who is running now: what a lease, an attempt or a mutation is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Elapsed time as an instant ([`Clock::steady`]): what spans go by,
    /// and the marks they begin at.
    pub steady: Timestamp,
    /// The latest of our clocks: what is past for it is refused.
    pub latest: Timestamp,
    /// The earliest of our clocks: what is past for it may be forgotten.
    pub earliest: Timestamp,
    /// Spans are known to have elapsed since then; what began before begins anew then.
    pub unbroken_since: Timestamp,
    /// The time jumped so shortly ago that a lease from before may still be running, whatever instant it
    /// ends at.
    pub just_jumped: bool,
    /// The store's incarnation; work begun under another belongs to a process that is gone.
    pub incarnation: u64,
}

impl Moment {
    /// With clocks that agree and have never been set.
    pub const fn at(now: Timestamp, incarnation: u64) -> Self {
        let unbroken_since = Timestamp::from_unix_millis(i64::MIN);
        Self { steady: now, latest: now, earliest: now, unbroken_since, just_jumped: false, incarnation }
    }

    /// By this clock, with leases that last at most so long.
    pub fn of(clock: &dyn Clock, longest_lease: Duration, incarnation: u64) -> Self {
        let Reading { steady, latest, earliest, unbroken_since, jumped_at } = clock.reading();
        let just_jumped = jumped_at.is_some_and(|at| steady < at.plus(longest_lease));
        Self { steady, latest, earliest, unbroken_since, just_jumped, incarnation }
    }

    /// Whether less than `span` has passed since `mark`, and none of a clock that was ahead.
    pub fn is_within(self, mark: Timestamp, span: Duration) -> bool {
        mark <= self.steady.plus(CLOCK_SKEW) && self.steady.since(mark) < span
    }

    /// A mark as the span that begins at it is to be reckoned: one that was made before anybody can say
    /// how much time has passed since, or by a clock that was ahead, begins anew. Late is safe; early is
    /// a second charge.
    #[must_use]
    pub fn reckoned(self, mark: Timestamp) -> Timestamp {
        if mark > self.steady.plus(CLOCK_SKEW) { self.steady } else { mark.max(self.unbroken_since) }
    }
}

/// Another operation on the session is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another operation on this checkout session is under way")]
pub struct SessionBusy;

impl Session {
    /// A session that `owner` has just created.
    pub fn new(
        kind: SessionKind,
        merchant: MerchantId,
        id: SessionId,
        owner: AgentId,
        now: Timestamp,
    ) -> Self {
        Self {
            kind,
            merchant,
            id,
            owner,
            ending: None,
            total: None,
            sequence: 0,
            mutations: Vec::new(),
            claim: None,
            doubted: None,
            tokens: Vec::new(),
            created_at: now,
            signs: Signs::default(),
            orders: Vec::new(),
            troubles: Troubles::default(),
            places: Places::default(),
            answered: 0,
            handlers: Handlers::default(),
        }
    }

    /// Starts an update or cancel: refused while a claim is open. Erases the total.
    ///
    /// # Errors
    /// [`SessionBusy`] while a claim is open or too many mutations are under way.
    pub fn begin_mutation(&mut self, moment: Moment, until: Timestamp) -> Result<u64, SessionBusy> {
        self.forget_dead_mutations(moment);
        if self.claim.is_some() || self.mutations.len() >= MAX_OPEN_MUTATIONS {
            return Err(SessionBusy);
        }
        // From here on nothing is refused.
        self.sequence = self.sequence.saturating_add(1);
        self.total = None;
        self.mutations.push(OpenMutation { sequence: self.sequence, incarnation: moment.incarnation, until });
        Ok(self.sequence)
    }

    /// Ends a mutation with what its answer showed of the session; `None` when it was a 5xx, in
    /// doubt or unreadable. Only a mutation that nothing overlapped sets the total: in which order
    /// the merchant took others, nobody knows.
    ///
    /// Whether it has set it: then what else the answer shows is the present too.
    pub fn end_mutation(
        &mut self,
        sequence: u64,
        total: Option<SessionTotal>,
        shown_at: Option<&BaseUrl>,
        now: Timestamp,
    ) -> bool {
        let alone = self.mutations.iter().all(|open| open.sequence == sequence) && !self.mutations.is_empty();
        self.mutations.retain(|open| open.sequence != sequence);
        let total = total.filter(|_| alone && sequence == self.sequence);
        self.total = total.map(|total| ObservedTotal { total, at: now });
        if let Some(url) = shown_at {
            self.places.total = Some(url.clone());
        }
        // A read that started before this may show what was before the mutation.
        self.sequence = self.sequence.saturating_add(1);
        self.total.is_some()
    }

    /// Takes the total of a read that started at `sequence`, unless a mutation was under way then or
    /// since; it was `shown_at` one of several base URLs, where the merchant has several.
    /// Whether it has taken one: then what else the read shows is the present too.
    pub fn note_total(
        &mut self,
        sequence: u64,
        total: Option<SessionTotal>,
        shown_at: Option<&BaseUrl>,
        moment: Moment,
    ) -> bool {
        self.forget_dead_mutations(moment);
        let is_present = sequence == self.sequence && self.mutations.is_empty();
        if is_present {
            self.total = total.map(|total| ObservedTotal { total, at: moment.steady });
            self.places.total = shown_at.filter(|_| total.is_some()).cloned();
        }
        is_present && total.is_some()
    }

    /// Forgets the total: the merchant has had a complete, which may bring an address that changes it. A read
    /// that started before may show what was before.
    fn forget_total(&mut self) {
        self.total = None;
        self.places.total = None;
        self.sequence = self.sequence.saturating_add(1);
    }

    /// The total, if it was read within `max_age` and nothing has overtaken it.
    pub fn fresh_total(&self, now: Timestamp, max_age: Duration) -> Option<SessionTotal> {
        let observed = self.total?;
        // One from the future was read by a clock that was set back since: nobody knows how old it is.
        let is_known = observed.at <= now.plus(CLOCK_SKEW);
        (is_known && now.since(observed.at) <= max_age).then_some(observed.total)
    }

    /// The token that an observation may decide about: the open claim's, else the one given up in
    /// doubt.
    pub fn token_at_stake(&self) -> Option<&TokenId> {
        match &self.claim {
            Some(claim) => claim.token.as_ref(),
            None => self.doubted.as_ref()?.token.as_ref(),
        }
    }

    /// Marks a token as it was stored as claimed, where the open claim holds it.
    pub fn mark_claimed<S>(&self, token: &mut Token<S>) {
        let Some(claim) = self.claim.as_ref().filter(|claim| claim.token.as_ref() == Some(&token.id)) else {
            return;
        };
        // A charge that was learned late has spent it all the same.
        if token.state == TokenState::Active {
            token.state = TokenState::Claimed { claim: claim.id.clone() };
        }
    }

    /// Whether a mutation that may still change the session is under way.
    pub fn has_open_mutation(&self, moment: Moment) -> bool {
        self.mutations.iter().any(|open| is_alive(open.incarnation, open.until, moment))
    }

    /// Registers a token minted for this session.
    ///
    /// # Errors
    /// [`TooManyTokens`] when `limit` tokens may still be spent.
    pub fn add_token(
        &mut self,
        id: TokenId,
        expires_at: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<(), TooManyTokens> {
        self.tokens.retain(|(_, expiry)| now < *expiry);
        if self.tokens.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(TooManyTokens);
        }
        self.tokens.push((id, expires_at));
        Ok(())
    }

    fn forget_token(&mut self, id: &TokenId) {
        self.tokens.retain(|(known, _)| known != id);
    }

    fn forget_dead_mutations(&mut self, moment: Moment) {
        self.mutations.retain(|open| is_alive(open.incarnation, open.until, moment));
    }
}

/// The session has as many spendable tokens as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has as many live tokens as it may have")]
pub struct TooManyTokens;

/// Whether work begun under `incarnation`, to be over by `until`, may still be running.
pub fn is_alive(incarnation: u64, until: Timestamp, moment: Moment) -> bool {
    incarnation == moment.incarnation && (moment.steady < until || moment.just_jumped)
}

#[cfg(test)]
mod tests;
