//! Gathering, judging and handing back together, over a store whose callers interleave.

use std::sync::Arc;

use super::*;
use crate::crypto::digest::sha256;
use crate::domain::clock::{Clock as _, ManualClock, Timestamp};
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::idempotency::{Scope, ScopeParts};
use crate::limit::fixture;
use crate::records::StoreError;
use crate::records::memory::MemoryStore;
use crate::registry::Agent;

struct House {
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
    velocity: Velocity,
    settings: Settings,
}

fn house() -> House {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_800_000_000)));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let velocity = Velocity::new(store.clone());
    let settings = Settings {
        card_testing: CardTesting { deny_above: Threshold::new(10), ..CardTesting::default() },
        small_amounts: SmallAmounts { deny_above: Threshold::new(5), ..SmallAmounts::default() },
        ..Settings::default()
    };
    House { clock, store, velocity, settings }
}

fn agent(id: &str) -> Agent {
    fixture::agent(id, 10, 10)
}

fn card(n: u32) -> CardFingerprint {
    CardFingerprint::from_bytes(sha256(&[&n.to_be_bytes()]))
}

fn usd(amount: u64) -> Money {
    Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse("usd").unwrap() }
}

fn operation(agent: &Agent, key: &str) -> Scope {
    ScopeParts { agent: &agent.id, merchant: None, method: "POST", path: "/complete", key }.scope()
}

impl House {
    /// A mint that begins if the rules let it.
    async fn mint(&self, agent: &Agent, card: &CardFingerprint) -> Result<Cleared, Denied> {
        let attempt = MintAttempt { agent, amount: usd(5_000), card, signals: &[] };
        let (facts, reservation) =
            gather_mint(&self.velocity, &self.settings, attempt, self.clock.now()).await.unwrap();
        match evaluate(&facts, &self.settings) {
            Ok(cleared) => {
                reservation.commit();
                Ok(cleared)
            }
            Err(denied) => {
                reservation.release().await;
                Err(denied)
            }
        }
    }

    /// The facts of a complete, which is then kept or released.
    async fn complete(&self, agent: &Agent, amount: u64, key: &str, keep: bool) -> (u32, u32) {
        let operation = operation(agent, key);
        let card = card(1);
        let attempt =
            CompleteAttempt { agent, amount: usd(amount), card: Some(&card), operation: &operation };
        let (facts, reservation) =
            gather_complete(&self.velocity, &self.settings, attempt, self.clock.now()).await.unwrap();
        if keep {
            reservation.commit()
        } else {
            reservation.release().await
        }
        (facts.small_amounts, facts.declines)
    }
}

#[tokio::test]
async fn a_card_counts_once_however_often_it_is_used() {
    let house = house();
    for _ in 0..100 {
        house.mint(&agent("a"), &card(1)).await.unwrap();
    }
}

#[tokio::test]
async fn of_64_mints_in_parallel_with_distinct_cards_exactly_the_limit_passes() {
    let house = Arc::new(house());
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let house = Arc::clone(&house);
            tokio::spawn(async move { house.mint(&agent("a"), &card(n)).await.is_ok() })
        })
        .collect();
    let mut passed = 0;
    for task in tasks {
        passed += u32::from(task.await.unwrap());
    }
    assert_eq!(passed, 10);

    // The refused ones count nowhere: a known card passes, a new one still does not, and when the
    // window has slid the agent is as new.
    let denied = house.mint(&agent("a"), &card(1_000)).await.unwrap_err();
    assert_eq!(denied.by.code, "card_testing");
    house.mint(&agent("b"), &card(1_000)).await.unwrap();
    house.clock.advance(house.settings.card_testing.window);
    house.mint(&agent("a"), &card(1_000)).await.unwrap();
}

#[tokio::test]
async fn refused_mints_leave_nothing_behind() {
    let house = house();
    for n in 0..50 {
        let card = card(n);
        let agent = agent("a");
        let attempt = MintAttempt { agent: &agent, amount: usd(1), card: &card, signals: &[] };
        let (_, reservation) =
            gather_mint(&house.velocity, &house.settings, attempt, house.clock.now()).await.unwrap();
        reservation.release().await;
    }
    assert!(house.store.dump().is_empty());
}

#[tokio::test]
async fn a_card_in_many_hands_is_reviewed_and_never_refused() {
    let house = house();
    let reviews: Vec<bool> = {
        let mut reviews = vec![];
        for n in 0..20 {
            reviews.push(house.mint(&agent(&format!("agent{n}")), &card(1)).await.unwrap().review());
        }
        reviews
    };
    assert_eq!(reviews.iter().filter(|review| !**review).count(), 3);
}

#[tokio::test]
async fn small_completes_count_once_a_key_and_large_ones_never() {
    let house = house();
    assert_eq!(house.complete(&agent("a"), 200, "k1", true).await.0, 1);
    assert_eq!(house.complete(&agent("a"), 200, "k1", true).await.0, 1);
    assert_eq!(house.complete(&agent("a"), 200, "k2", false).await.0, 2);
    assert_eq!(house.complete(&agent("a"), 199, "k3", true).await.0, 2);
    assert_eq!(house.complete(&agent("a"), 201, "k4", true).await.0, 0);
    assert_eq!(house.complete(&agent("b"), 1, "k1", true).await.0, 1);
}

#[tokio::test]
async fn declines_count_per_agent_and_card_and_once_an_operation() {
    let house = house();
    let (now, victim) = (house.clock.now(), agent("a"));
    for key in ["k1", "k1", "k2"] {
        let operation = operation(&victim, key);
        record_decline(&house.velocity, &house.settings, &victim.id, &card(1), &operation, now)
            .await
            .unwrap();
    }
    assert_eq!(house.complete(&agent("a"), 5_000, "k9", true).await.1, 2);
    assert_eq!(house.complete(&agent("b"), 5_000, "k9", true).await.1, 0);
    house.clock.advance(house.settings.declines.window);
    assert_eq!(house.complete(&agent("a"), 5_000, "k9", true).await.1, 0);
}

#[tokio::test]
async fn when_the_store_cannot_answer_nothing_is_cleared_and_nothing_stays_counted() {
    let house = house();
    let (agent, card) = (agent("a"), card(1));
    let attempt = MintAttempt { agent: &agent, amount: usd(1), card: &card, signals: &[] };
    house.store.fail(Some(StoreError::Unavailable));
    let gathered = gather_mint(&house.velocity, &house.settings, attempt, house.clock.now()).await;
    assert_eq!(gathered.err(), Some(StoreError::Unavailable));
    house.store.fail(None);
    assert!(house.store.dump().is_empty());
}

#[tokio::test]
async fn a_rule_without_thresholds_keeps_no_counter() {
    let mut house = house();
    house.settings.card_testing =
        CardTesting { review_above: None, deny_above: None, ..CardTesting::default() };
    house.settings.shared_card.review_above = None;
    house.settings.declines = Declines { review_above: None, deny_above: None, ..Declines::default() };
    house.mint(&agent("a"), &card(1)).await.unwrap();
    assert_eq!(house.store.commits(), 0);
}

#[tokio::test]
async fn changes_that_wait_for_each_other_are_written_together() {
    let house = Arc::new(house());
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let house = Arc::clone(&house);
            tokio::spawn(async move { house.complete(&agent("a"), 1, &format!("k{n}"), true).await.0 })
        })
        .collect();
    let mut counts = vec![];
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=200).collect::<Vec<_>>());
    assert!(house.store.commits() < 20, "{} commits", house.store.commits());
}

#[tokio::test]
async fn two_processes_on_one_store_lose_no_count() {
    let house = Arc::new(house());
    let other = Arc::new(House {
        clock: Arc::clone(&house.clock),
        store: Arc::clone(&house.store),
        velocity: Velocity::new(house.store.clone()),
        settings: house.settings.clone(),
    });
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let house = Arc::clone(if n % 2 == 0 { &house } else { &other });
            tokio::spawn(async move { house.complete(&agent("a"), 1, &format!("k{n}"), true).await.0 })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(house.complete(&agent("a"), 1, "last", true).await.0, 101);
}

#[tokio::test]
async fn a_caller_that_is_dropped_while_it_waits_stops_nobody() {
    let house = Arc::new(house());
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let house = Arc::clone(&house);
            tokio::spawn(async move { house.complete(&agent("a"), 1, &format!("k{n}"), true).await.0 })
        })
        .collect();
    tokio::task::yield_now().await;
    for (n, task) in tasks.into_iter().enumerate() {
        if n % 3 == 0 {
            task.abort();
        } else {
            task.await.unwrap();
        }
    }
    let counted = house.complete(&agent("a"), 1, "last", true).await.0;
    assert!((34..=51).contains(&counted), "{counted}");
}

#[tokio::test]
async fn nothing_stored_names_an_agent_or_a_card() {
    let house = house();
    house.mint(&agent("recognisable-agent"), &card(1)).await.unwrap();
    house.complete(&agent("recognisable-agent"), 1, "k1", true).await;
    let whole_card = card(1);
    for (key, bytes) in house.store.dump() {
        let text = format!("{key:?}");
        assert!(!text.contains("recognisable"), "{text}");
        assert!(!bytes.windows(12).any(|part| part == b"recognisable"));
        assert!(!bytes.windows(32).any(|part| part == whole_card.as_bytes()));
    }
}

#[test]
fn a_threshold_never_exceeds_what_a_counter_remembers() {
    assert!(Threshold::new(0).is_none() && Threshold::new(1_001).is_none());
    assert_eq!(Threshold::new(1_000).map(Threshold::get), Some(1_000));
}
