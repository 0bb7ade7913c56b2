//! What is known of a session, by command and by request, whether or not a claim is open.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::Value;

use super::*;

impl Purchase<'_> {
    /// What `claims show` prints.
    async fn shown(&self) -> String {
        let arguments =
            ["claims", "show", "--config", "{config}", "--admin", "{admin}", "--session", &self.session];
        let (good, out, errors) = told(&self.world.run(&arguments).await);
        assert!(good, "{errors}");
        out
    }

    /// As the gateway answers it.
    async fn shown_json(&self) -> Value {
        let request = format!("GET /claims/show?session={}&merchant=lamps", self.session);
        let told = self.world.operate(&request, None).await;
        assert_eq!(told.status, 200, "{told:?}");
        let sessions = told.body["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 1, "{told:?}");
        sessions[0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_charged_is_shown_with_the_claim_that_did_it() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    assert!(purchase.shown().await.contains(&format!("token {}: active", purchase.token)));
    assert_completed(&purchase.complete().await);
    let claim = purchase.completes().pop().unwrap().idempotency_key.unwrap();
    let shown = purchase.shown().await;
    let head = format!("session {} at lamps, of agent alpha: charged\n", purchase.session);
    assert!(shown.starts_with(&head), "{shown}");
    for line in [format!("  charged by claim {claim}\n"), "  orders shown by the merchant: 1\n".to_owned()] {
        assert!(shown.contains(&line), "{line} in {shown}");
    }
    let json = purchase.shown_json().await;
    assert_eq!(
        (&json["state"], &json["charged_by"], &json["orders"], &json["claim"], &json["tokens"]),
        (&json!("charged"), &json!(claim), &json!(1), &json!(null), &json!([]))
    );
    for told in [shown, json.to_string()] {
        assert_eq!(shown_of_card(&told), None, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_doubt_is_shown_and_once_it_is_given_up_still_is() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    let claim = purchase.completes()[0].idempotency_key.clone().unwrap();
    let shown = purchase.shown().await;
    for words in [
        format!("session {} at lamps, of agent alpha: in_doubt\n", purchase.session),
        format!("  open claim {claim}: {} usd, of token {}\n", purchase.total, purchase.token),
        "    the answer to the complete was lost".to_owned(),
        "sent 1x".to_owned(),
        format!("  token {}: claimed, expires ", purchase.token),
    ] {
        assert!(shown.contains(&words), "{words} in {shown}");
    }
    let open = purchase.shown_json().await;
    assert_eq!((&open["state"], &open["claim"]["claim"]), (&json!("in_doubt"), &json!(claim)));

    doubt.clock.advance(GRACE * 2);
    doubt.until("the release", async || purchase.token_status().await == "active").await;
    let shown = purchase.shown().await;
    for words in [
        format!("session {} at lamps, of agent alpha: open\n", purchase.session),
        format!("  given up in doubt: claim {claim}, of token {}\n", purchase.token),
        "  last complete without a result: the answer to the complete was lost\n".to_owned(),
        format!("  token {}: active, expires ", purchase.token),
    ] {
        assert!(shown.contains(&words), "{words} in {shown}");
    }
    let given_up = json!({"claim": claim, "token": purchase.token});
    assert_eq!(purchase.shown_json().await["given_up"], given_up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_nobodys_is_not_shown_and_what_is_no_id_is_refused() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    for (query, status, code) in [
        ("?session=cs_none".to_owned(), 404, "checkout_session_not_found"),
        (format!("?session={}&merchant=books", purchase.session), 404, "checkout_session_not_found"),
        ("".to_owned(), 400, "invalid_query"),
        ("?session=a%20b".to_owned(), 400, "invalid_query"),
        (format!("?session={}&all=true", purchase.session), 400, "invalid_query"),
    ] {
        let told = doubt.world.operate(&format!("GET /claims/show{query}"), None).await;
        assert_eq!((told.status, told.code()), (status, code), "{query}: {told:?}");
    }
    let admin = doubt.world.app().admin_address();
    let request = format!("GET /claims/show?session={}", purchase.session);
    assert_eq!(ask_admin(admin, None, &request, None).await.status, 401);
    let arguments = ["claims", "show", "--config", "{config}", "--admin", "{admin}", "--session", "cs_none"];
    let (good, out, errors) = told(&doubt.world.run(&arguments).await);
    assert!(!good && out.is_empty() && errors.contains("There is no such checkout session"), "{out}{errors}");
}
