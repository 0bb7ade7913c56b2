//! A complete in doubt that is repeated without end.
//!
//! However often that is, its session is read once at a time and at a pace, and who repeats it is told
//! how long it takes.

use countersign::quickstart::shop::{Behaviour, CallKind};
use tokio::task::JoinSet;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A purchase at a merchant that ignores keys, whose complete never arrived.
async fn lost(doubt: &Doubt) -> Purchase<'_> {
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    purchase
}

impl Purchase<'_> {
    /// Repeats the complete so often at once.
    fn repeats(&self, times: usize) -> JoinSet<Answer> {
        let call = self.agent.post(self.path("/complete"), &payment(&self.token)).key(&*self.key);
        let call = call.prepare().unwrap();
        let mut repeating = JoinSet::new();
        for _ in 0..times {
            let (agent, call) = (self.agent.clone(), call.clone());
            repeating.spawn(async move { agent.send(&call).await.unwrap() });
        }
        repeating
    }

    /// How often its session was read.
    fn reads(&self) -> usize {
        self.calls().iter().filter(|call| call.kind == CallKind::Read).count()
    }
}

fn waits(answer: &Answer) -> u64 {
    assert_unknown(answer);
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_repeats_at_a_slow_merchant_are_one_read_and_the_next_comes_after_two_seconds() {
    let slow = Options { keyless_shops: true, careless_shops: true, ..Options::default() };
    let doubt = Doubt::waiting("20s", slow).await;
    let purchase = lost(&doubt).await;
    doubt.shop().behave(CallKind::Read, Behaviour::HoldBefore);
    let mut repeating = purchase.repeats(1);
    received(doubt.shop(), CallKind::Read, 1).await;
    let mut more = purchase.repeats(49);
    let early = tokio::time::timeout(SECOND, more.join_next()).await;
    assert!(early.is_err(), "answered before the read: {early:?}");
    doubt.shop().behave_well();
    doubt.shop().release();
    repeating.spawn(async move {
        let answers = more.join_all().await;
        assert!(answers.iter().all(|answer| waits(answer) == 2));
        answers.into_iter().next().unwrap()
    });
    for answer in repeating.join_all().await {
        assert_eq!(waits(&answer), 2);
    }
    assert_eq!(purchase.reads(), 1);
    // Another session of the same merchant is read at once.
    let other = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&other.complete().await, 502, "merchant_answer_lost");
    assert_completed(&other.complete().await);
    // Until two seconds have passed nothing is read.
    assert_eq!(waits(&purchase.complete().await), 2);
    doubt.clock.advance(SECOND * 2 - Duration::from_millis(1));
    assert_eq!((waits(&purchase.complete().await), purchase.reads()), (1, 1));
    doubt.clock.advance(Duration::from_millis(1));
    assert_eq!((waits(&purchase.complete().await), purchase.reads()), (4, 2));
    assert_eq!(purchase.completes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_as_it_is_told_is_answered_when_the_grace_ends() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt).await;
    doubt.clock.advance(SECOND * 45);
    let mut told = Vec::new();
    loop {
        let answer = purchase.complete().await;
        if answer.status == 200 {
            break;
        }
        let wait = waits(&answer);
        assert!(told.len() < 10, "{told:?}");
        doubt.clock.advance(SECOND * u32::try_from(wait).unwrap());
        told.push(wait);
    }
    // The minute is over one second after the fourth read, and two are between any.
    assert_eq!(told, [2, 4, 8, 2]);
    assert_eq!(purchase.completes().len(), 2);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_shows_the_order_answers_all_who_asked() {
    let slow = Options { keyless_shops: true, careless_shops: true, ..Options::default() };
    let doubt = Doubt::waiting("20s", slow).await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.shop().behave_once(CallKind::Read, Behaviour::HoldBefore);
    let repeating = purchase.repeats(20);
    received(doubt.shop(), CallKind::Read, 1).await;
    doubt.shop().release();
    for answer in repeating.join_all().await {
        assert_completed(&answer);
    }
    assert_eq!(purchase.reads(), 1, "who came when the order was known found the answer");
    assert_eq!(purchase.completes().len(), 1);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_read_holds_no_place_at_the_merchant() {
    let slow = Options { keyless_shops: true, careless_shops: true, ..Options::default() };
    let mut doubt = Doubt::waiting("20s", slow).await;
    // Two of them may be this agent's.
    doubt.world.reopen(&[], |text| text.replace("concurrency = 4000", "concurrency = 8")).await;
    let purchase = lost(&doubt).await;
    doubt.shop().behave_once(CallKind::Read, Behaviour::HoldBefore);
    let mut repeating = purchase.repeats(1);
    received(doubt.shop(), CallKind::Read, 1).await;
    let mut more = purchase.repeats(11);
    let waiting = tokio::time::timeout(SECOND, more.join_next()).await;
    assert!(waiting.is_err(), "refused for its waiting: {waiting:?}");
    let (other, _) = create(&purchase.agent, "lamps").await;
    assert_ne!(other, purchase.session);
    doubt.shop().release();
    for answer in more.join_all().await {
        assert_eq!(waits(&answer), 2);
    }
    assert_eq!(waits(&repeating.join_next().await.unwrap().unwrap()), 2);
    assert_eq!(purchase.reads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_something_else_of_a_session_in_doubt_is_told_to_wait_the_longer_the_longer_it_is() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt).await;
    let token = mint(&purchase.agent, "lamps", &purchase.session, GOOD_CARD, purchase.total).await;
    let mut told = Vec::new();
    for passed in [0, 10, 40] {
        doubt.clock.advance(SECOND * passed);
        let other = purchase.agent.post(purchase.path("/complete"), &payment(&token)).send().await.unwrap();
        for answer in [purchase.update().await, purchase.cancel().await, other] {
            assert_told(&answer, 409, "checkout_session_busy");
            told.push(answer.header("retry-after").unwrap().to_owned());
        }
    }
    assert_eq!(told, ["1", "1", "1", "5", "5", "5", "25", "25", "25"]);
}
