//! The outcome table: what each answer to a first complete does to the token and the key.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Change, ShopSettings};

use super::*;

/// A body that shows this session in that status.
fn shown(session: &str, status: &str) -> Canned {
    answer(200, &format!(r#"{{"id":"{session}","status":"{status}"}}"#))
}

fn answer(status: u16, body: &str) -> Canned {
    let mut canned = Canned::status(status);
    canned.body = body.to_owned();
    canned
}

/// The answer is kept: the same key gets the same bytes, and the merchant hears of it once.
async fn assert_recorded(purchase: &Purchase<'_>, first: &Answer) {
    let again = purchase.complete().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", first.json());
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(purchase.completes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_charged_and_its_answer_is_kept() {
    let doubt = Doubt::start().await;
    for case in ["as it should be", "an order in an odd status", "no status, but an order"] {
        let purchase = doubt.purchase().await;
        let id = &purchase.session;
        let order = format!(r#""order":{{"id":"ord_1","checkout_session_id":"{id}"}}"#);
        doubt.shop().behave_once(
            CallKind::Complete,
            match case {
                "as it should be" => Behaviour::Good,
                "no status, but an order" => {
                    Behaviour::After(answer(201, &format!(r#"{{"id":"{id}",{order}}}"#)))
                }
                _ => Behaviour::After(answer(
                    200,
                    &format!(r#"{{"id":"{id}","status":"in_progress",{order}}}"#),
                )),
            },
        );
        let first = purchase.complete().await;
        assert!(first.status.is_success(), "{case}: {}", first.json());
        assert_recorded(&purchase, &first).await;
        assert_eq!(purchase.token_status().await, "consumed", "{case}");
        assert_told(&purchase.complete_anew().await, 409, "checkout_session_completed");
        assert!(purchase.complete_with_new_token().await.is_none(), "{case}: it has its order");
        assert_eq!(purchase.charges().len(), 1, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_under_way_is_pending_and_its_answer_is_kept() {
    let doubt = Doubt::start().await;
    for status in ["pending_approval", "complete_in_progress", "in_progress"] {
        let purchase = doubt.purchase().await;
        let pending = Behaviour::Instead(shown(&purchase.session, status));
        doubt.shop().behave_once(CallKind::Complete, pending);
        let first = purchase.complete().await;
        assert_eq!((first.status.as_u16(), first.text("/status").as_deref()), (200, Some(status)));
        assert_recorded(&purchase, &first).await;
        purchase.assert_held().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shown_without_an_order_is_not_charged_and_its_answer_is_kept() {
    let doubt = Doubt::start().await;
    for (card, behaviour, status, exposed) in [
        (DECLINED_CARD, Behaviour::Good, "ready_for_payment", true),
        (SECURE_CARD, Behaviour::Good, "authentication_required", true),
        (GOOD_CARD, Behaviour::DeclineUnseen, "ready_for_payment", false),
    ] {
        let purchase = doubt.purchase_with(card).await;
        doubt.shop().behave_once(CallKind::Complete, behaviour);
        let first = purchase.complete().await;
        assert_eq!((first.status.as_u16(), first.text("/status").as_deref()), (200, Some(status)));
        assert_recorded(&purchase, &first).await;
        assert_eq!(purchase.token_status().await, "active");
        let path = format!("/agentic_commerce/issued_tokens/{}", purchase.token);
        let token = purchase.agent.get(path).send().await.unwrap().json();
        assert_eq!((token["exposed"].as_bool(), purchase.attempts_left().await), (Some(exposed), 2));
        // The same token may be tried under another key, and the merchant is asked again.
        purchase.complete_anew().await;
        assert_eq!(purchase.completes().len(), 2);
    }
    for status in ["not_ready_for_payment", "requires_escalation", "incomplete", "expired"] {
        let purchase = doubt.purchase().await;
        let shown = Behaviour::Instead(shown(&purchase.session, status));
        doubt.shop().behave_once(CallKind::Complete, shown);
        let first = purchase.complete().await;
        assert_eq!((first.status.as_u16(), first.text("/status").as_deref()), (200, Some(status)));
        assert_recorded(&purchase, &first).await;
        assert_eq!(purchase.token_status().await, "active", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_charged_and_is_kept() {
    let doubt = Doubt::start().await;
    for status in [400, 402, 404, 405, 409, 410, 422, 451] {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(status)));
        let first = purchase.complete().await;
        assert_told(&first, status, "told_to");
        assert_recorded(&purchase, &first).await;
        assert_eq!(purchase.token_status().await, "active", "{status}");
        let left = if [409, 422].contains(&status) { 3 } else { 2 };
        assert_eq!(purchase.attempts_left().await, left, "{status}");
        assert_completed(&purchase.complete_anew().await);
        assert_eq!(purchase.charges().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_business_logic_is_not_kept() {
    let doubt = Doubt::start().await;
    // 401 and 403 are about the gateway's own credential: the agent is not told the merchant's words.
    for (status, told) in [(425, 425), (429, 429), (307, 502), (308, 502), (401, 502), (403, 502), (421, 502)]
    {
        let purchase = doubt.purchase().await;
        let canned = if status == 429 { Canned::too_many_requests(7) } else { Canned::status(status) };
        doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(canned));
        let first = purchase.complete().await;
        assert_eq!(first.status, told, "{status}: {}", first.json());
        if status == 429 {
            assert_eq!(first.header("retry-after"), Some("7"));
        }
        assert_eq!(purchase.token_status().await, "active", "{status}");
        // The same key is processed again, as the same request.
        let second = purchase.complete().await;
        assert_eq!(second.header("idempotent-replayed"), None);
        assert_completed(&second);
        let sent = purchase.completes();
        assert_eq!(sent.len(), 2);
        assert_eq!(
            (&sent[0].idempotency_key, &sent[0].body),
            (&sent[1].idempotency_key, &sent[1].body),
            "{status}"
        );
        purchase.assert_charged_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_cannot_be_reached_costs_the_token_nothing() {
    let mut doubt = Doubt::start().await;
    let Purchase { agent: _, session, total, token, key, .. } = doubt.purchase().await;
    // A gateway without connections, and nobody listening.
    doubt.world.close().await;
    let secret = Arc::clone(&doubt.world.redeemer);
    let clock = Arc::clone(&doubt.world.clock);
    let certificates = doubt.world.certificates.clone();
    let elsewhere = ShopSettings::new("lamps", certificates, Arc::clone(&secret), secret, clock);
    drop(std::mem::replace(&mut doubt.world.lamps, Shop::start(elsewhere).await.unwrap()));
    doubt.world.open().await;
    let agent = doubt.world.alpha();
    let purchase = Purchase { world: &doubt.world, agent, session, total, token, key };
    for _ in 0..2 {
        let answer = purchase.complete().await;
        assert_told(&answer, 502, "merchant_unreachable");
        doubt
            .until_logged(&[r#""decision":"merchant_unreachable""#, r#""cause":"connection_refused""#])
            .await;
        assert_eq!(answer.header("idempotent-replayed"), None);
        assert_eq!(purchase.token_status().await, "active");
    }
}

/// Answers that say nothing certain; `done` is whether the merchant did its work.
fn uncertain(session: &str, done: bool) -> Vec<(&'static str, u16, Behaviour)> {
    let in_flight = answer(409, r#"{"type":"invalid_request","code":"idempotency_in_flight","message":"x"}"#);
    let wrap = |canned: Canned| if done { Behaviour::After(canned) } else { Behaviour::Instead(canned) };
    let mut all: Vec<_> = [
        ("408", 408, Canned::status(408)),
        ("409 in flight", 409, in_flight),
        // A page with a wait is ACP's answer to a repeat in flight, in whichever form the wait is told.
        ("409 until", 409, Canned::html(409).with_header("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")),
        ("409 for long", 409, Canned::html(409).with_header("retry-after", "86400000")),
        ("301", 502, Canned::redirect(301)),
        ("302", 502, Canned::redirect(302)),
        ("303", 502, Canned::redirect(303)),
        ("500", 500, Canned::status(500)),
        ("502", 502, Canned::html(502)),
        ("503", 503, Canned::status(503)),
        ("504", 504, Canned::status(504)),
        ("a page", 502, Canned::html(200)),
        ("nothing", 502, answer(200, "")),
        ("a proxy's 400", 502, Canned::html(400)),
        ("a proxy's 404", 502, Canned::html(404)),
        ("a proxy's 405", 502, answer(405, "")),
        ("a proxy's 413", 502, Canned::html(413)),
        ("a proxy's 414", 502, answer(414, "{}")),
        ("a proxy's 431", 502, answer(431, r#"{"status":431}"#)),
        ("an unknown status", 502, shown(session, "shipped")),
        ("another session", 502, shown("cs_another", "completed")),
        ("another session, declined", 502, shown("cs_another", "ready_for_payment")),
    ]
    .map(|(name, told, canned)| (name, told, wrap(canned)))
    .into();
    all.push(("a reset", 502, if done { Behaviour::ResetAfter } else { Behaviour::ResetBefore }));
    if done {
        all.push(("half an answer", 502, Behaviour::Changed(Change::Truncated)));
        all.push(("the right body under another id", 502, Behaviour::Changed(Change::OtherSession)));
        all.push(("silence", 504, Behaviour::HoldAfter));
    } else {
        all.push(("silence before it began", 504, Behaviour::HoldBefore));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_certain_holds_the_token_until_the_session_is_read() {
    let doubt = Doubt::start().await;
    for row in 0..uncertain("", true).len() {
        let purchase = doubt.purchase().await;
        let (name, told, behaviour) = uncertain(&purchase.session, true).swap_remove(row);
        doubt.shop().behave_once(CallKind::Complete, behaviour);
        let first = purchase.complete().await;
        assert_eq!(first.status, told, "{name}: {}", first.json());
        purchase.assert_held().await;
        // The same key finds the order in the session, and nothing is sent again.
        let second = purchase.complete().await;
        assert_eq!(second.header("idempotent-replayed"), None, "{name}");
        assert_completed(&second);
        let kinds: Vec<_> = purchase.calls().iter().map(|call| call.kind).collect();
        assert_eq!(kinds, [CallKind::Complete, CallKind::Read], "{name}");
        purchase.assert_charged_once().await;
        doubt.shop().release();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_certain_and_did_nothing_is_sent_again_with_the_same_key() {
    let doubt = Doubt::start().await;
    for row in 0..uncertain("", false).len() {
        let purchase = doubt.purchase().await;
        let (name, told, behaviour) = uncertain(&purchase.session, false).swap_remove(row);
        doubt.shop().behave_once(CallKind::Complete, behaviour);
        let first = purchase.complete().await;
        assert_eq!(first.status, told, "{name}: {}", first.json());
        purchase.assert_held().await;
        assert_unknown(&purchase.complete().await);
        assert_eq!(purchase.completes().len(), 1, "{name}: it may be at work");
        // What was held back at the merchant begins now, and is waited for by those who repeat it.
        doubt.shop().release();
        doubt.clock.advance(AWAITED);
        let answered = async || {
            let answer = purchase.complete().await;
            // Its session is not read twice within two seconds.
            doubt.clock.advance(Duration::from_secs(2));
            answer.status == 200
        };
        doubt.until("an answer", answered).await;
        let calls = purchase.calls();
        let mut kinds: Vec<_> = calls.iter().map(|call| call.kind).collect();
        kinds.dedup();
        kinds.truncate(3);
        if name != "silence before it began" {
            assert_eq!(kinds, [CallKind::Complete, CallKind::Read, CallKind::Complete], "{name}");
        }
        for sent in purchase.completes() {
            assert_eq!(sent.idempotency_key, calls[0].idempotency_key, "{name}");
            assert_eq!(sent.body, calls[0].body, "{name}");
        }
        purchase.assert_charged_once().await;
    }
}
