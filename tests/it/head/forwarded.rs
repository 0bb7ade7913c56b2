//! What reaches the merchant: the allow-list, our own headers, the body byte for byte.
//!
//! All under one signature that the shop verifies.

use std::collections::BTreeSet;

use countersign::quickstart::agent::{Agent, Call};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Context};
use http::Method;
use serde_json::json;

use super::{names, only_call};
use crate::world::*;

/// What the agents of these tests send beside what they need: some of it travels, most does not.
const SENT: [(&str, &str); 24] = [
    ("accept-language", "de-CH, de;q=0.7, en;q=0.3"),
    ("user-agent", "Shopping-Agent/3.1 (+https://agent.test)"),
    ("request-id", "req-1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("accept-encoding", "gzip, br"),
    ("forwarded", "for=192.0.2.1;host=evil.test"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-host", "evil.test"),
    ("x-real-ip", "192.0.2.1"),
    ("countersign-context", "merchant=\"lamps\", agent=\"beta\", proof=\"signed\""),
    ("countersign-grant", "eyJhbGciOiJub25lIn0.e30."),
    ("cookie", "session=1"),
    ("tracestate", "a=b"),
    ("baggage", "a=b"),
    ("via", "1.1 elsewhere"),
    ("origin", "https://agent.test"),
    ("referer", "https://agent.test/"),
    ("if-none-match", "\"1\""),
    ("range", "bytes=0-1"),
    ("prefer", "respond-async"),
    ("x-api-key", "of-the-agent"),
    ("x-http-method-override", "DELETE"),
    ("proxy-authorization", "Bearer of-the-agent"),
    ("timestamp", "2020-01-01T00:00:00Z"),
];

/// On every forwarded request.
const ALWAYS: [&str; 14] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "api-version",
    "authorization",
    "content-digest",
    "countersign-context",
    "forwarded",
    "request-id",
    "signature",
    "signature-input",
    "timestamp",
    "traceparent",
    "user-agent",
];

async fn send(mut call: Call<'_>) -> Answer {
    for (name, value) in SENT {
        call = call.header(name, value);
    }
    call.send().await.unwrap()
}

/// One call of every kind, with everything a stranger could add; what each was answered.
async fn one_of_each(agent: &Agent) -> Vec<(CallKind, Answer)> {
    let sessions = "/m/lamps/checkout_sessions";
    let created = send(agent.post(sessions, &lamp_order()).key("key-of-the-agent")).await;
    let session = format!("{sessions}/{}", created.text("/id").unwrap());
    let read = send(agent.get(&session)).await;
    let updated = send(agent.post(&session, &lamp_order()).key("key-of-the-agent")).await;
    let total = total_of(&updated.json());
    let token = mint(agent, "lamps", &created.text("/id").unwrap(), GOOD_CARD, total).await;
    let pay = agent.post(format!("{session}/complete"), &payment(&token)).key("key-of-the-agent");
    let completed = send(pay).await;
    let (other, _) = create(agent, "lamps").await;
    let canceled = send(agent.call(Method::POST, format!("{sessions}/{other}/cancel"))).await;
    let cart = json!({"line_items": [{"id": "item_lamp"}], "currency": "usd"});
    let carted = send(agent.post("/m/lamps/carts", &cart)).await;
    let cart_path = format!("/m/lamps/carts/{}", carted.text("/id").unwrap());
    let cart_read = send(agent.get(&cart_path)).await;
    let replaced = send(agent.call(Method::PUT, &cart_path).json(&cart)).await;
    let cart_canceled = send(agent.post(format!("{cart_path}/cancel"), &json!({}))).await;
    vec![
        (CallKind::Create, created),
        (CallKind::Read, read),
        (CallKind::Update, updated),
        (CallKind::Complete, completed),
        (CallKind::Cancel, canceled),
        (CallKind::CartCreate, carted),
        (CallKind::CartRead, cart_read),
        (CallKind::CartUpdate, replaced),
        (CallKind::CartCancel, cart_canceled),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_what_reaches_the_merchant_is_the_allow_list_and_ours_and_it_verifies() {
    let world = World::start().await;
    let alpha = world.alpha();
    let bearer = alpha.settings().credential.expose();
    for (kind, answer) in one_of_each(&alpha).await {
        assert!(answer.status.is_success(), "{kind:?}: {}", answer.json());
        let call = world.lamps.calls_of(kind).remove(0);
        assert_eq!(call.distrust, None, "{kind:?}");
        let mut expected: BTreeSet<&str> = ALWAYS.into();
        if !matches!(kind, CallKind::Read | CallKind::CartRead) {
            expected.insert("idempotency-key");
        }
        if !call.body.is_empty() {
            // Its length is the connection's affair.
            expected.extend(["content-type", "content-length"]);
        }
        if kind == CallKind::Complete {
            expected.insert("countersign-grant");
        }
        let mut received = names(&call.headers);
        if call.body.is_empty() {
            received.remove("content-length");
        }
        assert_eq!(received, expected, "{kind:?}");
        for (name, value) in &call.headers {
            let value = value.to_str().unwrap();
            assert!(!value.contains(bearer), "{kind:?} {name}");
            assert!(!value.contains("192.0.2.1") && !value.contains("of-the-agent"), "{kind:?} {name}");
        }
        let text = |name: &str| call.headers.get(name).map(|value| value.to_str().unwrap());
        // H7.
        assert_eq!(text("accept-language"), Some("de-CH, de;q=0.7, en;q=0.3"), "{kind:?}");
        let agents =
            concat!("Shopping-Agent/3.1 (+https://agent.test) countersign/", env!("CARGO_PKG_VERSION"));
        assert_eq!(text("user-agent"), Some(agents), "{kind:?}");
        assert_eq!(text("request-id"), Some("req-1"), "{kind:?}");
        assert_eq!(text("traceparent"), Some(SENT[3].1), "{kind:?}");
        assert_eq!(text("accept-encoding"), Some("identity"), "{kind:?}");
        assert_eq!(text("accept"), Some("application/json"), "{kind:?}");
        let forwarded = format!("for=127.0.0.1;host=\"{GATEWAY}\";proto=https");
        assert_eq!(text("forwarded"), Some(forwarded.as_str()), "{kind:?}");
        assert_ne!(text("timestamp"), Some("2020-01-01T00:00:00Z"), "{kind:?}");
        assert_ne!(text("idempotency-key"), Some("key-of-the-agent"), "{kind:?}");
        let context = Context::parse(text("countersign-context").unwrap()).unwrap();
        let said = (context.merchant.as_str(), context.agent.as_str(), context.proof.as_str());
        assert_eq!(said, ("lamps", "alpha", "signed"), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_leaves_out_is_filled_in() {
    let world = World::start().await;
    let call = world.alpha().post("/m/lamps/checkout_sessions", &lamp_order()).without("accept").send().await;
    let answer = call.unwrap();
    let call = only_call(&world.lamps, CallKind::Create);
    let text = |name: &str| call.headers[name].to_str().unwrap();
    assert_eq!(text("accept"), "application/json");
    assert_eq!(text("user-agent"), concat!("countersign/", env!("CARGO_PKG_VERSION")));
    assert_eq!(Some(text("request-id")), answer.header("request-id"));
    assert!(!call.headers.contains_key("accept-language") && !call.headers.contains_key("traceparent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_values_break_nothing_that_is_signed() {
    let world = World::start().await;
    let alpha = world.alpha();
    let odd = [
        ("request-id", r#"a"b\c,d="e""#),
        ("accept-language", "de"),
        ("accept-language", "en;q=0.5"),
        ("traceparent", "00-of-no-trace"),
        ("user-agent", "agent (\u{fc}nic\u{f6}de)"),
        ("accept", "application/json;q=0.9, */*"),
        // HTTP/2 lets the space at the end through, HTTP/1.1 would not.
        ("content-type", "Application/JSON;  charset=\"UTF-8\" "),
    ];
    let call = alpha.post("/m/lamps/checkout_sessions", &lamp_order());
    let mut call = call.without("accept").without("content-type");
    for (name, value) in odd {
        call = call.header(name, value);
    }
    let answer = call.send().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("request-id")), (201, Some(odd[0].1)));
    let call = only_call(&world.lamps, CallKind::Create);
    assert_eq!(call.distrust, None);
    let bytes = |name: &str| call.headers[name].as_bytes().to_vec();
    assert_eq!(bytes("request-id"), odd[0].1.as_bytes());
    assert_eq!(bytes("accept-language"), b"de, en;q=0.5");
    assert_eq!(bytes("accept"), odd[5].1.as_bytes());
    assert!(bytes("user-agent").starts_with(odd[4].1.as_bytes()), "{:?}", call.headers);
    assert!(!call.headers.contains_key("traceparent"));
    assert_eq!(
        Context::parse(std::str::from_utf8(&bytes("countersign-context")).unwrap()).unwrap().agent,
        "alpha"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_is_said_to_be_so() {
    let world = World::start().await;
    let alpha = world.alpha();
    let call = alpha.post("/m/lamps/carts", &json!({"line_items": [{"id": "item_lamp"}]}));
    assert_eq!(call.unsigned().send().await.unwrap().status, 201);
    let call = only_call(&world.lamps, CallKind::CartCreate);
    let context = Context::parse(call.headers["countersign-context"].to_str().unwrap()).unwrap();
    assert_eq!((context.proof.as_str(), call.distrust), ("bearer", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_signed_over_next_to_nothing_is_told_as_unsigned() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (covered, proof) in [
        (&[][..], "bearer"),
        (&["@authority"], "bearer"),
        (&["@method", "@authority", "@path"], "bearer"),
        (&["@method", "@authority", "@path", "content-digest"], "signed"),
    ] {
        let call = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).covering(covered);
        assert_eq!(call.send().await.unwrap().status, 201);
        let call = world.lamps.calls_of(CallKind::Create).pop().unwrap();
        let context = Context::parse(call.headers["countersign-context"].to_str().unwrap()).unwrap();
        assert_eq!((context.proof.as_str(), call.distrust), (proof, None), "{covered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_bodies_travel_byte_for_byte_both_ways() {
    let world = World::start().await;
    let alpha = world.alpha();
    let sessions = "/m/lamps/checkout_sessions";
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    // Order, space, escapes, spelling of numbers, null and what nobody knows: all of it is theirs.
    let odd = r#" "z" : 1.50, "a":[1e2,-0.0, 10000000000000000 ] ,"n":null,"u":"\u00e9é\/",  "x_new":{"b":{},"a":[]}"#;
    let answer = |id: &str| {
        format!(
            "\n{{{odd},\t\"status\":\"completed\",\"id\":\"{id}\", \"currency\":\"usd\",\"totals\":[{{\"amount\":{total}, \"type\":\"total\"}}]}}\r\n"
        )
    };
    let path = format!("{sessions}/{session}");
    let complete = format!(
        "{{{odd}, \"payment_data\" : {{\"instrument\":{{ \"credential\":{{\"token\":\"{token}\"}}}}}}}}"
    );
    let cart = json!({"line_items": [{"id": "item_lamp"}], "currency": "usd"});
    let carted = alpha.post("/m/lamps/carts", &cart).send().await.unwrap();
    let cart = carted.text("/id").unwrap();
    let cart_path = format!("/m/lamps/carts/{cart}");
    let plain = format!("{{{odd}}}");
    for (kind, method, path, id, body) in [
        (CallKind::Update, Method::POST, path.clone(), session.as_str(), plain.as_str()),
        (CallKind::Complete, Method::POST, format!("{path}/complete"), &session, &complete),
        (CallKind::Read, Method::GET, path.clone(), &session, ""),
        (CallKind::Create, Method::POST, sessions.to_owned(), "cs_new", &plain),
        (CallKind::CartUpdate, Method::PUT, cart_path, &cart, &plain),
    ] {
        let told = if kind == CallKind::Update {
            answer(id).replace("completed", "ready_for_payment")
        } else {
            answer(id)
        };
        world.lamps.behave_once(kind, Behaviour::Instead(canned(200, told.clone())));
        let answer = alpha.call(method, path).body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status, 200, "{kind:?}: {}", answer.json());
        assert_eq!(answer.body, told, "{kind:?}");
        let received = world.lamps.calls_of(kind).pop().unwrap();
        assert_eq!(received.body, body, "{kind:?}");
        assert_eq!(received.distrust, None, "{kind:?}");
    }
}
