//! What of a merchant's answer is at fault: told to the agent, and in the log of the request.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::Value;

use super::*;

fn answering(status: u16, body: &str) -> Behaviour {
    Behaviour::Instead(Canned { body: body.to_owned(), ..Canned::status(status) })
}

impl Doubt {
    /// The log line of the request with this answer, which is written behind it.
    async fn logged(&self, answer: &Answer) -> Value {
        let id = format!(r#""request_id":"{}""#, answer.header("request-id").unwrap());
        self.until_logged(&[&id]).await;
        let text = self.world.log.text();
        serde_json::from_str(text.lines().find(|line| line.contains(&id)).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_use_is_told_with_what_of_it_is_at_fault() {
    let doubt = Doubt::start().await;
    let agent = doubt.world.alpha();
    let create = || agent.post("/m/lamps/checkout_sessions", &lamp_order());
    for (body, fault, said) in [
        (r#"["cs_1"]"#, "not_an_object", "is no JSON object"),
        (r#"{"id":"cs_1","id":"cs_2","status":"ready_for_payment"}"#, "not_an_object", "repeats a member"),
        (r#"{"status":"ready_for_payment"}"#, "no_id", "has no id"),
    ] {
        doubt.shop().behave_once(CallKind::Create, answering(201, body));
        let answer = create().send().await.unwrap();
        assert_told(&answer, 502, "merchant_answer_invalid");
        assert!(answer.text("/message").unwrap().contains(said), "{body}: {}", answer.json());
        let line = doubt.logged(&answer).await;
        assert_eq!(
            (&line["merchant_fault"], &line["decision"]),
            (&fault.into(), &"merchant_answer_invalid".into())
        );
    }
    for (body, fault, said) in [
        ("<html>", "not_json", "is not JSON"),
        (r#"{"id":"{id}","status":"shipped"}"#, "unknown_status", "no status that ACP defines"),
        (r#"{"id":"{id}","status":"completed","order":7}"#, "order_unreadable", "order"),
    ] {
        let purchase = doubt.purchase().await;
        let body = body.replace("{id}", &purchase.session);
        doubt.shop().behave_once(CallKind::Complete, answering(200, &body));
        let answer = purchase.complete().await;
        assert_told(&answer, 502, "merchant_answer_invalid");
        assert!(answer.text("/message").unwrap().contains(said), "{body}: {}", answer.json());
        assert_eq!(doubt.logged(&answer).await["merchant_fault"], fault);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_we_made_ourselves_is_never_logged_as_relayed() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    for (behaviour, decision, status) in [
        (answering(401, r#"{"type":"invalid_request","code":"x"}"#), "merchant_refused_gateway", 502),
        (answering(403, "<html>"), "merchant_refused_gateway", 502),
        (answering(200, "<html>"), "merchant_answer_not_json", 502),
        (Behaviour::Instead(Canned::redirect(302)), "merchant_status_unusable", 502),
        (answering(422, r#"{"type":"invalid_request","code":"x"}"#), "relayed", 422),
    ] {
        doubt.shop().behave_once(CallKind::Read, behaviour);
        let answer = purchase.read().await;
        assert_eq!(answer.status, status, "{decision}: {}", answer.json());
        assert_eq!(doubt.logged(&answer).await["decision"], decision);
    }
}
