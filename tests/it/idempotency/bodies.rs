//! When two bodies are the same, and that bodies travel as they are.

use countersign::acp::version::Version;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::CallKind;
use http::Method;
use serde_json::{Value, json};

use super::{MINT, operations, replayed, session, told};
use crate::schema::official::ask;
use crate::world::*;

/// The newest version's own code and status.
fn conflict() -> (u16, String) {
    (422, "idempotency_conflict".to_owned())
}

/// A create whose body ends with these members, as text.
async fn create_with(agent: &Agent, key: &str, members: &str) -> Answer {
    let mut body = lamp_order().to_string();
    body.truncate(body.len() - 1);
    let body = format!("{body}, {members}}}");
    ask(agent, agent.call(Method::POST, "/m/lamps/checkout_sessions").body(body).key(key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_order_of_members_and_writing_of_numbers_do_not_matter() {
    let world = World::start().await;
    let alpha = world.alpha();
    let first =
        create_with(&alpha, "k", r#""a": {"n": 1, "s": "caf\u00e9/", "z": [0, 100]}, "b": -1.5"#).await;
    assert_eq!(first.status, 201, "{}", first.json());
    for members in [
        r#""b": -1.5, "a": {"z": [0, 100], "s": "café/", "n": 1}"#,
        r#""a": {"n": 1.0, "s": "caf\u00E9\/", "z": [-0, 1e2]}, "b": -15e-1"#,
        r#""a": {"n": 10e-1, "s": "caf\u00e9/", "z": [0.0, 100.00]}, "b": -1.50"#,
        "\n\"b\" : -0.15E+1 ,\t\"a\":{ \"n\":1, \"s\":\"café/\", \"z\":[ 0 , 1.0E2 ] }",
    ] {
        let again = create_with(&alpha, "k", members).await;
        assert!(replayed(&again), "{members}: {}", again.json());
        assert_eq!(again.body, first.body);
    }
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_mint_is_compared_in_the_same_way() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let request = mint_request(GOOD_CARD, "lamps", &session, total).to_string();
    let mint = |body: String| ask(&alpha, alpha.call(Method::POST, MINT).body(body).key("k"));
    let amount = format!("\"max_amount\":{total}");
    assert!(request.contains(&amount));
    let first = mint(request.clone()).await;
    assert_eq!(first.status, 201, "{}", first.json());
    for written in [format!("{total}.0"), format!("{total}0e-1")] {
        let again = mint(request.replace(&amount, &format!("\"max_amount\": {written}"))).await;
        assert!(replayed(&again) && again.body == first.body, "{written}: {}", again.json());
    }
    let other = mint(request.replace(&amount, &format!("\"max_amount\":{}", total + 1))).await;
    assert_eq!(told(&other), conflict());
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_null_is_not_absent_and_arrays_have_an_order() {
    let world = World::start().await;
    let alpha = world.alpha();
    assert_eq!(create_with(&alpha, "k", r#""a": null, "b": [1, 2]"#).await.status, 201);
    for members in [
        r#""b": [1, 2]"#,
        r#""a": null, "b": [2, 1]"#,
        r#""a": null, "b": [1, 2, null]"#,
        r#""a": "", "b": [1, 2]"#,
        r#""a": false, "b": [1, 2]"#,
        r#""a": null, "b": ["1", 2]"#,
        r#""a": null, "b": [1, 2], "c": null"#,
    ] {
        assert_eq!(told(&create_with(&alpha, "k", members).await), conflict(), "{members}");
    }
    // Numbers that a double cannot tell apart are told apart.
    assert_eq!(create_with(&alpha, "n", r#""a": 9007199254740992"#).await.status, 201);
    let near = create_with(&alpha, "n", r#""a": 9007199254740993"#).await;
    assert!(near.status.is_client_error() && !replayed(&near), "{}", near.json());
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 2);
}

/// No body and an empty object say the same of a cancel (`src/acp/README.md`, "Idempotency").
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_cancel_without_a_body_is_one_with_an_empty_object() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = session(&alpha).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/cancel");
    let cancel = |body: &'static str| ask(&alpha, alpha.call(Method::POST, path.clone()).body(body).key("k"));
    assert_eq!(cancel("").await.status, 200);
    assert!(replayed(&cancel("{}").await) && replayed(&cancel("").await));
    assert_eq!(told(&cancel(r#"{"intent_trace":{"reason_code":"other"}}"#).await), conflict());
    assert_eq!(world.lamps.calls_of(CallKind::Cancel).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_the_same_key_with_another_body_never_reaches_the_merchant() {
    let world = World::start().await;
    let alpha = world.alpha();
    for mut operation in operations(&alpha).await {
        let first = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert!(first.status.is_success(), "{}: {}", operation.name, first.json());
        let before = operation.upstream(&world);
        operation.body["metadata"]["more"] = json!("x");
        assert_eq!(
            told(&ask(&alpha, operation.call(&alpha).key("k")).await),
            conflict(),
            "{}",
            operation.name
        );
        assert_eq!(operation.upstream(&world), before, "{}", operation.name);
        let other = ask(&alpha, operation.call(&alpha).key("another key")).await;
        assert_eq!(told(&other).0, 400, "a key has no spaces");
        operation.body["metadata"].as_object_mut().unwrap().remove("more");
        if operation.body["metadata"] == json!({}) && operation.name != "mint" {
            operation.body.as_object_mut().unwrap().remove("metadata");
        }
        assert!(replayed(&ask(&alpha, operation.call(&alpha).key("k")).await), "the key keeps its answer");
    }
}

/// 422, but for `delegate_payment` before 2026-04-17, which said 409.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_conflict_has_the_status_of_the_version() {
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let alpha = world.agent(0, |settings| settings.version = version);
        let order = if version >= Version::V2026_01_30 { lamp_order() } else { old_order() };
        let create =
            |body: &Value| ask(&alpha, alpha.post("/m/lamps/checkout_sessions", body).key(version.as_str()));
        let created = create(&order).await;
        assert_eq!(created.status, 201, "{version}: {}", created.json());
        let mut other = order.clone();
        other["buyer"]["first_name"] = json!("Grace");
        assert_eq!(told(&create(&other).await), conflict(), "{version}");

        let (session, total) = (created.text("/id").unwrap(), total_of(&created.json()));
        let mint = |amount| {
            let request = mint_request(GOOD_CARD, "lamps", &session, amount);
            ask(&alpha, alpha.post(MINT, &request).key(version.as_str()))
        };
        assert_eq!(mint(total).await.status, 201);
        let status = if version >= Version::V2026_04_17 { 422 } else { 409 };
        assert_eq!(told(&mint(total + 1).await), (status, "idempotency_conflict".to_owned()), "{version}");
    }
}

/// A create request as it was before 2026-01-30.
fn old_order() -> Value {
    let mut order = lamp_order();
    order["items"] = order["line_items"].take();
    for name in ["line_items", "currency", "capabilities"] {
        order.as_object_mut().unwrap().remove(name);
    }
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_members_of_extensions_count() {
    let world = World::start().await;
    let alpha = world.alpha();
    let first = r#""discounts": {"codes": ["SAVE10"]}, "com.example.loyalty": {"tier": "gold"}"#;
    assert_eq!(create_with(&alpha, "k", first).await.status, 201);
    assert!(replayed(&create_with(&alpha, "k", first).await));
    for members in [
        r#""discounts": {"codes": ["SAVE20"]}, "com.example.loyalty": {"tier": "gold"}"#,
        r#""discounts": {"codes": []}, "com.example.loyalty": {"tier": "gold"}"#,
        r#""discounts": {"codes": ["SAVE10"]}, "com.example.loyalty": {"tier": "silver"}"#,
        r#""discounts": {"codes": ["SAVE10"]}"#,
    ] {
        assert_eq!(told(&create_with(&alpha, "k", members).await), conflict(), "{members}");
    }
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i17_a_body_reaches_the_merchant_byte_for_byte() {
    let world = World::start().await;
    let alpha = world.alpha();
    let order = lamp_order().to_string();
    let body = format!(
        "{}, \"note\" : null ,\n\t\"zz\":[null,{{}},[]], \"n\": 1.50e+2, \"text\":\"a\\u0062\\/\\ud83d\\ude00é\" }}\n",
        &order[..order.len() - 1]
    );
    let answer = ask(&alpha, alpha.call(Method::POST, "/m/lamps/checkout_sessions").body(body.clone())).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let call = world.lamps.calls_of(CallKind::Create).pop().unwrap();
    assert_eq!(call.body, body, "null, absent, order and writing survive");

    let session = answer.text("/id").unwrap();
    let body = r#"{ "selected_fulfillment_options" :[{"option_id":"ship_express","type":"shipping"}], "buyer":null}"#;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    let answer = ask(&alpha, alpha.call(Method::POST, path).body(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(world.lamps.calls_of(CallKind::Update).pop().unwrap().body, body);

    // The token's place is read, and what stands around it left alone.
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total_of(&answer.json())).await;
    let body = format!(
        "{{\"payment_data\" : {{\"handler_id\":\"card_tokenized\",\"billing_address\":null,\"instrument\":{{\"type\":\"card\",\"credential\":{{\"token\":\"{token}\",\"type\":\"spt\"}}}}}},\"order_notes\":null}}"
    );
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let answer = ask(&alpha, alpha.call(Method::POST, path).body(body.clone())).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(world.lamps.calls_of(CallKind::Complete).pop().unwrap().body, body);
}
