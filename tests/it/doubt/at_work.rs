//! A merchant may be at work on a claim long after its answer was given up. While it may be, or shows
//! that it is, nothing is sent to it again and the claim is not given up.

use countersign::quickstart::client::{Client, Http};
use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Redeem};
use http::Request;
use http_body_util::Full;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Shops that take note of a key only with its answer, and are said to honour keys.
fn late() -> Options {
    Options { late_keys: true, careless_shops: true, ..Options::default() }
}

impl Purchase<'_> {
    /// What its merchant says to redeem the card.
    fn redeem(&self) -> Redeem {
        Redeem {
            token: self.token.clone(),
            claim: self.completes()[0].idempotency_key.clone().unwrap(),
            session: self.session.clone(),
            amount: self.total,
            currency: "usd".to_owned(),
        }
    }

    async fn redeemed(&self) -> Answer {
        self.world.lamps.redeem(&self.redeem()).await.unwrap().unwrap()
    }

    /// The merchant looks at its token.
    async fn viewed(&self) -> Answer {
        let tls = self.world.certificates.client().unwrap();
        let client = Client::new(self.world.app().public_address(), tls, Http::Two);
        let uri = format!("https://{GATEWAY}/agentic_commerce/granted_tokens/{}", self.token);
        let bearer = format!("Bearer {}", self.world.redeemer.expose());
        let request = Request::get(uri).header("authorization", bearer).body(Full::default()).unwrap();
        client.send(request).await.unwrap()
    }
}

fn waits(answer: &Answer) -> u64 {
    assert_unknown(answer);
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// A session of this purchase in a status, with an order or without.
fn shows(purchase: &Purchase<'_>, status: &str, order: Option<&str>) -> Behaviour {
    let order = order.map_or(String::new(), |order| format!(r#","order":{{"id":"{order}"}}"#));
    let mut shown = Canned::status(200);
    shown.body = format!(r#"{{"id":"{}","status":"{status}"{order}}}"#, purchase.session);
    Behaviour::Instead(shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_keeps_keys_only_with_its_answer_is_sent_nothing_again_while_it_may_be_at_work() {
    let doubt = Doubt::with(late()).await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    assert_told(&purchase.complete().await, 504, "merchant_timeout");
    assert_eq!(waits(&purchase.complete().await), AWAITED.as_secs());
    doubt.clock.advance(AWAITED - Duration::from_millis(1));
    // A millisecond more, but a session is not read twice within two seconds.
    assert_eq!(waits(&purchase.complete().await), 2);
    assert_eq!(purchase.completes().len(), 1, "sent once");
    // It wakes up, and redeems the card: its session is looked at as soon as it may be.
    doubt.clock.advance(Duration::from_millis(1));
    doubt.shop().release();
    doubt.until("the charge", async || !purchase.charges().is_empty()).await;
    doubt.clock.advance(SECOND * 2);
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 1, "sent once");
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_of_an_attempt_outlives_the_process_that_sent_it() {
    let mut doubt = Doubt::with(late()).await;
    let Purchase { agent: _, session, total, token, key, .. } = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let call = doubt.world.alpha().post(path, &payment(&token)).key(&*key).prepare().unwrap();
    let agent = doubt.world.alpha();
    let sent = tokio::spawn(async move { agent.send(&call).await });
    received(doubt.shop(), CallKind::Complete, 1).await;
    doubt.world.close().await;
    let _ = sent.await;
    doubt.world.open().await;
    let purchase = Purchase { world: &doubt.world, agent: doubt.world.alpha(), session, total, token, key };
    assert_eq!(waits(&purchase.complete().await), AWAITED.as_secs());
    doubt.clock.advance(AWAITED + SECOND);
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_again_while_a_redeem_or_a_look_at_the_token_is_fresh() {
    let doubt = Doubt::start().await;
    for sign in ["redeem", "view", "refused redeem"] {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
        assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
        doubt.clock.advance(AWAITED - SECOND);
        match sign {
            "redeem" => assert_eq!(purchase.redeemed().await.status, 200),
            "view" => assert_eq!(purchase.viewed().await.status, 200),
            _ => {
                let greedy = Redeem { amount: purchase.total + 1, ..purchase.redeem() };
                let refused = purchase.world.lamps.redeem(&greedy).await.unwrap().unwrap();
                assert_told(&refused, 422, "amount_exceeds_claim");
            }
        }
        doubt.clock.advance(SECOND * 2);
        assert_eq!(waits(&purchase.complete().await), AWAITED.as_secs() - 2, "{sign}");
        assert_eq!(purchase.completes().len(), 1, "{sign}");
        doubt.clock.advance(AWAITED - SECOND * 2);
        assert_completed(&purchase.complete().await);
        assert_eq!(purchase.completes().len(), 2, "{sign}");
        purchase.assert_charged_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_says_it_is_at_work_is_not_asked_again_at_once() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let mut busy = Canned::status(409);
    busy.body = r#"{"type":"invalid_request","code":"idempotency_in_flight","message":"x"}"#.to_owned();
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    assert_told(&purchase.complete().await, 504, "merchant_timeout");
    doubt.clock.advance(AWAITED);
    doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(busy));
    assert_told(&purchase.complete().await, 409, "idempotency_in_flight");
    assert_eq!(waits(&purchase.complete().await), AWAITED.as_secs());
    assert_eq!(purchase.completes().len(), 2);
    doubt.shop().release();
    doubt.until("the charge", async || !purchase.charges().is_empty()).await;
    doubt.clock.advance(SECOND * 2);
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_said_that_keys_are_honoured_nothing_is_sent_again() {
    let mut doubt = Doubt::start().await;
    doubt.world.reopen(&[], |text| text.replace("idempotency = \"keys\"\n", "")).await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(PAST_ATTEMPT);
    assert_unknown(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 1);
    doubt.clock.advance(GRACE);
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_merchants_are_trusted_to_honour_keys() {
    let mut doubt = Doubt::start().await;
    let check = ["check", "--config", "{config}"];
    let out = doubt.world.run(&check).await;
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("trusted to charge an Idempotency-Key once: books, lamps\n"), "{text}");
    doubt.world.text = doubt.world.text.replace("idempotency = \"keys\"\n", "");
    let out = doubt.world.run(&check).await;
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("trusted to charge an Idempotency-Key once: nobody\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeem_starts_the_grace_anew() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(GRACE - SECOND);
    assert_eq!(purchase.redeemed().await.status, 200);
    doubt.clock.advance(SECOND * 30);
    assert_eq!(purchase.redeemed().await.status, 200, "the same, as its answer was lost");
    doubt.clock.advance(GRACE - SECOND);
    assert_unknown(&purchase.complete().await);
    purchase.read().await;
    purchase.assert_held().await;
    assert_eq!(purchase.completes().len(), 1, "the merchant that has the card hears of no other claim");
    doubt.clock.advance(SECOND);
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "active", "given up in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_its_token_is_at_work_for_four_graces_at_most_and_then_a_person_is_called() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    let called = || doubt.world.log.text().matches("pending_too_long").count();
    let step = GRACE - SECOND;
    for look in 1..=4 {
        doubt.clock.advance(step);
        assert_eq!(purchase.viewed().await.status, 200);
        assert_unknown(&purchase.complete().await);
        purchase.assert_held().await;
        assert!(look == 4 || called() == 0, "look {look}");
    }
    doubt.until_logged(&["pending_too_long", &purchase.session]).await;
    doubt.clock.advance(SECOND * 3);
    assert_eq!(purchase.viewed().await.status, 200);
    assert_unknown(&purchase.complete().await);
    doubt.clock.advance(SECOND);
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "active", "four graces are over");
    assert_eq!(called(), 1, "once");
    assert_eq!(purchase.completes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shown_at_work_starts_the_grace_anew() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(GRACE - SECOND);
    doubt.shop().behave(CallKind::Read, shows(&purchase, "complete_in_progress", None));
    purchase.read().await;
    doubt.shop().behave_well();
    doubt.clock.advance(GRACE - SECOND * 2);
    assert_unknown(&purchase.complete().await);
    purchase.assert_held().await;
    doubt.clock.advance(SECOND * 2);
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_order_of_a_session_is_counted_and_raises_an_alarm_once() {
    let doubt = Doubt::start().await;
    let counted = || doubt.metric("countersign_second_answers_total{what=\"order\"}");
    let purchase = doubt.purchase().await;
    assert_completed(&purchase.complete().await);
    purchase.read().await;
    assert_eq!(counted(), 0.0, "the same order");
    for (order, times) in [("ord_other", 1.0), ("ord_other", 1.0), ("ord_third", 2.0)] {
        doubt.shop().behave_once(CallKind::Read, shows(&purchase, "completed", Some(order)));
        purchase.read().await;
        assert_eq!(counted(), times, "{order}");
    }
    doubt.until_logged(&["second_order", &purchase.session]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_charges_both_sendings_of_a_complete_is_found_out() {
    let doubt = Doubt::with(late()).await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    assert_told(&purchase.complete().await, 504, "merchant_timeout");
    // It sleeps for longer than anybody can wait: it is sent the request again, and then wakes up.
    doubt.clock.advance(AWAITED);
    assert_completed(&purchase.complete().await);
    doubt.shop().release();
    doubt.until("the second charge", async || purchase.charges().len() == 2).await;
    purchase.read().await;
    assert_eq!(doubt.metric("countersign_second_answers_total{what=\"order\"}"), 1.0);
    doubt.until_logged(&["second_order", &purchase.session]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_denies_the_charge_of_its_claim_raises_an_alarm() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase_with(DECLINED_CARD).await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (denied, ()) = tokio::join!(purchase.complete(), async {
        received(doubt.shop(), CallKind::Complete, 1).await;
        doubt.shop().behave_once(CallKind::Read, shows(&purchase, "completed", Some("ord_1")));
        purchase.read().await;
        assert_eq!(purchase.token_status().await, "consumed");
        doubt.shop().release();
    });
    assert_eq!(denied.text("/status").as_deref(), Some("ready_for_payment"), "{}", denied.json());
    assert_eq!(doubt.metric("countersign_second_answers_total{what=\"answer\"}"), 1.0);
    doubt.until_logged(&["second_answer", &purchase.session]).await;
}
