//! Completes that wait for one read of their session's total.

use std::sync::Arc;
use std::time::Duration;

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::shop::{Behaviour, CallKind};
use tokio::task::JoinSet;

use crate::world::*;

/// How long this merchant is waited for.
const DEADLINE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_total_that_does_not_come_is_answered_with_who_asked_for_it() {
    const WAITERS: usize = 5;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let total = DEADLINE.as_secs();
    let merchant = format!("[merchants.deadlines]\nfirst_byte = \"{total}s\"\ntotal = \"{total}s\"");
    let options = Options { merchant, clock: Some(clock.clone()), ..Options::default() };
    let world = World::with(options).await;
    let alpha = world.alpha();
    let (session, amount) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, amount).await;
    // The total that the create showed is out of date.
    clock.advance(Duration::from_secs(11 * 60));
    world.lamps.behave(CallKind::Read, Behaviour::HoldBefore);
    let mut asking = JoinSet::new();
    let mut ask = || {
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        asking.spawn(async move { complete(&alpha, "lamps", &session, &token).await });
    };
    ask();
    world.lamps.received(CallKind::Read, 1).await;
    (0..WAITERS).for_each(|_| ask());
    let answers = tokio::time::timeout(DEADLINE * 3, asking.join_all()).await.expect("one after the other");
    let mut codes: Vec<_> = answers.iter().map(|answer| answer.code().unwrap()).collect();
    codes.sort();
    assert_eq!(codes.pop().as_deref(), Some("merchant_timeout"));
    assert_eq!(codes, vec!["checkout_session_busy"; WAITERS]);
    assert!(answers.iter().all(|answer| answer.status == 504 || answer.header("retry-after").is_some()));
    assert_eq!(world.lamps.calls_of(CallKind::Read).len(), 1, "nobody asked again in turn");
    // Nothing was begun, and every place was given back.
    world.lamps.behave_well();
    world.lamps.release();
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.text("/status").unwrap(), "completed");
}
