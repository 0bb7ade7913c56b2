//! The life of a token, cell by cell, and what no interleaving can break.

use proptest::prelude::*;

use super::*;
use crate::domain::allowance::Allowance;
use crate::domain::base_url::BaseUrl;
use crate::domain::id::TokenId;
use crate::domain::money::MinorUnits;
use crate::domain::token::{
    Instrument, MAX_ANSWERS, MAX_ATTEMPTS, RevokeReason, Standing, Token, TokenState,
};

const GRACE: Duration = Duration::from_secs(60);
const REPLAY: Duration = Duration::from_secs(60);
/// How long an attempt is waited for.
const AWAITED: Duration = Duration::from_secs(30);
const EXPIRY: i64 = 10_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn present(seconds: i64) -> Moment {
    Moment::at(at(seconds), 1)
}

fn money(amount: u64) -> Money {
    Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse("usd").unwrap() }
}

fn total(amount: u64) -> Option<SessionTotal> {
    Some(SessionTotal { settlement: money(amount), presentment: None })
}

/// By the merchant's only base URL.
fn here() -> ShownAt {
    ShownAt { url: BaseUrl::new("https://shop.example"), is_only: true, is_first: true }
}

/// By another of several, which may lag behind.
fn standby() -> ShownAt {
    ShownAt { url: BaseUrl::new("https://standby.example"), is_only: false, is_first: false }
}

/// A session shown open, by a read asked then.
fn open_at(total: Option<SessionTotal>, asked: i64) -> Observation {
    Observation {
        lifecycle: Lifecycle::Open,
        total,
        asked_at: at(asked),
        order: None,
        shown_at: here(),
        handlers: Handlers::default(),
    }
}

fn claim_id(name: &str) -> ClaimId {
    ClaimId::parse(name).unwrap()
}

struct World {
    session: Session,
    token: Token<u8>,
}

impl World {
    fn new() -> Self {
        let (agent, merchant, id) = (
            AgentId::parse("agent").unwrap(),
            MerchantId::parse("shop").unwrap(),
            SessionId::parse("cs_1").unwrap(),
        );
        let mut session =
            Session::new(SessionKind::Checkout, merchant.clone(), id.clone(), agent.clone(), at(0));
        session.note_total(0, total(1000), None, present(0));
        let token_id = TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap();
        session.add_token(token_id.clone(), at(EXPIRY), 5, at(0)).unwrap();
        let allowance = Allowance { agent, merchant, session: id, cap: money(1000), expires_at: at(EXPIRY) };
        let token = Token {
            id: token_id,
            allowance,
            created_at: at(0),
            instrument: Instrument::Sealed { card: 1, perishable: Some(2) },
            grant: String::new(),
            card_fingerprint: [0; 32],
            state: TokenState::Active,
            attempts: 0,
            exposed: false,
            answered: 0,
        };
        Self { session, token }
    }

    fn begin(&mut self, claim: &str, now: i64) -> Result<BegunClaim, ClaimRefusal> {
        let request = BeginClaim {
            claim: claim_id(claim),
            agent: self.session.owner.clone(),
            total_max_age: Duration::from_secs(1_000_000),
            purchase_order_limit: None,
            pays_nothing: false,
            handler: None,
            until: at(now + 30),
            place: None,
        };
        begin_claim(&mut self.session, Some(&mut self.token), &request, present(now))
    }

    fn settle(&mut self, claim: &str, attempt: u32, outcome: Outcome, now: i64) -> Settlement {
        let (session, token) = (&mut self.session, Some(&mut self.token));
        let settlement = settle(session, token, &claim_id(claim), attempt, outcome, present(now));
        if outcome == REFUSED && settlement == Settlement::Released {
            // As most answers do that are no order.
            self.show_total(now);
        }
        settlement
    }

    /// The merchant shows its total.
    fn show_total(&mut self, now: i64) {
        self.session.note_total(self.session.sequence, total(1000), None, present(now));
    }

    fn reenter(&mut self, claim: &str, shown: u64, now: i64) -> Result<BegunClaim, ClaimRefusal> {
        self.reenter_asked(claim, shown, now, now)
    }

    /// As [`Self::reenter`], on a read that was asked earlier.
    fn reenter_asked(
        &mut self,
        claim: &str,
        shown: u64,
        asked: i64,
        now: i64,
    ) -> Result<BegunClaim, ClaimRefusal> {
        let (claim, shown) = (claim_id(claim), open_at(total(shown), asked));
        reenter(&mut self.session, Some(&self.token), &claim, &shown, AWAITED, at(now + 30), present(now))
    }

    fn resolve(&mut self, claim: &str, evidence: Evidence, now: i64) -> Result<Settlement, ResolveRefusal> {
        resolve(&mut self.session, Some(&mut self.token), &claim_id(claim), evidence, present(now))
    }

    fn redeem(&mut self, claim: &str, amount: u64, now: i64) -> Result<Redeemed, RedeemRefusal> {
        let request = Redeem {
            claim: claim_id(claim),
            amount: money(amount),
            replay_window: REPLAY,
            every_claim: false,
        };
        redeem(&mut self.session, &self.token, &request, present(now))
    }

    fn revoke(&mut self, now: i64) -> Result<Revoked, RevokeRefusal> {
        revoke(&mut self.session, &mut self.token, present(now))
    }

    fn observe(&mut self, lifecycle: Lifecycle, now: i64) -> Settlement {
        let observation = Observation {
            lifecycle,
            total: None,
            asked_at: at(now),
            order: None,
            shown_at: here(),
            handlers: Handlers::default(),
        };
        observe(&mut self.session, Some(&mut self.token), &observation, GRACE, present(now))
    }

    fn claimed() -> Self {
        let mut world = Self::new();
        world.begin("c1", 1).unwrap();
        world
    }

    fn in_doubt() -> Self {
        let mut world = Self::claimed();
        assert_eq!(world.settle("c1", 1, Outcome::InDoubt, 2), Settlement::Held);
        world
    }

    fn perishable(&self) -> Option<u8> {
        match self.token.instrument {
            Instrument::Sealed { perishable, .. } => perishable,
            _ => None,
        }
    }
}

const REFUSED: Outcome = Outcome::NotCharged { recorded: true };

// Active

#[test]
fn an_active_token_is_claimed_and_a_second_claim_finds_the_session_busy_or_the_token_held() {
    let mut world = World::claimed();
    assert_eq!(world.token.state, TokenState::Claimed { claim: claim_id("c1") });
    assert_eq!(world.begin("c2", 1), Err(ClaimRefusal::TokenClaimed));
    let mut other = world.token.clone();
    other.state = TokenState::Active;
    std::mem::swap(&mut world.token, &mut other);
    assert_eq!(world.begin("c2", 1), Err(ClaimRefusal::SessionBusy));
}

#[test]
fn an_active_token_is_not_redeemed() {
    assert_eq!(World::new().redeem("c1", 1, 1), Err(RedeemRefusal::NoSuchClaim));
}

#[test]
fn a_charge_learned_after_the_claim_ended_consumes_the_token_and_is_alarming() {
    let mut world = World::claimed();
    world.settle("c1", 1, REFUSED, 2);
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 3), Settlement::ChargedLate);
    assert_eq!(world.token.standing(at(3)), Standing::Consumed);
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 4), Settlement::Stale);
}

#[test]
fn a_refusal_learned_after_the_claim_ended_changes_nothing() {
    let mut world = World::claimed();
    world.settle("c1", 1, REFUSED, 2);
    let before = (world.session.clone(), world.token.clone());
    assert_eq!(world.settle("c1", 1, REFUSED, 3), Settlement::Stale);
    assert_eq!((world.session, world.token), before);
}

#[test]
fn an_active_token_is_revoked_at_once_and_again_changes_nothing() {
    let mut world = World::new();
    assert_eq!(world.revoke(1), Ok(Revoked::Now));
    assert_eq!(world.revoke(2), Ok(Revoked::Already));
    assert_eq!(world.begin("c1", 3), Err(ClaimRefusal::TokenRevoked));
    assert_eq!(world.perishable(), None);
    assert!(world.session.tokens.is_empty());
}

#[test]
fn a_token_is_invalid_at_its_expiry_and_valid_the_moment_before() {
    let mut world = World::new();
    assert_eq!(world.begin("c1", EXPIRY), Err(ClaimRefusal::TokenExpired));
    assert_eq!(world.token.standing(at(EXPIRY)), Standing::Expired);
    assert!(world.begin("c1", EXPIRY - 1).is_ok());
}

#[test]
fn after_three_answered_attempts_a_token_is_worn_out() {
    let mut world = World::new();
    for round in 0..i64::from(MAX_ATTEMPTS) {
        world.begin(&format!("c{round}"), round).unwrap();
        assert_eq!(world.settle(&format!("c{round}"), 1, REFUSED, round), Settlement::Released);
    }
    assert_eq!(world.begin("c9", 9), Err(ClaimRefusal::TokenWornOut));
}

#[test]
fn what_the_merchant_refuses_without_the_card_is_one_of_twenty_answers_and_none_of_three_attempts() {
    let mut world = World::new();
    for round in 0..i64::from(MAX_ANSWERS) {
        let claim = format!("c{round}");
        assert_eq!((world.token.attempts, world.token.is_worn_out()), (0, false), "{round}");
        // Whatever was known of the total before it refused.
        world.show_total(round);
        world.begin(&claim, round).unwrap();
        assert_eq!(world.settle(&claim, 1, Outcome::Refused, round), Settlement::Released);
        assert_eq!(world.session.fresh_total(at(round), GRACE), None);
    }
    assert_eq!(world.begin("c99", 99), Err(ClaimRefusal::TokenWornOut));
}

#[test]
fn what_is_refused_once_the_card_is_out_or_after_doubt_is_an_attempt() {
    let mut world = World::claimed();
    world.redeem("c1", 1000, 1).unwrap();
    world.settle("c1", 1, Outcome::Refused, 2);
    assert_eq!((world.token.attempts, world.token.answered), (1, 1));
    world.show_total(3);
    world.begin("c2", 3).unwrap();
    world.settle("c2", 1, Outcome::InDoubt, 4);
    assert_eq!(world.resolve("c2", Evidence::NotCharged, 50), Ok(Settlement::Released));
    assert_eq!((world.token.attempts, world.token.answered, world.session.answered), (2, 2, 2));
}

#[test]
fn a_session_has_forty_answers_whichever_tokens_they_are_to() {
    let mut world = World::new();
    for round in 0..i64::from(MAX_SESSION_ANSWERS) {
        let claim = format!("c{round}");
        world.show_total(round);
        world.begin(&claim, round).unwrap();
        world.settle(&claim, 1, Outcome::Refused, round);
        world.token = World::new().token;
    }
    world.show_total(99);
    assert_eq!(world.begin("c99", 99), Err(ClaimRefusal::SessionWornOut));
}

#[test]
fn attempts_that_never_reached_the_merchant_do_not_wear_a_token_out() {
    let mut world = World::new();
    for round in 0..10 {
        world.begin(&format!("c{round}"), round).unwrap();
        world.settle(&format!("c{round}"), 1, Outcome::NotCharged { recorded: false }, round);
    }
    assert_eq!(world.token.attempts, 0);
    assert!(world.begin("last", 20).is_ok());
}

// Claimed

#[test]
fn the_card_leaves_once_for_the_claim_and_again_only_within_the_replay_window() {
    let mut world = World::claimed();
    assert_eq!(world.redeem("c2", 1000, 1), Err(RedeemRefusal::NoSuchClaim));
    assert_eq!(world.redeem("c1", 1001, 1), Err(RedeemRefusal::OverChecked));
    assert_eq!(world.redeem("c1", 1000, 1), Ok(Redeemed::First));
    assert_eq!(world.redeem("c1", 1000, 60), Ok(Redeemed::Again));
    assert_eq!(world.redeem("c1", 1000, 61), Err(RedeemRefusal::Gone));
}

#[test]
fn the_card_does_not_leave_in_another_currency_or_after_expiry() {
    let mut world = World::claimed();
    let euros = Redeem {
        claim: claim_id("c1"),
        amount: Money { currency: Currency::parse("eur").unwrap(), ..money(1) },
        replay_window: REPLAY,
        every_claim: false,
    };
    assert_eq!(
        redeem(&mut world.session, &world.token, &euros, present(1)),
        Err(RedeemRefusal::CurrencyMismatch)
    );
    assert_eq!(world.redeem("c1", 1, EXPIRY), Err(RedeemRefusal::Expired));
}

#[test]
fn a_charge_consumes_and_what_follows_is_gone_or_spent() {
    let mut world = World::claimed();
    world.redeem("c1", 1000, 1).unwrap();
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 2), Settlement::Charged);
    assert_eq!(world.redeem("c1", 1000, 3), Err(RedeemRefusal::Gone));
    assert_eq!(world.begin("c2", 3), Err(ClaimRefusal::AlreadyCharged));
    assert_eq!(world.revoke(3), Err(RevokeRefusal::Consumed));
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 3), Settlement::Stale);
    assert_eq!(world.settle("c1", 1, REFUSED, 3), Settlement::Stale);
    assert_eq!(world.token.standing(at(EXPIRY + 1)), Standing::Consumed);
    assert_eq!(world.perishable(), None);
}

#[test]
fn after_a_charge_another_token_finds_the_session_completed() {
    let mut world = World::claimed();
    let mut second = world.token.clone();
    second.state = TokenState::Active;
    world.settle("c1", 1, Outcome::Charged, 2);
    world.token = second;
    assert_eq!(world.begin("c2", 3), Err(ClaimRefusal::AlreadyCharged));
}

#[test]
fn a_refusal_releases_the_token_and_marks_it_exposed_only_if_the_card_left() {
    let mut world = World::claimed();
    assert_eq!(world.settle("c1", 1, REFUSED, 2), Settlement::Released);
    assert!(!world.token.exposed);
    assert_eq!(world.perishable(), Some(2));
    world.begin("c2", 3).unwrap();
    world.redeem("c2", 1, 3).unwrap();
    world.settle("c2", 1, REFUSED, 4);
    assert!(world.token.exposed);
    assert_eq!(world.perishable(), None);
    assert_eq!(world.token.standing(at(5)), Standing::Active);
}

#[test]
fn an_exposed_card_goes_out_again_only_where_the_merchant_wants_it_every_claim() {
    let mut world = World::claimed();
    let every =
        |claim| Redeem { claim: claim_id(claim), amount: money(1), replay_window: REPLAY, every_claim: true };
    redeem(&mut world.session, &world.token, &every("c1"), present(1)).unwrap();
    world.settle("c1", 1, REFUSED, 2);
    assert_eq!(world.token.instrument, Instrument::Sealed { card: 1, perishable: None });
    world.begin("c2", 3).unwrap();
    assert_eq!(world.redeem("c2", 1, 3), Err(RedeemRefusal::AlreadyExposed));
    assert_eq!(redeem(&mut world.session, &world.token, &every("c2"), present(3)), Ok(Redeemed::First));
}

#[test]
fn a_card_its_merchant_keeps_is_deleted_with_the_claim_and_comes_from_nowhere_again() {
    let mut world = World::claimed();
    world.redeem("c1", 1, 1).unwrap();
    assert!(matches!(world.token.instrument, Instrument::Sealed { .. }), "it may be fetched again");
    world.settle("c1", 1, REFUSED, 2);
    assert_eq!(world.token.instrument, Instrument::Deleted);
    assert_eq!(world.token.standing(at(3)), Standing::Active);
    world.begin("c2", 3).unwrap();
    let every = Redeem { claim: claim_id("c2"), amount: money(1), replay_window: REPLAY, every_claim: true };
    let refused = redeem(&mut world.session, &world.token, &every, present(3));
    assert_eq!(refused, Err(RedeemRefusal::AlreadyExposed));
}

#[test]
fn a_claim_that_ends_after_its_token_expired_leaves_the_card_to_a_clock_that_is_certain() {
    let mut world = World::claimed();
    assert_eq!(world.settle("c1", 1, REFUSED, EXPIRY), Settlement::Released);
    assert!(matches!(world.token.instrument, Instrument::Sealed { .. }));
    assert!(world.token.has_ended(at(EXPIRY)) && world.token.delete_card() && !world.token.delete_card());
}

#[test]
fn a_revoke_before_redemption_stops_it_and_takes_effect_when_the_claim_ends() {
    let mut world = World::claimed();
    assert_eq!(world.revoke(1), Ok(Revoked::Requested));
    assert_eq!(world.revoke(2), Ok(Revoked::Requested));
    assert_eq!(world.redeem("c1", 1, 2), Err(RedeemRefusal::Revoking));
    world.settle("c1", 1, Outcome::NotCharged { recorded: false }, 3);
    assert!(matches!(world.token.state, TokenState::Revoked { reason: RevokeReason::Agent, .. }));
}

#[test]
fn a_revoke_after_redemption_is_refused() {
    let mut world = World::claimed();
    world.redeem("c1", 1, 1).unwrap();
    assert_eq!(world.revoke(2), Err(RevokeRefusal::InUse));
}

#[test]
fn a_claimed_token_outlives_its_expiry_until_there_is_evidence() {
    let mut world = World::claimed();
    assert_eq!(world.token.standing(at(EXPIRY + 1)), Standing::Claimed);
    world.settle("c1", 1, Outcome::NotCharged { recorded: false }, EXPIRY + 1);
    assert_eq!(world.token.standing(at(EXPIRY + 1)), Standing::Expired);
}

#[test]
fn a_pending_claim_is_held_until_an_observation_ends_it() {
    for (lifecycle, settlement) in [
        (Lifecycle::Completed, Settlement::Charged),
        (Lifecycle::Closed, Settlement::Released),
        (Lifecycle::Working, Settlement::Held),
    ] {
        let mut world = World::claimed();
        assert_eq!(world.settle("c1", 1, Outcome::Pending, 2), Settlement::Held);
        assert_eq!(world.observe(lifecycle, 3), settlement);
    }
}

// Claimed, in doubt

#[test]
fn once_in_doubt_a_later_refusal_releases_nothing() {
    let mut world = World::in_doubt();
    assert_eq!(world.reenter("c1", 1000, 31).unwrap().attempt, 2);
    assert_eq!(world.settle("c1", 2, REFUSED, 32), Settlement::Held);
    assert_eq!(world.begin("c2", 5), Err(ClaimRefusal::TokenClaimed));
}

#[test]
fn overlapping_attempts_need_evidence_even_when_none_was_in_doubt() {
    let mut world = World::claimed();
    world.session.claim.as_mut().unwrap().attempts.push(Attempt { number: 2, incarnation: 1, until: at(40) });
    assert_eq!(world.settle("c1", 2, REFUSED, 2), Settlement::Held);
    assert_eq!(world.settle("c1", 1, REFUSED, 3), Settlement::Held);
    assert_eq!(world.observe(Lifecycle::Open, 3 + 60), Settlement::Released);
}

#[test]
fn a_charge_ends_doubt_whichever_attempt_brings_it() {
    let mut world = World::in_doubt();
    world.reenter("c1", 1000, 31).unwrap();
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 32), Settlement::Charged);
    assert_eq!(world.settle("c1", 2, REFUSED, 5), Settlement::Stale);
}

#[test]
fn an_open_session_ends_doubt_only_when_it_was_read_after_the_grace() {
    let mut world = World::in_doubt();
    assert_eq!(world.observe(Lifecycle::Open, 2 + 59), Settlement::Held);
    assert_eq!(world.observe(Lifecycle::Unknown, 2 + 60), Settlement::Held);
    assert_eq!(world.observe(Lifecycle::Open, 2 + 60), Settlement::Released);
    assert_eq!(world.token.standing(at(70)), Standing::Active);
}

#[test]
fn a_session_shown_at_work_and_a_redeem_start_the_grace_anew() {
    let mut world = World::in_doubt();
    assert_eq!(world.observe(Lifecycle::Working, 2 + 60), Settlement::Held);
    assert_eq!(world.observe(Lifecycle::Open, 2 + 119), Settlement::Held);
    assert_eq!(world.redeem("c1", 1000, 2 + 119), Ok(Redeemed::First));
    assert_eq!(world.observe(Lifecycle::Open, 2 + 178), Settlement::Held);
    assert_eq!(world.observe(Lifecycle::Open, 2 + 179), Settlement::Released);
}

#[test]
fn a_complete_is_sent_again_only_when_what_was_sent_is_over_and_nothing_shows_of_work_on_it() {
    let wait = |seconds| Err(ClaimRefusal::AtWork { wait: Duration::from_secs(seconds) });
    let mut world = World::in_doubt();
    // The first attempt began at 1 and is waited for until 31.
    assert_eq!(world.reenter("c1", 1000, 3), wait(28));
    assert_eq!(world.reenter("c1", 1000, 30), wait(1));
    world.redeem("c1", 1000, 30).unwrap();
    assert_eq!(world.reenter("c1", 1000, 31), wait(29));
    assert_eq!(note_view(&mut world.session, &world.token.id, GRACE, at(40)), Viewed::AtWork);
    assert_eq!(world.reenter("c1", 1000, 69), wait(1));
    assert_eq!(world.reenter("c1", 1000, 70).unwrap().attempt, 2);
    // The second is in doubt: it counts as the first did.
    assert_eq!(world.settle("c1", 2, Outcome::InDoubt, 71), Settlement::Held);
    assert_eq!(world.reenter("c1", 1000, 99), wait(1));
    assert!(world.reenter("c1", 1000, 100).is_ok());
}

#[test]
fn a_read_asked_before_everything_sent_was_over_sends_nothing_again() {
    let mut world = World::in_doubt();
    let early = world.reenter_asked("c1", 1000, 30, 35);
    assert_eq!(early, Err(ClaimRefusal::AtWork { wait: Duration::ZERO }), "another read decides");
    assert!(world.reenter_asked("c1", 1000, 31, 35).is_ok());
}

#[test]
fn it_is_known_from_when_a_read_decides_what_none_before_could() {
    let mut world = World::in_doubt();
    let milestones = |world: &World, now| world.session.milestones(AWAITED, GRACE, present(now));
    let known = |silent, over| Milestones { silent_from: Some(at(silent)), grace_over: Some(at(over)) };
    assert_eq!(milestones(&world, 3), known(31, 2 + 60));
    world.redeem("c1", 1000, 30).unwrap();
    assert_eq!(milestones(&world, 30), known(60, 30 + 60));
    assert_eq!(world.observe(Lifecycle::Completed, 40), Settlement::Charged);
    assert_eq!(milestones(&world, 40), Milestones::default());
}

#[test]
fn a_second_order_is_told_from_the_first_once() {
    let mut session = World::new().session;
    let mark = |n| Some(OrderMark([n; 8]));
    let told = [None, mark(1), mark(1), mark(2), None, mark(2), mark(1)].map(|mark| session.note_order(mark));
    assert_eq!(told, [false, false, false, true, false, false, false]);
}

#[test]
fn no_observation_but_completed_ends_a_claim_while_an_attempt_is_out() {
    for lifecycle in [Lifecycle::Open, Lifecycle::Closed, Lifecycle::Working] {
        assert_eq!(World::claimed().observe(lifecycle, 5), Settlement::Held, "{lifecycle:?}");
    }
    assert_eq!(World::claimed().observe(Lifecycle::Completed, 5), Settlement::Charged);
}

#[test]
fn an_attempt_of_a_former_process_is_in_doubt() {
    let mut world = World::claimed();
    let later = Moment::at(at(2), 2);
    let read = |asked| Observation {
        lifecycle: Lifecycle::Open,
        total: None,
        asked_at: at(asked),
        order: None,
        shown_at: here(),
        handlers: Handlers::default(),
    };
    assert_eq!(observe(&mut world.session, Some(&mut world.token), &read(2), GRACE, later), Settlement::Held);
    assert!(world.session.claim.as_ref().unwrap().contested);
    let after_grace = Moment::at(at(70), 2);
    assert_eq!(
        observe(&mut world.session, Some(&mut world.token), &read(70), GRACE, after_grace),
        Settlement::Released
    );
}

#[test]
fn another_base_url_shows_an_order_and_never_the_lack_of_one() {
    let doubtful = || {
        let mut world = World::claimed();
        world.session.move_claim(&here().url);
        world.settle("c1", 1, Outcome::InDoubt, 2);
        world
    };
    let shown = |lifecycle, shown_at| Observation { shown_at, lifecycle, ..open_at(total(1000), 1000) };
    let by = |world: &mut World, lifecycle, shown_at| {
        let shown = shown(lifecycle, shown_at);
        observe(&mut world.session, Some(&mut world.token), &shown, GRACE, present(1000))
    };
    let mut world = doubtful();
    for lifecycle in [Lifecycle::Open, Lifecycle::Closed, Lifecycle::Unknown] {
        assert_eq!(by(&mut world, lifecycle, standby()), Settlement::Held, "{lifecycle:?}");
    }
    let again = shown(Lifecycle::Open, standby());
    let (session, token) = (&mut world.session, Some(&world.token));
    let reentered = reenter(session, token, &claim_id("c1"), &again, AWAITED, at(1030), present(1000));
    assert_eq!(reentered, Err(ClaimRefusal::AtWork { wait: Duration::ZERO }));
    assert_eq!(by(&mut world, Lifecycle::Completed, standby()), Settlement::Charged);
    assert_eq!(by(&mut doubtful(), Lifecycle::Open, here()), Settlement::Released);
    // One that an older format keeps is nobody's word where there are several.
    let mut world = doubtful();
    world.session.places.claim = None;
    assert_eq!(by(&mut world, Lifecycle::Open, standby()), Settlement::Held);
    assert_eq!(by(&mut world, Lifecycle::Open, here()), Settlement::Released);
}

#[test]
fn a_grace_begins_anew_when_nobody_can_say_how_much_of_it_has_passed() {
    let open = |asked| Observation {
        lifecycle: Lifecycle::Open,
        total: None,
        asked_at: at(asked),
        order: None,
        shown_at: here(),
        handlers: Handlers::default(),
    };
    let look = |world: &mut World, now, since| {
        let moment = Moment { unbroken_since: at(since), ..present(now) };
        observe(&mut world.session, Some(&mut world.token), &open(now), GRACE, moment)
    };
    // The time broke off at 300: what began before then begins then.
    let mut world = World::in_doubt();
    assert_eq!(look(&mut world, 300, 300), Settlement::Held);
    assert_eq!(look(&mut world, 359, 300), Settlement::Held);
    assert_eq!(look(&mut world, 360, 300), Settlement::Released);
    // A mark made by a clock that was an hour ahead holds the claim for a grace from now, not an hour.
    let mut world = World::claimed();
    world.settle("c1", 1, Outcome::InDoubt, 3_600);
    assert_eq!(look(&mut world, 10, 0), Settlement::Held);
    assert_eq!(look(&mut world, 69, 0), Settlement::Held);
    assert_eq!(look(&mut world, 70, 0), Settlement::Released);
}

#[test]
fn after_a_jump_an_attempt_counts_as_alive_for_its_whole_length() {
    let mut world = World::claimed();
    let jumped = Moment { just_jumped: true, unbroken_since: at(500), ..present(500) };
    assert!(world.session.claim.as_ref().unwrap().has_live_attempt(jumped));
    let open = Observation {
        lifecycle: Lifecycle::Open,
        total: None,
        asked_at: at(500),
        order: None,
        shown_at: here(),
        handlers: Handlers::default(),
    };
    let seen = observe(&mut world.session, Some(&mut world.token), &open, GRACE, jumped);
    assert_eq!((seen, world.session.claim.as_ref().unwrap().contested), (Settlement::Held, false));
    assert!(!world.session.claim.as_ref().unwrap().has_live_attempt(present(531)));
}

#[test]
fn a_total_or_a_redeem_from_the_future_is_of_no_age() {
    let mut world = World::new();
    let max_age = Duration::from_secs(600);
    assert!(world.session.fresh_total(at(1), max_age).is_some());
    assert_eq!(world.session.fresh_total(at(-3_600), max_age), None);
    world.begin("c1", 1).unwrap();
    assert_eq!(world.redeem("c1", 500, 100), Ok(Redeemed::First));
    assert_eq!(world.redeem("c1", 500, 120), Ok(Redeemed::Again));
    assert_eq!(world.redeem("c1", 500, 50), Err(RedeemRefusal::Gone));
}

#[test]
fn a_claim_is_not_reentered_while_an_attempt_is_out() {
    let mut world = World::claimed();
    assert_eq!(world.reenter("c1", 1000, 2), Err(ClaimRefusal::SessionBusy));
    assert_eq!(world.reenter("c2", 1000, 2), Err(ClaimRefusal::SessionBusy));
}

#[test]
fn a_complete_is_not_sent_again_above_what_was_checked_nor_after_expiry_or_a_revoke() {
    let mut world = World::in_doubt();
    assert_eq!(world.reenter("c1", 1001, 3), Err(ClaimRefusal::OverCap));
    let unknown = reenter(
        &mut world.session,
        Some(&world.token),
        &claim_id("c1"),
        &open_at(None, 3),
        AWAITED,
        at(40),
        present(3),
    );
    assert_eq!(unknown, Err(ClaimRefusal::TotalUnknown));
    assert_eq!(world.reenter("c1", 1000, EXPIRY), Err(ClaimRefusal::TokenExpired));
    world.revoke(3).unwrap();
    assert_eq!(world.reenter("c1", 1000, 4), Err(ClaimRefusal::TokenRevoked));
}

#[test]
fn a_late_charge_under_another_claim_keeps_the_open_claims_card_in_and_sends_nothing_again() {
    let mut world = World::claimed();
    let mut second = world.token.clone();
    second.state = TokenState::Active;
    world.settle("c1", 1, REFUSED, 2);
    std::mem::swap(&mut world.token, &mut second);
    world.begin("c2", 3).unwrap();
    let late =
        settle(&mut world.session, Some(&mut second), &claim_id("c1"), 1, Outcome::Charged, present(4));
    assert_eq!(late, Settlement::ChargedLate);
    assert_eq!(world.redeem("c2", 1000, 5), Err(RedeemRefusal::NoSuchClaim));
    world.settle("c2", 1, Outcome::InDoubt, 6);
    assert_eq!(world.reenter("c2", 1000, 7), Err(ClaimRefusal::AlreadyCharged));
}

#[test]
fn a_late_charge_stays_though_the_open_claims_session_shows_as_closed() {
    let mut world = World::claimed();
    world.settle("c1", 1, REFUSED, 2);
    world.begin("c2", 3).unwrap();
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 4), Settlement::ChargedLate);
    world.settle("c2", 1, Outcome::Pending, 5);
    assert_eq!(world.observe(Lifecycle::Closed, 6), Settlement::Released);
    assert_eq!(world.session.ending, Some(Ending::Charged { claim: Some(claim_id("c1")) }));
}

#[test]
fn an_observation_beside_another_token_than_the_claims_changes_neither() {
    for lifecycle in [Lifecycle::Completed, Lifecycle::Closed, Lifecycle::Open] {
        let mut world = World::in_doubt();
        let mut other = world.token.clone();
        other.id = TokenId::assemble("abcdefghij", "9999999999999999999999").unwrap();
        other.state = TokenState::Active;
        let observation = Observation {
            lifecycle,
            total: None,
            asked_at: at(100),
            order: None,
            shown_at: here(),
            handlers: Handlers::default(),
        };
        for token in [Some(&mut other), None] {
            let seen = observe(&mut world.session, token, &observation, GRACE, present(100));
            assert_eq!(seen, Settlement::Held, "{lifecycle:?}");
        }
        assert_eq!(other.state, TokenState::Active);
        assert_ne!(world.observe(lifecycle, 100), Settlement::Held);
        assert_ne!(world.token.standing(at(100)), Standing::Claimed);
    }
}

#[test]
fn in_doubt_the_card_can_still_be_fetched_and_a_revoke_still_stops_it() {
    assert_eq!(World::in_doubt().redeem("c1", 1000, 3), Ok(Redeemed::First));
    let mut world = World::in_doubt();
    assert_eq!(world.revoke(3), Ok(Revoked::Requested));
    assert_eq!(world.redeem("c1", 1000, 3), Err(RedeemRefusal::Revoking));
}

#[test]
fn an_order_that_shows_after_doubt_was_given_up_is_that_claims() {
    let mut world = World::in_doubt();
    assert_eq!(world.observe(Lifecycle::Open, 2 + 60), Settlement::Released);
    assert_eq!(world.session.token_at_stake(), Some(&world.token.id));
    assert_eq!(world.observe(Lifecycle::Completed, 70), Settlement::ChargedLate);
    assert_eq!(world.session.ending, Some(Ending::Charged { claim: Some(claim_id("c1")) }));
    assert_eq!(world.token.standing(at(70)), Standing::Consumed);
}

#[test]
fn an_order_made_past_the_gateway_is_no_claims() {
    let mut world = World::claimed();
    world.settle("c1", 1, REFUSED, 2);
    assert_eq!(world.observe(Lifecycle::Completed, 3), Settlement::ChargedLate);
    assert_eq!(world.session.ending, Some(Ending::Charged { claim: None }));
    assert_eq!(world.token.standing(at(3)), Standing::Active);
}

#[test]
fn an_operator_ends_doubt_either_way_and_repeating_it_changes_nothing() {
    for (evidence, settled, standing) in [
        (Evidence::Charged, Settlement::Charged, Standing::Consumed),
        (Evidence::NotCharged, Settlement::Released, Standing::Active),
    ] {
        let mut world = World::in_doubt();
        assert_eq!(world.resolve("c1", evidence, 3), Ok(settled));
        assert_eq!(world.token.standing(at(3)), standing);
        let session = world.session.clone();
        assert_eq!(world.resolve("c1", evidence, 4), Ok(Settlement::Stale));
        let other = match evidence {
            Evidence::Charged => Evidence::NotCharged,
            Evidence::NotCharged => Evidence::Charged,
        };
        assert_eq!(world.resolve("c1", other, 5), Err(ResolveRefusal::NotOpen));
        assert_eq!((&world.session, world.token.standing(at(5))), (&session, standing));
    }
}

#[test]
fn an_operator_names_the_open_claim_and_waits_for_answers_that_may_still_come() {
    let mut world = World::claimed();
    let outstanding = Err(ResolveRefusal::AttemptOutstanding { until: at(31) });
    assert_eq!(world.resolve("c1", Evidence::NotCharged, 30), outstanding);
    assert_eq!(world.resolve("c2", Evidence::NotCharged, 40), Err(ResolveRefusal::NotOpen));
    assert_eq!(world.token.standing(at(40)), Standing::Claimed);
    // Its process is gone, or its time is over: nobody waits any more.
    assert_eq!(world.resolve("c1", Evidence::NotCharged, 31), Ok(Settlement::Released));
    // Whatever is learnt later is this claim's.
    assert_eq!(world.settle("c1", 1, Outcome::Charged, 50), Settlement::ChargedLate);
    assert_eq!(world.token.standing(at(50)), Standing::Consumed);
    assert_eq!(world.resolve("c1", Evidence::NotCharged, 51), Err(ResolveRefusal::NotOpen));
}

// Consumed, Revoked, Expired

#[test]
fn an_ended_token_is_neither_redeemed_nor_revoked_into_another_end() {
    let mut expired = World::new();
    assert_eq!(expired.revoke(EXPIRY), Ok(Revoked::Already));
    assert_eq!(expired.redeem("c1", 1, EXPIRY), Err(RedeemRefusal::NoSuchClaim));
    let mut revoked = World::new();
    revoked.revoke(1).unwrap();
    assert_eq!(revoked.redeem("c1", 1, 2), Err(RedeemRefusal::NoSuchClaim));
    assert_eq!(revoked.settle("c1", 1, REFUSED, 2), Settlement::Stale);
    assert_eq!(revoked.settle("c1", 1, Outcome::Charged, 2), Settlement::ChargedLate);
    assert_eq!(revoked.token.standing(at(3)), Standing::Consumed);
}

// What is checked when a claim begins

#[test]
fn the_cap_itself_passes_and_one_more_does_not() {
    let mut world = World::new();
    world.session.note_total(0, total(1001), None, present(0));
    assert_eq!(world.begin("c1", 1), Err(ClaimRefusal::OverCap));
    world.session.note_total(0, total(1000), None, present(0));
    assert_eq!(world.begin("c1", 1).unwrap().checked, money(1000));
}

#[test]
fn a_token_is_unknown_to_any_other_agent_merchant_or_session() {
    let change: [fn(&mut Allowance); 3] = [
        |allowance| allowance.agent = AgentId::parse("other").unwrap(),
        |allowance| allowance.merchant = MerchantId::parse("other").unwrap(),
        |allowance| allowance.session = SessionId::parse("other").unwrap(),
    ];
    for change in change {
        let mut world = World::new();
        change(&mut world.token.allowance);
        assert_eq!(world.begin("c1", 1), Err(ClaimRefusal::TokenElsewhere));
    }
}

#[test]
fn another_currency_is_refused_and_the_presentment_total_counts_where_it_is_the_allowances() {
    let mut world = World::new();
    world.token.allowance.cap.currency = Currency::parse("eur").unwrap();
    assert_eq!(world.begin("c1", 1), Err(ClaimRefusal::CurrencyMismatch));
    let euros = Money { currency: Currency::parse("eur").unwrap(), ..money(900) };
    let both = SessionTotal { settlement: money(1000), presentment: Some(euros) };
    world.session.note_total(0, Some(both), None, present(1));
    assert_eq!(world.begin("c1", 1).unwrap().checked, euros);
}

#[test]
fn without_a_token_only_a_purchase_order_limit_lets_a_claim_begin() {
    let mut world = World::new();
    let mut request = BeginClaim {
        claim: claim_id("c1"),
        agent: world.session.owner.clone(),
        total_max_age: GRACE,
        purchase_order_limit: None,
        pays_nothing: false,
        handler: None,
        until: at(30),
        place: None,
    };
    let refused = begin_claim::<u8>(&mut world.session, None, &request, present(1));
    assert_eq!(refused, Err(ClaimRefusal::PurchaseOrderRefused));
    request.purchase_order_limit = Some(money(1000));
    assert!(begin_claim::<u8>(&mut world.session, None, &request, present(1)).is_ok());
}

#[test]
fn a_handler_that_is_named_must_be_one_that_the_session_lists_where_it_lists_any() {
    let mark = |number: u8| HandlerMark([number; 8]);
    let begin = |listed: &[u8], handler: Option<u8>| {
        let mut world = World::new();
        world.session.handlers = Handlers::of(listed.iter().copied().map(mark));
        let request = BeginClaim {
            claim: claim_id("c1"),
            agent: world.session.owner.clone(),
            total_max_age: GRACE,
            purchase_order_limit: None,
            pays_nothing: false,
            handler: handler.map(mark),
            until: at(30),
            place: None,
        };
        begin_claim(&mut world.session, Some(&mut world.token), &request, present(1)).map(|_| ())
    };
    assert_eq!(begin(&[1, 2], Some(2)), Ok(()));
    assert_eq!(begin(&[1, 2], None), Ok(()), "named before 2026-01-30 by none");
    assert_eq!(begin(&[], Some(3)), Ok(()));
    assert_eq!(begin(&[1, 2], Some(3)), Err(ClaimRefusal::HandlerUnlisted));
}

#[test]
fn with_nothing_to_pay_with_only_a_total_of_zero_lets_a_claim_begin() {
    let begin = |settlement: u64, presentment: Option<u64>| {
        let mut world = World::new();
        let euros = |amount| Money { currency: Currency::parse("eur").unwrap(), ..money(amount) };
        let total = SessionTotal { settlement: money(settlement), presentment: presentment.map(euros) };
        world.session.note_total(0, Some(total), None, present(1));
        let request = BeginClaim {
            claim: claim_id("c1"),
            agent: world.session.owner.clone(),
            total_max_age: GRACE,
            // However much a purchase order may be for.
            purchase_order_limit: Some(money(1000)),
            pays_nothing: true,
            handler: None,
            until: at(30),
            place: None,
        };
        begin_claim::<u8>(&mut world.session, None, &request, present(1)).map(|begun| begun.checked)
    };
    assert_eq!(begin(0, None), Ok(money(0)));
    assert_eq!(begin(0, Some(0)), Ok(money(0)));
    assert_eq!(begin(1, None), Err(ClaimRefusal::PaymentDue));
    assert_eq!(begin(0, Some(1)), Err(ClaimRefusal::PaymentDue));
}

// Totals and mutations

#[test]
fn a_total_counts_only_from_the_answer_to_a_mutation_that_nothing_overlapped() {
    let mut session = World::new().session;
    let first = session.begin_mutation(present(1), at(30)).unwrap();
    let second = session.begin_mutation(present(1), at(30)).unwrap();
    assert_eq!(session.fresh_total(at(1), GRACE), None);
    session.end_mutation(second, total(7), None, at(2));
    assert_eq!(session.fresh_total(at(2), GRACE), None);
    session.end_mutation(first, total(9), None, at(3));
    assert_eq!(session.fresh_total(at(3), GRACE), None);
    let alone = session.begin_mutation(present(4), at(30)).unwrap();
    session.end_mutation(alone, total(8), None, at(4));
    assert_eq!(session.fresh_total(at(4), GRACE), total(8));
}

#[test]
fn an_unreadable_answer_erases_the_total_and_an_old_one_does_not_count() {
    let mut session = World::new().session;
    assert_eq!(session.fresh_total(at(61), GRACE), None);
    let sequence = session.begin_mutation(present(1), at(30)).unwrap();
    session.end_mutation(sequence, None, None, at(2));
    assert_eq!(session.fresh_total(at(2), GRACE), None);
}

#[test]
fn a_change_that_reached_nobody_leaves_the_session_where_it_was() {
    let mut session = World::new().session;
    for (shown_at, known) in
        [(Some(here().url), here().url), (None, here().url), (Some(standby().url), standby().url)]
    {
        let sequence = session.begin_mutation(present(1), at(30)).unwrap();
        session.end_mutation(sequence, None, shown_at.as_ref(), at(2));
        assert_eq!(session.places.total, Some(known));
    }
}

#[test]
fn a_complete_in_doubt_erases_the_total() {
    assert_eq!(World::in_doubt().session.total, None);
}

#[test]
fn a_read_that_a_mutation_overtook_sets_no_total() {
    let mut session = World::new().session;
    let before = session.sequence;
    let sequence = session.begin_mutation(present(1), at(30)).unwrap();
    session.note_total(before, total(5), None, present(2));
    assert_eq!(session.total, None);
    session.note_total(sequence, total(5), None, present(2));
    assert_eq!(session.total, None);
}

#[test]
fn a_read_that_started_during_a_mutation_sets_no_total_when_it_ends_after_it() {
    let mut session = World::new().session;
    let sequence = session.begin_mutation(present(1), at(30)).unwrap();
    let read_started = session.sequence;
    session.end_mutation(sequence, total(9000), None, at(3));
    session.note_total(read_started, total(5), None, present(4));
    assert_eq!(session.fresh_total(at(4), GRACE), total(9000));
    let given_up = session.begin_mutation(present(5), at(30)).unwrap();
    session.note_total(session.sequence, total(5), None, present(32));
    session.end_mutation(given_up, total(6), None, at(33));
    assert_eq!(session.total, None, "an answer that comes after all: what was read may be older");
}

#[test]
fn a_claim_and_a_mutation_exclude_each_other() {
    let mut world = World::claimed();
    assert_eq!(world.session.begin_mutation(present(2), at(30)), Err(SessionBusy));
    let mut world = World::new();
    world.session.begin_mutation(present(1), at(30)).unwrap();
    assert_eq!(world.begin("c1", 2), Err(ClaimRefusal::SessionBusy));
}

#[test]
fn mutations_of_a_former_process_hold_nothing_up() {
    let mut world = World::new();
    world.session.begin_mutation(present(1), at(30)).unwrap();
    let later = Moment::at(at(2), 2);
    assert!(!world.session.has_open_mutation(later));
    world.session.note_total(world.session.sequence, total(1000), None, later);
    assert_eq!(world.session.fresh_total(at(2), GRACE), total(1000));
}

#[test]
fn a_session_holds_so_many_live_tokens_and_no_more() {
    let mut session = World::new().session;
    let id = |n: u8| TokenId::assemble("abcdefghij", &format!("{n:022}")).unwrap();
    assert_eq!(session.add_token(id(1), at(EXPIRY), 1, at(1)), Err(TooManyTokens));
    assert_eq!(session.add_token(id(1), at(EXPIRY + 5), 1, at(EXPIRY)), Ok(()));
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u8),
    Reenter(u8),
    Settle(u8, u32, Outcome),
    Redeem(u8),
    Revoke,
    Observe(Lifecycle, bool),
    Wait(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        Just(Outcome::Charged),
        Just(Outcome::Pending),
        Just(Outcome::InDoubt),
        Just(REFUSED),
        Just(Outcome::Refused),
        Just(Outcome::NotCharged { recorded: false })
    ];
    let lifecycle = prop_oneof![
        Just(Lifecycle::Open),
        Just(Lifecycle::Closed),
        Just(Lifecycle::Working),
        Just(Lifecycle::Unknown),
        Just(Lifecycle::Completed)
    ];
    let step = prop_oneof![
        4 => (0..4u8).prop_map(Step::Begin),
        2 => (0..4u8).prop_map(Step::Reenter),
        4 => (0..4u8, 1..4u32, outcome).prop_map(|(c, a, o)| Step::Settle(c, a, o)),
        2 => (0..4u8).prop_map(Step::Redeem),
        1 => Just(Step::Revoke),
        2 => (lifecycle, any::<bool>()).prop_map(|(shown, by_standby)| Step::Observe(shown, by_standby)),
        2 => (1..100i64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Under any interleaving: one open claim, held by the token it names; a claim begins only
    /// while nothing is charged; doubt is never released by a refusal; the card leaves at most
    /// once a claim; a consumed token stays consumed; a base URL where the claim is not releases nothing.
    #[test]
    fn no_interleaving_breaks_single_use(steps in steps()) {
        let mut world = World::new();
        let (mut now, mut incarnation) = (0, 1);
        let mut redeemed = std::collections::HashMap::new();
        for step in steps {
            let here = Moment::at(at(now), incarnation);
            let consumed_before = matches!(world.token.state, TokenState::Consumed { .. });
            let charged_before = matches!(world.session.ending, Some(Ending::Charged { .. }));
            let contested_before = world.session.claim.as_ref().is_some_and(|claim| claim.contested);
            let name = |c: u8| claim_id(&format!("c{c}"));
            match step {
                Step::Begin(c) => {
                    let request = BeginClaim { claim: name(c), agent: world.session.owner.clone(), total_max_age: Duration::from_secs(1_000_000), purchase_order_limit: None, pays_nothing: false, handler: None, until: at(now + 30), place: Some(self::here().url) };
                    let began = begin_claim(&mut world.session, Some(&mut world.token), &request, here).is_ok();
                    prop_assert!(!(began && (charged_before || consumed_before)));
                }
                Step::Reenter(c) => { let _ = reenter(&mut world.session, Some(&world.token), &name(c), &open_at(total(1000), now), AWAITED, at(now + 30), here); }
                Step::Settle(c, attempt, outcome) => {
                    let settlement = settle(&mut world.session, Some(&mut world.token), &name(c), attempt, outcome, here);
                    if contested_before && matches!(outcome, Outcome::NotCharged { .. } | Outcome::Refused) {
                        prop_assert_ne!(settlement, Settlement::Released);
                    }
                }
                Step::Redeem(c) => {
                    let opened = world.session.claim.as_ref().map(|claim| (claim.id.clone(), claim.opened_at));
                    let request = Redeem { claim: name(c), amount: money(1000), replay_window: REPLAY, every_claim: true };
                    if redeem(&mut world.session, &world.token, &request, here) == Ok(Redeemed::First) {
                        *redeemed.entry(opened).or_insert(0) += 1;
                    }
                }
                Step::Revoke => { let _ = revoke(&mut world.session, &mut world.token, here); }
                Step::Observe(lifecycle, by_standby) => {
                    let shown_at = if by_standby { standby() } else { self::here() };
                    let observation = Observation { lifecycle, total: None, asked_at: here.steady, order: None, shown_at, handlers: Handlers::default() };
                    let settlement = observe(&mut world.session, Some(&mut world.token), &observation, GRACE, here);
                    prop_assert!(!(by_standby && settlement == Settlement::Released));
                }
                Step::Wait(seconds) => now += seconds,
                Step::Restart => incarnation += 1,
            }
            now += 1;
            match (&world.session.claim, &world.token.state) {
                (Some(claim), TokenState::Claimed { claim: by }) => prop_assert_eq!(&claim.id, by),
                (Some(_), TokenState::Consumed { .. }) => {}
                (Some(_), other) => prop_assert!(false, "an open claim over {:?}", other),
                (None, TokenState::Claimed { .. }) => prop_assert!(false, "a token held by nothing"),
                (None, _) => {}
            }
            prop_assert!(world.token.attempts <= world.token.answered && world.token.answered <= world.session.answered);
            prop_assert!(!world.token.is_worn_out() || world.token.has_ended(at(now)));
            if let TokenState::Consumed { .. } | TokenState::Revoked { .. } = world.token.state {
                prop_assert_eq!(&world.token.instrument, &Instrument::Deleted);
            }
            if consumed_before {
                let still_consumed = matches!(world.token.state, TokenState::Consumed { .. });
                prop_assert!(still_consumed);
            }
        }
        prop_assert!(redeemed.values().all(|times| *times == 1));
    }
}
