//! "What happened to cs_X?": every line of the log that has the session in it, in order.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::Value;

use super::*;

/// The worker's first look at a claim comes this long after its last attempt.
const FIRST_LOOK: Duration = Duration::from_secs(6);

impl Purchase<'_> {
    /// What `grep` finds.
    fn story(&self) -> Vec<Value> {
        let text = self.world.log.text();
        let lines = text.lines().filter(|line| line.contains(&format!(r#""session":"{}""#, self.session)));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The claim of a complete that the shop has received.
    fn claim(&self) -> String {
        self.completes().pop().unwrap().idempotency_key.unwrap()
    }
}

/// Some members of a line.
fn some(line: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), line[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_told_from_its_session_to_its_charge() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    assert_completed(&purchase.complete().await);
    let (session, token, claim) = (&purchase.session, &purchase.token, purchase.claim());
    doubt.until_logged(&[r#""route":"checkout_complete""#]).await;
    let story = purchase.story();
    let names = [
        "route",
        "level",
        "decision",
        "session",
        "token",
        "claim",
        "amount",
        "currency",
        "attempt",
        "merchant_status",
    ];
    let told: Vec<Value> = story.iter().map(|line| some(line, &names)).collect();
    let expected = [
        json!({"route": "checkout_create", "level": "info", "decision": "relayed", "session": session, "token": null, "claim": null, "amount": null, "currency": null, "attempt": null, "merchant_status": 201}),
        json!({"route": "delegate_payment", "level": "info", "decision": "minted", "session": session, "token": token, "claim": null, "amount": purchase.total, "currency": "usd", "attempt": null, "merchant_status": null}),
        json!({"route": "redeem_token", "level": "info", "decision": "redeemed", "session": session, "token": token, "claim": claim, "amount": purchase.total, "currency": "usd", "attempt": null, "merchant_status": null}),
        json!({"route": "checkout_complete", "level": "info", "decision": "charged", "session": session, "token": token, "claim": claim, "amount": purchase.total, "currency": "usd", "attempt": 1, "merchant_status": 200}),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_with_its_cause_and_with_what_was_found_out() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(FIRST_LOOK);
    doubt.until_logged(&[r#""event":"claim_settled""#, &purchase.session]).await;
    let story = purchase.story();
    let [.., lost, settled] = &story[..] else { panic!("{story:?}") };
    let claim = purchase.claim();
    let lost = some(lost, &["route", "level", "decision", "cause", "claim", "attempt", "merchant_status"]);
    assert_eq!(
        lost,
        json!({"route": "checkout_complete", "level": "warn", "decision": "merchant_answer_lost", "cause": "reset", "claim": claim, "attempt": 1, "merchant_status": null})
    );
    let settled = some(settled, &["event", "outcome", "claim", "token", "merchant"]);
    assert_eq!(
        settled,
        json!({"event": "claim_settled", "outcome": "charged", "claim": claim, "token": purchase.token, "merchant": "lamps"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_what_was_known_and_then_what_came_of_it() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldAfter);
    let call = purchase.agent.post(purchase.path("/complete"), &payment(&purchase.token)).prepare().unwrap();
    let agent = purchase.agent.clone();
    let waiting = tokio::spawn(async move { agent.send(&call).await.unwrap() });
    received(doubt.shop(), CallKind::Complete, 1).await;
    waiting.abort();
    doubt.until_logged(&[r#""decision":"hangup""#, &purchase.session]).await;
    doubt.shop().release();
    doubt.until_logged(&[r#""event":"answer_unheard""#, &purchase.session]).await;
    let story = purchase.story();
    // The shop redeems the card while the client hangs up.
    let hangup = story.iter().find(|line| line["decision"] == "hangup").unwrap();
    let unheard = story.last().unwrap();
    let (claim, token) = (purchase.claim(), &purchase.token);
    let hangup = some(hangup, &["decision", "status", "claim", "token", "amount", "attempt"]);
    assert_eq!(
        hangup,
        json!({"decision": "hangup", "status": null, "claim": claim, "token": token, "amount": purchase.total, "attempt": 1})
    );
    let unheard = some(unheard, &["event", "decision", "status", "claim", "token"]);
    assert_eq!(
        unheard,
        json!({"event": "answer_unheard", "decision": "charged", "status": 200, "claim": claim, "token": token})
    );
}
