//! When a breaker opens, who opens it, and what closes it again.

use super::*;
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::{Clock, ManualClock};
use crate::domain::id::MerchantId;
use crate::limit::fixture::{agent, merchant};
use crate::registry::Registry;

const SECOND: Duration = Duration::from_secs(1);

/// The breakers of two merchants, and a clock that stands still unless it is told otherwise.
struct Town {
    breakers: Breakers,
    clock: ManualClock,
}

fn registry(agents: &[&str]) -> Registry {
    let agents = agents.iter().map(|id| agent(id, 1, 1)).collect();
    Registry::new(agents, ["shop", "other"].map(|id| merchant(id, 1, 1, 1)).into(), vec![])
}

/// The only one of every merchant there.
fn url() -> BaseUrl {
    BaseUrl::new("https://merchant.example")
}

fn shop() -> MerchantId {
    MerchantId::parse("shop").unwrap()
}

impl Town {
    fn of(agents: &[&str]) -> Self {
        let clock = ManualClock::new(Timestamp::from_unix_seconds(1_000_000));
        Self { breakers: Breakers::new(&registry(agents)), clock }
    }

    fn said(&self, who: &str, asked: Asked, sign: Sign) -> Option<Change> {
        let agent = AgentId::parse(who);
        self.breakers.note(&shop(), &url(), &Report { agent: agent.as_ref(), asked, sign }, &self.clock)
    }

    /// So many changes each of these agents asks for, in turn.
    fn turns(&self, turns: usize, agents: &[&str], sign: Sign) -> Option<Change> {
        let mut turns = (0..turns).flat_map(|_| agents);
        turns.find_map(|who| self.said(who, Asked::Change, sign))
    }

    /// A read that the worker makes.
    fn worker(&self, sign: Sign) -> Option<Change> {
        let report = Report { agent: None, asked: Asked::Read, sign };
        self.breakers.note(&shop(), &url(), &report, &self.clock)
    }

    fn standing(&self) -> Standing {
        self.breakers.standing(&shop())
    }

    fn is_open(&self) -> bool {
        matches!(self.standing(), Standing::Open(_))
    }

    fn to_look_at(&self) -> Vec<MerchantId> {
        self.breakers.to_look_at(self.clock.steady()).into_iter().map(|(id, _)| id).collect()
    }

    fn looked(&self, is_reached: bool) -> Option<Change> {
        self.breakers.looked(&shop(), &url(), is_reached, self.clock.steady())
    }
}

/// Three agents, and a shop that nobody reaches.
fn open() -> Town {
    let town = Town::of(&["a", "b", "c"]);
    assert_eq!(town.turns(7, &["a", "b", "c"], Sign::Unreachable), Some(Change::Opened(Cause::Unanswered)));
    town
}

#[test]
fn it_opens_once_twenty_requests_of_three_agents_were_not_answered_and_only_for_that_merchant() {
    let town = Town::of(&["a", "b", "c"]);
    assert_eq!(town.turns(6, &["a", "b", "c"], Sign::Late), None);
    assert_eq!(town.said("a", Asked::Change, Sign::Late), None, "that is nineteen");
    assert_eq!(town.standing(), Standing::Closed);
    assert_eq!(town.said("b", Asked::Complete, Sign::Late), Some(Change::Opened(Cause::Unanswered)));
    assert!(town.is_open());
    assert_eq!(town.breakers.standing(&MerchantId::parse("other").unwrap()), Standing::Closed);
}

#[test]
fn it_opens_where_seventy_of_a_hundred_fail_and_not_where_fewer_do() {
    for (failures, opens) in [(6, false), (7, true)] {
        let town = Town::of(&["a", "b", "c"]);
        // The first failure begins what is counted.
        assert_eq!(town.turns(1, &["a", "b", "c"], Sign::Failing), None);
        assert_eq!(town.turns(10 - failures, &["a", "b", "c"], Sign::Answered), None);
        let change = town.turns(failures - 1, &["a", "b", "c"], Sign::Failing);
        assert_eq!(change, opens.then_some(Change::Opened(Cause::Failing)), "{failures} of 10");
    }
}

#[test]
fn what_came_before_the_first_failure_hides_no_failure() {
    let town = Town::of(&["a", "b", "c"]);
    assert_eq!(town.turns(1_000, &["a", "b", "c"], Sign::Answered), None);
    assert_eq!(town.turns(7, &["a", "b", "c"], Sign::Failing), Some(Change::Opened(Cause::Failing)));
}

#[test]
fn an_answer_between_them_makes_a_row_begin_anew() {
    let town = Town::of(&["a", "b", "c"]);
    for _ in 0..5 {
        assert_eq!(town.turns(3, &["a", "b", "c"], Sign::Late), None);
        assert_eq!(town.turns(6, &["a", "b", "c"], Sign::Answered), None);
    }
    // Also one that only the worker got.
    assert_eq!(town.turns(3, &["a", "b", "c"], Sign::Late), None);
    assert_eq!(town.worker(Sign::Answered), None);
    assert_eq!(town.said("a", Asked::Change, Sign::Late), None);
}

#[test]
fn what_one_agent_sends_opens_nothing_however_much_it_is_and_whatever_comes_of_it() {
    for sign in [Sign::Failing, Sign::Late, Sign::Unreachable] {
        let town = Town::of(&["a", "b", "c"]);
        assert_eq!(town.turns(10_000, &["poisoner"], sign), None, "{sign:?}");
        assert_eq!(town.turns(100, &["b", "c"], Sign::Answered), None);
        assert_eq!(town.turns(10_000, &["poisoner"], sign), None, "{sign:?}");
        // A few that fail by chance change nothing.
        assert_eq!(town.turns(20, &["b", "c"], Sign::Failing), None);
        assert_eq!(town.turns(10_000, &["poisoner"], sign), None, "{sign:?}");
    }
}

#[test]
fn two_agents_of_three_are_not_enough_and_all_are_where_there_are_fewer() {
    let of_three = Town::of(&["a", "b", "c"]);
    assert_eq!(of_three.turns(1_000, &["a", "b"], Sign::Unreachable), None);
    let of_two = Town::of(&["a", "b"]);
    assert_eq!(of_two.turns(1_000, &["a"], Sign::Unreachable), None);
    assert!(of_two.turns(11, &["b"], Sign::Unreachable).is_some());
    let alone = Town::of(&["a"]);
    assert_eq!(alone.turns(19, &["a"], Sign::Unreachable), None);
    assert!(alone.turns(1, &["a"], Sign::Unreachable).is_some());
}

#[test]
fn what_a_merchant_refuses_is_no_failure_and_to_be_told_to_slow_down_is_none() {
    let town = Town::of(&["a", "b", "c"]);
    let busy = Sign::Busy(Asking { wait: SECOND, took: SECOND, under_way: 8, is_signed: true });
    assert_eq!(town.turns(1, &["a", "b", "c"], Sign::Failing), None);
    assert_eq!(town.turns(1_000, &["a", "b", "c"], busy), None);
    assert_eq!(town.standing(), Standing::Closed);
}

#[test]
fn what_is_counted_is_forgotten_after_the_window() {
    let town = Town::of(&["a", "b", "c"]);
    assert_eq!(town.turns(6, &["a", "b", "c"], Sign::Unreachable), None);
    town.clock.advance(30 * SECOND);
    assert_eq!(town.turns(6, &["a", "b", "c"], Sign::Unreachable), None);
    town.clock.advance(29 * SECOND);
    assert!(town.turns(1, &["a", "b", "c"], Sign::Unreachable).is_some());
}

#[test]
fn a_read_that_is_answered_closes_it_whosever_it_is_and_no_complete_does() {
    for by_worker in [true, false] {
        let town = open();
        town.clock.advance(2 * SECOND);
        // What was under way when it opened.
        for asked in [Asked::Complete, Asked::Change] {
            assert_eq!(town.said("a", asked, Sign::Answered), None);
        }
        assert_eq!(town.said("a", Asked::Read, Sign::Failing), None);
        assert!(town.is_open());
        let change =
            if by_worker { town.worker(Sign::Answered) } else { town.said("a", Asked::Read, Sign::Answered) };
        assert_eq!(change, Some(Change::Closed(2 * SECOND)));
        assert_eq!(town.standing(), Standing::Closed);
        // What came before counts no more.
        assert_eq!(town.turns(6, &["a", "b", "c"], Sign::Unreachable), None);
    }
}

#[test]
fn after_five_seconds_without_a_read_it_is_connected_to_by_one_who_asks() {
    let town = open();
    town.clock.advance(4 * SECOND);
    assert_eq!(town.to_look_at(), []);
    assert_eq!(town.standing(), Standing::Open(town.clock.steady().plus(SECOND)), "agents are told as much");
    // A read that reached nobody said the same.
    assert_eq!(town.worker(Sign::Unreachable), None);
    town.clock.advance(4 * SECOND);
    assert_eq!(town.to_look_at(), []);
    town.clock.advance(SECOND);
    assert_eq!(town.to_look_at(), [shop()]);
    assert_eq!(town.to_look_at(), [], "one is enough");
    town.clock.advance(2 * SECOND);
    assert_eq!(town.looked(false), None);
    town.clock.advance(4 * SECOND);
    assert_eq!(town.to_look_at(), []);
    town.clock.advance(SECOND);
    assert_eq!(town.to_look_at(), [shop()]);
    assert_eq!(town.looked(true), Some(Change::HalfOpened));
    assert_eq!((town.standing(), town.to_look_at()), (Standing::HalfOpen, vec![]));
}

#[test]
fn reads_that_one_agent_has_poisoned_keep_nobody_from_looking() {
    let town = open();
    for _ in 0..5 {
        assert_eq!(town.said("a", Asked::Read, Sign::Failing), None);
        assert_eq!(town.said("a", Asked::Read, Sign::Late), None);
        town.clock.advance(SECOND);
    }
    assert_eq!(town.to_look_at(), [shop()]);
}

fn half_open() -> Town {
    let town = open();
    town.clock.advance(5 * SECOND);
    assert_eq!(town.to_look_at(), [shop()]);
    assert_eq!(town.looked(true), Some(Change::HalfOpened));
    town
}

#[test]
fn half_open_it_closes_by_an_answer_to_anything_but_a_complete() {
    for asked in [Asked::Read, Asked::Change] {
        let town = half_open();
        for sign in [Sign::Answered, Sign::Unreachable] {
            assert_eq!(town.said("a", Asked::Complete, sign), None);
        }
        assert_eq!(town.standing(), Standing::HalfOpen);
        assert_eq!(town.said("a", asked, Sign::Answered), Some(Change::Closed(5 * SECOND)));
    }
}

#[test]
fn half_open_it_opens_again_where_nobody_is_there_or_as_it_did_and_by_no_single_agent() {
    let town = half_open();
    assert_eq!(town.turns(10_000, &["poisoner"], Sign::Failing), None);
    assert_eq!(town.turns(10_000, &["poisoner"], Sign::Late), None);
    assert_eq!(town.standing(), Standing::HalfOpen);
    assert_eq!(town.turns(10, &["b", "c"], Sign::Failing), Some(Change::Reopened));
    let town = half_open();
    assert_eq!(town.said("a", Asked::Read, Sign::Unreachable), Some(Change::Reopened));
    assert_eq!(town.to_look_at(), [], "it was tried just now");
}

#[test]
fn a_reload_neither_closes_nor_forgets_nor_keeps_who_is_gone() {
    let town = open();
    let after = registry(&["a", "b", "c", "d"]);
    let reloaded = town.breakers.reloaded(&after);
    reloaded.judge_by(&after);
    assert!(matches!(reloaded.standing(&shop()), Standing::Open(_)));
    // What was sent before and ends after is learnt by both.
    assert!(town.said("a", Asked::Read, Sign::Answered).is_some());
    assert_eq!(reloaded.standing(&shop()), Standing::Closed);
    let without = Registry::new(vec![], vec![merchant("other", 1, 1, 1)], vec![]);
    let left: Vec<_> = reloaded.reloaded(&without).standings().map(|(id, _)| id.to_string()).collect();
    assert_eq!(left, ["other"]);
}

#[test]
fn what_a_reload_says_of_agents_and_bounds_is_what_is_judged_by() {
    let town = Town::of(&["a"]);
    let mut entry = merchant("shop", 1, 1, 1);
    entry.breaker.requests = 40;
    let after = Registry::new(["a", "b"].map(|id| agent(id, 1, 1)).into(), vec![entry], vec![]);
    let breakers = town.breakers.reloaded(&after);
    breakers.judge_by(&after);
    let town = Town { breakers, ..town };
    assert_eq!(town.turns(1_000, &["a"], Sign::Unreachable), None);
    assert_eq!(town.turns(19, &["b"], Sign::Unreachable), None);
    assert!(town.turns(1, &["b"], Sign::Unreachable).is_some());
}

#[test]
fn an_agent_that_is_told_to_slow_down_does_for_so_long_and_others_do_not() {
    let town = Town::of(&["a", "b", "c"]);
    let [a, b] = ["a", "b"].map(|id| AgentId::parse(id).unwrap());
    let slowed = |who| town.breakers.slowed(&shop(), who, true, &town.clock);
    let told = |wait, took, under_way| {
        let asking = Asking { wait, took, under_way, is_signed: true };
        assert_eq!(town.said("a", Asked::Change, Sign::Busy(asking)), None);
    };
    told(3 * SECOND, SECOND, 16);
    assert_eq!(slowed(&a), Some(Slowed { at_most: 8, wait: 3 * SECOND }));
    assert_eq!(slowed(&b), None);
    assert_eq!(town.breakers.slowed(&shop(), &a, false, &town.clock), None, "what it does not sign");
    town.clock.advance(SECOND);
    // Those that were under way with it say nothing new, one that came after does.
    told(4 * SECOND, 2 * SECOND, 16);
    assert_eq!(slowed(&a), Some(Slowed { at_most: 8, wait: 4 * SECOND }));
    told(SECOND, SECOND / 2, 8);
    assert_eq!(slowed(&a), Some(Slowed { at_most: 4, wait: SECOND }));
    town.clock.advance(SECOND);
    assert_eq!(slowed(&a), None);
    // Whatever it says, it is neither stopped nor slowed for ever.
    told(3_600 * SECOND, Duration::ZERO, 1);
    assert_eq!(slowed(&a), Some(Slowed { at_most: 1, wait: 60 * SECOND }));
    assert_eq!(town.standing(), Standing::Closed);
}
