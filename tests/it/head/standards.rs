//! Values that a standard defines are read as it says: all of its forms, and no other.

use countersign::domain::clock::{Clock, SystemClock};
use countersign::quickstart::shop::{Behaviour, Canned};

use super::*;
use crate::wire::{Raw, exchange};

const MINTS: &str = "/agentic_commerce/delegate_payment";

/// The good create, changed behind its signature, which where nothing moves is not needed.
async fn created(world: &World, change: impl FnOnce(Raw) -> Raw) -> (Option<u16>, Value) {
    let alpha = world.alpha();
    let order = lamp_order();
    let raw = Raw::of(&alpha.post("/m/lamps/checkout_sessions", &order).unsigned().prepare().unwrap());
    let received = exchange(world, &change(raw).bytes()).await;
    (received.status, received.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_may_have_any_parameter_that_is_one() {
    let world = World::start().await;
    for value in [
        "application/json; a=b",
        "application/json;profile=\"a;b, c\"; charset=utf-8",
        "application/json; charset=\"utf\\-8\"",
        "APPLICATION/JSON\t;;",
    ] {
        let (status, told) = created(&world, |raw| raw.set("content-type", value)).await;
        assert_eq!(status, Some(201), "{value}: {told}");
    }
    for value in [
        "application/json; charset=\"utf-8",
        "application/json; charset=utf-8\"",
        "application/json; a",
        "application/json; a=b; charset=utf-16",
    ] {
        let (status, told) = created(&world, |raw| raw.set("content-type", value)).await;
        assert_eq!((status, &told["code"]), (Some(415), &json!("unsupported_media_type")), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_may_be_left_out_behind_its_colon_or_have_zeros_before_it() {
    let world = World::start().await;
    for host in ["gateway.test:", "gateway.test:443", "gateway.test:0000443", "GATEWAY.test:"] {
        let (status, told) = created(&world, |raw| raw.set("host", host)).await;
        assert_eq!(status, Some(201), "{host}: {told}");
    }
    for host in ["gateway.test:+443", "gateway.test:-1", "gateway.test: 443", "gateway.test:443:"] {
        let (status, told) = created(&world, |raw| raw.set("host", host)).await;
        assert_eq!((status, &told["code"]), (Some(400), &json!("invalid_host")), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_is_rfc_3339_and_an_offset_that_is_none_is_refused() {
    let world = World::start().await;
    let alpha = world.alpha();
    let utc = SystemClock.now().plus(std::time::Duration::from_secs(3600)).to_rfc3339();
    let utc = utc.split(['.', 'Z']).next().unwrap();
    let mint = async |expires_at: &str| {
        let (session, total) = create(&alpha, "lamps").await;
        let mut body = mint_request(GOOD_CARD, "lamps", &session, total);
        body["allowance"]["expires_at"] = json!(expires_at);
        alpha.post(MINTS, &body).send().await.unwrap()
    };
    for offset in ["Z", "z", "+00:00", "-00:00", "-12:30", ".1234567890123Z"] {
        let answer = mint(&format!("{utc}{offset}")).await;
        // Later by the offset is beyond what this agent may, but an instant all the same.
        assert_eq!(answer.status, 201, "{offset}: {}", answer.json());
    }
    let never = mint("9999-12-31T23:59:59Z").await;
    assert_eq!(
        (never.status.as_u16(), never.text("/param").unwrap().as_str()),
        (422, "$.allowance.expires_at")
    );
    for offset in ["-00", "-0000", "-00:00:00", "-24:00", "-00:60", "", "Z[UTC]", ",5Z"] {
        let answer = mint(&format!("{utc}{offset}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_deref()),
            (400, Some("invalid_card")),
            "{offset}"
        );
        assert_eq!(answer.text("/param").as_deref(), Some("$.allowance.expires_at"), "{offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_may_leave_out_its_padding() {
    let world = World::start().await;
    let (status, told) = created(&world, |raw| raw).await;
    assert_eq!(status, Some(201), "{told}");
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let payment = payment(&token);
    let prepared = alpha.post(path, &payment).prepare().unwrap();
    let raw = Raw::of(&prepared);
    // Its value is signed: what is left out of `Signature` is not.
    let signature = raw.text("signature");
    assert!(signature.contains("=:"), "{signature}");
    let unpadded =
        raw.set("signature", format!("{}:", signature.trim_end_matches(':').trim_end_matches('=')));
    let received = exchange(&world, &unpadded.bytes()).await;
    assert_eq!(received.status, Some(200), "{}", received.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_a_merchant_names_by_an_instant_is_told_in_seconds() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    let read = async |date: Option<&str>, value: &str| {
        let mut canned = Canned::status(503).with_header("retry-after", value);
        if let Some(date) = date {
            canned = canned.with_header("date", date);
        }
        world.lamps.behave_once(CallKind::Read, Behaviour::Instead(canned));
        let answer = alpha.get(format!("/m/lamps/checkout_sessions/{session}")).send().await.unwrap();
        assert_eq!(answer.status, 503);
        answer.header("retry-after").map(str::to_owned)
    };
    let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
    assert_eq!(read(date, "Wed, 21 Oct 2026 07:29:30 GMT").await.as_deref(), Some("90"));
    assert_eq!(read(date, "Wednesday, 21-Oct-26 07:29:30 GMT").await.as_deref(), Some("90"));
    assert_eq!(read(date, "86400000").await.as_deref(), Some("999999"));
    assert_eq!(read(date, "soon").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_query_may_be_percent_encoded() {
    let world = World::start().await;
    for (query, status) in [
        ("merchant=l%61mps&limit=%31", 200),
        ("%6Dimit=1", 400),
        ("limit=%2B1", 400),
        ("merchant=%2E%2E", 400),
        ("a%6Cl=true", 200),
    ] {
        let told = world.operate(&format!("GET /claims?{query}"), None).await;
        assert_eq!(told.status, status, "{query}: {}", told.body);
    }
}
