//! Errors, the gateway's and the merchant's, in ACP's words: one flat object each.

use countersign::acp::problem::DELEGATE_PAYMENT_CODES;
use countersign::acp::version::Version;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use http::Method;
use serde_json::{Value, json};

use super::{agent_of, order_in, payment_in};
use crate::world::*;

const SESSIONS: &str = "/m/lamps/checkout_sessions";
const MINT: &str = "/agentic_commerce/delegate_payment";

/// Which of the two error schemas a route answers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Checkout,
    DelegatePayment,
}

/// H8 and H9: flat, in the schema's words, `param` a JSONPath.
fn assert_acp_error(answer: &Answer, dialect: Dialect, version: Version, what: &str) {
    let mut body = answer.json();
    let what = format!("{version} {what}: {} {body}", answer.status);
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let members = body.as_object().unwrap_or_else(|| panic!("{what}"));
    for name in members.keys() {
        let known = ["type", "code", "message", "param", "supported_versions"];
        assert!(known.contains(&name.as_str()), "{what}");
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{what}"));
    assert!(!text("message").is_empty(), "{what}");
    let mut kinds = vec!["invalid_request", "processing_error", "service_unavailable"];
    if dialect == Dialect::DelegatePayment {
        kinds.push("rate_limit_exceeded");
        assert!(DELEGATE_PAYMENT_CODES.contains(&text("code")), "{what}");
    }
    assert!(kinds.contains(&text("type")), "{what}");
    assert!(!text("code").is_empty(), "{what}");
    if members.contains_key("param") {
        assert!(text("param").starts_with('$'), "{what}");
    }
    if version < Version::V2026_04_17 {
        // Demanded by the text of every version, in the schema since 2026-04-17.
        body.as_object_mut().unwrap().remove("supported_versions");
    }
    if let Some(schema) = official_error(dialect, version) {
        let errors: Vec<String> = schema.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}");
    }
}

/// The official schema, where `ACP_SPEC_DIR` says it is at hand.
fn official_error(dialect: Dialect, version: Version) -> Option<jsonschema::Validator> {
    let directory = std::env::var_os("ACP_SPEC_DIR")?;
    let family = match dialect {
        Dialect::Checkout => "agentic_checkout",
        Dialect::DelegatePayment => "delegate_payment",
    };
    let path =
        std::path::Path::new(&directory).join(format!("spec/{version}/json-schema/schema.{family}.json"));
    let bundle: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut schema = bundle["$defs"]["Error"].clone();
    if dialect == Dialect::DelegatePayment {
        // A closed list, with the extras that it has no word for.
        schema["properties"]["code"]["enum"] = json!(DELEGATE_PAYMENT_CODES);
    }
    Some(jsonschema::validator_for(&schema).unwrap())
}

/// A call that changes one thing about a good one.
async fn post(agent: &Agent, path: &str, body: &Value) -> Answer {
    agent.post(path, body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_h9_every_error_of_the_gateways_own_is_flat_and_in_the_schemas_words() {
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let agent = agent_of(&world, version);
        let order = order_in(version);
        let created = post(&agent, SESSIONS, &order).await;
        let (session, total) = (created.text("/id").unwrap(), total_of(&created.json()));
        let path = format!("{SESSIONS}/{session}");
        let complete = format!("{path}/complete");
        let unsigned = agent.post(&complete, &payment_in(version, "vt_1")).unsigned();
        let no_key = agent.post(&complete, &payment_in(version, "vt_1")).without_key().unsigned();
        let mut small = mint_request(GOOD_CARD, "lamps", &session, total);
        small["allowance"]["max_amount"] = json!(1);
        let cheap = post(&agent, MINT, &small).await.text("/id").unwrap();
        let beta = world.agent(1, |settings| settings.version = version);
        let refused = [
            (401, agent.post(SESSIONS, &order).without("authorization").send().await),
            (
                401,
                agent
                    .post(SESSIONS, &order)
                    .without("authorization")
                    .header("authorization", "Bearer x")
                    .send()
                    .await,
            ),
            (400, agent.post(SESSIONS, &order).header("api-version", "2026-04-17").send().await),
            (400, agent.post(SESSIONS, &order).without("api-version").send().await),
            (400, agent.post(SESSIONS, &order).key("k".repeat(256)).send().await),
            (400, no_key.send().await),
            (401, unsigned.send().await),
            (400, agent.post(format!("{path}?a=b"), &order).send().await),
            (400, agent.call(Method::POST, SESSIONS).body("{\"a\":1,\"a\":2}").send().await),
            (400, agent.call(Method::POST, SESSIONS).body("{").send().await),
            (
                415,
                agent
                    .post(SESSIONS, &order)
                    .without("content-type")
                    .header("content-type", "text/xml")
                    .send()
                    .await,
            ),
            (415, agent.post(SESSIONS, &order).header("content-encoding", "gzip").send().await),
            (413, agent.call(Method::POST, SESSIONS).body("1".repeat((1 << 20) + 1)).send().await),
            (404, agent.get("/nowhere").send().await),
            (404, agent.post("/m/nobody/checkout_sessions", &order).send().await),
            (404, beta.get(&path).send().await),
            (404, agent.get("/m/lamps/carts/cart_unknown").send().await),
            (405, agent.call(Method::DELETE, &path).send().await),
            (400, agent.post(&complete, &json!([])).send().await),
            (422, agent.post(&complete, &json!({})).send().await),
            (422, agent.post(&complete, &payment_in(version, "vt_1")).send().await),
            (422, agent.post(&complete, &payment_in(version, &cheap)).send().await),
            (
                404,
                agent.get("/agentic_commerce/issued_tokens/vt_abcdefghij0123456789012345678901").send().await,
            ),
            (
                401,
                agent
                    .get("/agentic_commerce/granted_tokens/vt_abcdefghij0123456789012345678901")
                    .send()
                    .await,
            ),
        ];
        for (index, (status, answer)) in refused.into_iter().enumerate() {
            let answer = answer.unwrap();
            assert_eq!(answer.status, status, "{version} refusal {index}: {}", answer.json());
            assert_acp_error(&answer, Dialect::Checkout, version, &format!("refusal {index}"));
        }
        let misdirected = world.agent(0, |settings| settings.authority = "elsewhere.test".to_owned());
        let mut prepared = misdirected.get("/").prepare().unwrap();
        prepared.authority = "localhost".to_owned();
        let answer = misdirected.send(&prepared).await.unwrap();
        assert_eq!(answer.status, 421);
        assert_acp_error(&answer, Dialect::Checkout, version, "misdirected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_h9_every_refused_mint_is_flat_and_in_the_schemas_words() {
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let agent = agent_of(&world, version);
        let (session, total) = {
            let created = post(&agent, SESSIONS, &order_in(version)).await;
            (created.text("/id").unwrap(), total_of(&created.json()))
        };
        let good = mint_request(GOOD_CARD, "lamps", &session, total);
        let but = |pointer: &str, value: Value| {
            let mut request = good.clone();
            *request.pointer_mut(pointer).unwrap() = value;
            request
        };
        let key = format!("mint-{version}");
        assert_eq!(agent.post(MINT, &good).key(&key).send().await.unwrap().status, 201);
        let conflict = if version < Version::V2026_04_17 { 409 } else { 422 };
        let refused = [
            (401, agent.post(MINT, &good).without("authorization").send().await),
            (401, agent.post(MINT, &good).unsigned().send().await),
            (400, agent.post(MINT, &good).without("api-version").send().await),
            (400, agent.post(MINT, &good).without_key().unsigned().send().await),
            (conflict, agent.post(MINT, &but("/allowance/max_amount", json!(1))).key(&key).send().await),
            (400, agent.call(Method::POST, MINT).body("nothing").send().await),
            (
                415,
                agent
                    .post(MINT, &good)
                    .without("content-type")
                    .header("content-type", "text/xml")
                    .send()
                    .await,
            ),
            (400, agent.post(MINT, &but("/payment_method/type", json!("cash"))).send().await),
            (422, agent.post(MINT, &but("/payment_method/number", json!("4242424242424241"))).send().await),
            (422, agent.post(MINT, &but("/payment_method/exp_month", json!("13"))).send().await),
            (400, agent.post(MINT, &but("/allowance/currency", json!("USD"))).send().await),
            (422, agent.post(MINT, &but("/allowance/max_amount", json!(0))).send().await),
            (422, agent.post(MINT, &but("/allowance/merchant_id", json!("nobody"))).send().await),
            (422, agent.post(MINT, &but("/allowance/checkout_session_id", json!("cs_unknown"))).send().await),
            (
                422,
                agent.post(MINT, &but("/allowance/expires_at", json!("2020-01-01T00:00:00Z"))).send().await,
            ),
            (405, agent.get(MINT).send().await),
        ];
        for (index, (status, answer)) in refused.into_iter().enumerate() {
            let answer = answer.unwrap();
            let dialect = if status == 405 { Dialect::Checkout } else { Dialect::DelegatePayment };
            assert_eq!(answer.status, status, "{version} mint {index}: {}", answer.json());
            assert_acp_error(&answer, dialect, version, &format!("mint {index}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_a_merchants_error_reaches_the_agent_as_an_acp_error_of_the_same_status() {
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let agent = agent_of(&world, version);
        let odd_kind = canned(
            400,
            r#"{"type":"request_not_idempotent","code":"x","message":"m","param":"items[0].id","trace":"at line 7"}"#,
        );
        let told = [
            (400, Canned::status(400)),
            (400, odd_kind),
            (404, Canned::status(404)),
            (410, Canned::html(410)),
            (409, Canned::status(409)),
            (429, Canned::too_many_requests(3)),
            (429, canned(429, r#"{"type":"rate_limit_exceeded","code":"slow_down","message":"m"}"#)),
            (500, Canned::html(500)),
            (503, Canned::status(503)),
            // Our own credential was refused, redirected, or nothing could be read.
            (502, Canned::status(401)),
            (502, Canned::redirect(302)),
            (502, Canned::html(200)),
            (502, canned(201, "{\"id\":")),
            // What stands in front of a merchant answers so by itself.
            (502, Canned::html(404)),
        ];
        for (index, (status, told)) in told.into_iter().enumerate() {
            world.lamps.behave_once(CallKind::Create, Behaviour::Instead(told));
            let answer = post(&agent, SESSIONS, &order_in(version)).await;
            assert_eq!(answer.status, status, "{version} {index}: {}", answer.json());
            assert_acp_error(&answer, Dialect::Checkout, version, &format!("merchant's {index}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h10_every_envelope_of_a_merchants_error_is_unwrapped() {
    let world = World::start().await;
    let alpha = world.alpha();
    let flat =
        r#"{"type":"invalid_request","code":"out_of_stock","message":"Gone.","param":"$.line_items[0]"}"#;
    let expected: Value = serde_json::from_str(flat).unwrap();
    for body in [flat.to_owned(), format!("{{\"error\":{flat}}}"), format!("{{\"detail\":{flat}}}")] {
        world.lamps.behave_once(CallKind::Create, Behaviour::Instead(canned(422, body.clone())));
        let answer = post(&alpha, SESSIONS, &lamp_order()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (422, expected.clone()), "{body}");
    }
    for (body, message, param) in [
        (r#"{"error":"Gone."}"#, "Gone.", None),
        (r#"{"detail":"Gone."}"#, "Gone.", None),
        (
            r#"{"detail":[{"loc":["body","items",0],"msg":"Gone.","type":"missing"}]}"#,
            "Gone.",
            Some("$.items[0]"),
        ),
    ] {
        world.lamps.behave_once(CallKind::Create, Behaviour::Instead(canned(422, body)));
        let answer = post(&alpha, SESSIONS, &lamp_order()).await;
        assert_eq!(
            (answer.text("/message").as_deref(), answer.text("/param").as_deref()),
            (Some(message), param),
            "{body}"
        );
        assert_acp_error(&answer, Dialect::Checkout, Version::LATEST, body);
    }
}
