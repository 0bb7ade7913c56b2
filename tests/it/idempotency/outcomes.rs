//! What a key remembers: nothing of failures, everything of decisions, for a day.

use std::sync::Arc;
use std::time::Duration;

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{MINT, operations, ready_complete, replayed, session, told};
use crate::schema::official::{ask, ask_prepared};
use crate::world::*;

const HOUR: Duration = Duration::from_secs(3600);
/// The total deadline of a merchant whose entry names none, and the margin after which an attempt is void.
const AWAITED: Duration = Duration::from_secs(41);

#[tokio::test(flavor = "multi_thread")]
async fn i7_while_a_request_is_under_way_its_repeat_is_told_to_come_back() {
    let world = World::start().await;
    let alpha = world.alpha();
    for mut operation in operations(&alpha).await {
        let Some(kind) = operation.kind else { continue };
        let before = operation.upstream(&world);
        world.lamps.behave_once(kind, Behaviour::HoldBefore);
        let call = operation.call(&alpha).key("k").prepare().unwrap();
        let (agent, sent) = (alpha.clone(), call.clone());
        let first = tokio::spawn(async move { agent.send(&sent).await.unwrap() });
        world.lamps.received(kind, before + 1).await;

        let again = ask_prepared(&alpha, &call).await;
        assert_eq!(told(&again), (409, "idempotency_in_flight".to_owned()), "{}", operation.name);
        assert!(again.header("retry-after").unwrap().parse::<u32>().unwrap() > 0, "{}", operation.name);
        let body = operation.body.clone();
        operation.body["metadata"]["more"] = json!("x");
        let other = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert_eq!(told(&other), (422, "idempotency_conflict".to_owned()), "{}", operation.name);
        operation.body = body;

        world.lamps.release();
        let first = first.await.unwrap();
        assert!(first.status.is_success(), "{}: {}", operation.name, first.json());
        let again = ask_prepared(&alpha, &call).await;
        assert!(replayed(&again) && again.body == first.body, "{}: {}", operation.name, again.json());
        assert_eq!(operation.upstream(&world), before + 1, "{}: one call", operation.name);
    }
}

/// A mint calls nobody, so it cannot be held: many at once, and there is one token.
#[tokio::test(flavor = "multi_thread")]
async fn i7_mints_at_once_with_one_key_are_one_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let call =
        alpha.post(MINT, &mint_request(GOOD_CARD, "lamps", &session, total)).key("k").prepare().unwrap();
    let mut minting = JoinSet::new();
    for _ in 0..24 {
        let (agent, call) = (alpha.clone(), call.clone());
        minting.spawn(async move { ask_prepared(&agent, &call).await });
    }
    let mut tokens: Vec<String> = Vec::new();
    for answer in minting.join_all().await {
        match told(&answer) {
            (201, _) => tokens.push(answer.text("/id").unwrap()),
            (409, code) => {
                assert_eq!(code, "idempotency_in_flight");
                assert!(answer.header("retry-after").is_some());
            }
            other => panic!("{other:?}"),
        }
    }
    tokens.push(ask_prepared(&alpha, &call).await.text("/id").unwrap());
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_failure_is_not_kept_and_the_retry_has_the_same_upstream_key() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with(Options { clock: Some(clock.clone()), ..Options::default() }).await;
    let alpha = world.alpha();
    for operation in operations(&alpha).await {
        let Some(kind) = operation.kind else { continue };
        let before = operation.upstream(&world);
        let call = operation.call(&alpha).key("k").prepare().unwrap();
        for failure in [500, 503] {
            world.lamps.behave_once(kind, Behaviour::Instead(Canned::status(failure)));
            let failed = ask_prepared(&alpha, &call).await;
            assert_eq!(failed.status, failure, "{}: {}", operation.name, failed.json());
            assert!(!replayed(&failed), "{}", operation.name);
            if kind == CallKind::Complete {
                // While the merchant may still be at work on it, it is not sent again.
                let early = ask_prepared(&alpha, &call).await;
                assert_eq!((early.status.as_u16(), early.code().as_deref()), (503, Some("outcome_unknown")));
                clock.advance(AWAITED);
            }
        }
        let answer = ask_prepared(&alpha, &call).await;
        assert!(answer.status.is_success() && !replayed(&answer), "{}: {}", operation.name, answer.json());
        let calls = world.lamps.calls_of(kind).split_off(before);
        assert_eq!(calls.len(), 3, "{}", operation.name);
        for repeat in &calls[1..] {
            assert_eq!(repeat.idempotency_key, calls[0].idempotency_key, "{}", operation.name);
            assert_eq!(repeat.body, calls[0].body, "{}", operation.name);
        }
        assert!(replayed(&ask_prepared(&alpha, &call).await), "{}", operation.name);
        assert_eq!(operation.upstream(&world), before + 3);
    }
    assert_eq!(world.lamps.charges().len(), 1);
}

/// So is what only asks to come back (`src/acp/README.md`, "Idempotency"), and our own credential's refusal.
#[tokio::test(flavor = "multi_thread")]
async fn i8_a_merchant_that_asks_to_come_back_has_not_decided() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (status, told_status) in [(429, 429), (425, 425), (401, 502), (403, 502)] {
        for operation in [operations(&alpha).await.remove(0), ready_complete(&alpha).await] {
            let kind = operation.kind.unwrap();
            let call = operation.call(&alpha).key(format!("k{status}")).prepare().unwrap();
            world.lamps.behave_once(kind, Behaviour::Instead(Canned::status(status)));
            let first = ask_prepared(&alpha, &call).await;
            assert_eq!(first.status, told_status, "{} {}", operation.name, first.json());
            let again = ask_prepared(&alpha, &call).await;
            assert!(again.status.is_success() && !replayed(&again), "{status} {}", again.json());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_the_merchant_refused_stays_refused() {
    let world = World::start().await;
    let alpha = world.alpha();
    for operation in operations(&alpha).await {
        let Some(kind) = operation.kind else { continue };
        for status in [400, 402, 404, 405, 409, 422] {
            let before = operation.upstream(&world);
            world.lamps.behave_once(kind, Behaviour::Instead(Canned::status(status)));
            let call = operation.call(&alpha).key(format!("k{status}")).prepare().unwrap();
            let first = ask_prepared(&alpha, &call).await;
            let what = format!("{} {status}: {}", operation.name, first.json());
            if operation.name == "complete" && status > 404 {
                // Three refusals wear a token out.
                assert_eq!(told(&first), (422, "token_attempts_exceeded".to_owned()), "{what}");
                world.lamps.behave_well();
                continue;
            }
            assert_eq!(told(&first), (status, "told_to".to_owned()), "{what}");
            let again = ask_prepared(&alpha, &call).await;
            assert!(replayed(&again), "{what}");
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{what}");
            assert_eq!(operation.upstream(&world), before + 1, "{what}");
        }
    }
    assert!(world.lamps.charges().is_empty());
}

/// A refusal of ours has done nothing and binds nothing: corrected circumstances let the same
/// request pass under the same key.
#[tokio::test(flavor = "multi_thread")]
async fn i9_a_refusal_of_ours_binds_no_key() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    let choose = async |option: &str| {
        let body = json!({"selected_fulfillment_options": [{"type": "shipping", "option_id": option, "item_ids": ["item_lamp"]}]});
        let answer = ask(&alpha, alpha.post(&path, &body)).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
    };
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    choose("ship_express").await;
    let call = alpha.post(format!("{path}/complete"), &payment(&token)).key("k").prepare().unwrap();
    let refused = ask_prepared(&alpha, &call).await;
    assert_eq!(told(&refused), (422, "amount_exceeds_allowance".to_owned()));
    choose("ship_standard").await;
    let passed = ask_prepared(&alpha, &call).await;
    assert!(passed.status == 200 && !replayed(&passed), "{}", passed.json());
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);

    let (other, total) = self::session(&alpha).await;
    let mint = |request: Value| ask(&alpha, alpha.post(MINT, &request).key("mint"));
    let mut wrong = mint_request(GOOD_CARD, "lamps", &other, total);
    wrong["payment_method"]["exp_month"] = json!("13");
    assert_eq!(mint(wrong).await.status, 422);
    assert_eq!(mint(mint_request(GOOD_CARD, "lamps", "cs_nobody", total)).await.status, 422);
    assert_eq!(mint(mint_request(GOOD_CARD, "lamps", &other, total)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_an_answer_is_kept_for_a_day_and_then_the_key_is_new() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let agent = "token_life = \"7d\"".to_owned();
    let world = World::with(Options { clock: Some(clock.clone()), agent, ..Options::default() }).await;
    let alpha = world.alpha();
    let mut done = Vec::new();
    for mut operation in operations(&alpha).await {
        if operation.name == "mint" {
            let until = clock.now().plus(7 * 24 * HOUR).to_rfc3339();
            operation.body["allowance"]["expires_at"] = json!(until);
        }
        let first = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert!(first.status.is_success(), "{}: {}", operation.name, first.json());
        done.push((operation, first));
    }
    let calls = world.lamps.calls().len();
    clock.advance(24 * HOUR);
    for (operation, first) in &done {
        let again = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert!(replayed(&again) && again.body == first.body, "{}: {}", operation.name, again.json());
    }
    assert_eq!(world.lamps.calls().len(), calls);

    // 24 hours and a margin for clocks that disagree.
    clock.advance(HOUR);
    for (operation, first) in &done {
        let before = operation.upstream(&world);
        let anew = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert!(!replayed(&anew), "{}: {}", operation.name, anew.json());
        match operation.name {
            "mint" => assert_ne!(anew.text("/id"), first.text("/id"), "{}", anew.json()),
            // The session has its order: whoever asks with the claim's key is shown it, and nothing
            // is charged.
            "complete" => assert_eq!(anew.text("/status").as_deref(), Some("completed"), "{}", anew.json()),
            // The merchant hears of it again; how long its own keys live is its affair.
            _ => assert_eq!(operation.upstream(&world), before + 1, "{}: {}", operation.name, anew.json()),
        }
    }
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);
    assert_eq!(world.lamps.charges().len(), 1);
}
