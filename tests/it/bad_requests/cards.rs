//! Mints with a card, an allowance or a member that is not right.
//!
//! 400 for its shape, 422 for its meaning, with the place of the fault.

use serde_json::{Value, json};

use super::bench::{Base, Bench, Row, refused, refused_at, signed};
use crate::world::*;

/// A mint with the member at a JSON pointer changed; without it for `None`.
fn changed(bench: &Bench, pointer: &str, value: Option<Value>) -> String {
    let mut body = bench.mint();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => _ = parent.insert(name.to_owned(), value),
        None => _ = parent.remove(name),
    }
    body.to_string()
}

fn rows(bench: &Bench, status: u16, cases: Vec<(&str, Value)>) -> Vec<Row> {
    let cases = cases.into_iter().map(|(pointer, value)| {
        let param: &'static str = format!("${}", pointer.replace('/', ".")).leak();
        let name = format!("{pointer} {value:.60}");
        let body = changed(bench, pointer, Some(value));
        signed(name, Base::Mint, body, refused_at(status, "invalid_card", param))
    });
    cases.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_or_allowance_of_the_wrong_shape_is_400() {
    let bench = Bench::start("").await;
    let mut table = rows(
        &bench,
        400,
        vec![
            ("/payment_method/number", json!(4_242_424_242_424_242_u64)),
            ("/payment_method/number", json!(["4242424242424242"])),
            ("/payment_method/cvc", json!("12345")),
            ("/payment_method/cvc", json!(737)),
            ("/payment_method/cvc", json!(null)),
            ("/payment_method/iin", json!("424242424")),
            ("/payment_method/exp_month", json!("011")),
            ("/payment_method/exp_year", json!("20300")),
            ("/payment_method/type", json!("bank_account")),
            ("/payment_method/card_number_type", json!("pan")),
            ("/payment_method/display_card_funding_type", json!("gift")),
            ("/payment_method/display_last4", json!("42424")),
            ("/payment_method/virtual", json!("no")),
            ("/payment_method/metadata", json!({"a": {"b": 1}})),
            ("/allowance/max_amount", json!(10.5)),
            ("/allowance/max_amount", json!("100")),
            ("/allowance/max_amount", json!(null)),
            ("/allowance/currency", json!("USD")),
            ("/allowance/currency", json!("us")),
            ("/allowance/currency", json!("usdt")),
            ("/allowance/currency", json!("ｕｓｄ")),
            ("/allowance/reason", json!("recurring")),
            ("/allowance/expires_at", json!("tomorrow")),
            ("/allowance/expires_at", json!(1_900_000_000)),
            ("/allowance/merchant_id", json!("x".repeat(257))),
            ("/risk_signals", json!({})),
            ("/metadata", json!("x")),
        ],
    );
    for pointer in ["", "/payment_method", "/allowance"] {
        let param: &'static str = format!("${}", pointer.replace('/', ".")).leak();
        let body = changed(&bench, &format!("{pointer}/surprise"), Some(json!(1)));
        table.push(signed(
            format!("an unknown member in {param}"),
            Base::Mint,
            body,
            refused_at(400, "invalid_card", param),
        ));
    }
    for pointer in [
        "/payment_method",
        "/payment_method/number",
        "/allowance",
        "/allowance/max_amount",
        "/risk_signals",
        "/metadata",
    ] {
        let param: &'static str = format!("${}", pointer.replace('/', ".")).leak();
        let body = changed(&bench, pointer, None);
        table.push(signed(format!("no {param}"), Base::Mint, body, refused_at(400, "invalid_card", param)));
    }
    // What JSON libraries would not write.
    for (name, from, to) in [
        ("an amount of 1e400", format!("\"max_amount\":{}", bench.total), "\"max_amount\":1e400".to_owned()),
        (
            "an amount of 33 digits",
            format!("\"max_amount\":{}", bench.total),
            format!("\"max_amount\":{}", "1".repeat(33)),
        ),
        (
            "an amount twice",
            format!("\"max_amount\":{}", bench.total),
            "\"max_amount\":1,\"max_amount\":9000".to_owned(),
        ),
        (
            "an amount twice, once escaped",
            format!("\"max_amount\":{}", bench.total),
            "\"max_amount\":1,\"max\\u005famount\":9000".to_owned(),
        ),
        (
            "a number twice",
            "\"type\":\"card\"".to_owned(),
            "\"type\":\"card\",\"number\":\"4000000000000002\"".to_owned(),
        ),
        ("a NUL in metadata's name", "\"campaign\"".to_owned(), "\"camp\\u0000aign\"".to_owned()),
        ("a lone surrogate in the name", "Ada Lovelace".to_owned(), "\\ud800".to_owned()),
    ] {
        let good = bench.mint().to_string();
        let body = good.replace(&from, &to);
        assert_ne!(body, good, "{name}");
        table.push(signed(name, Base::Mint, body, refused(400, "invalid_card")));
    }
    bench.run(table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_vault_takes_is_400_and_names_its_place() {
    let bench = Bench::start("").await;
    let long = "x".repeat(513);
    let pairs = |count: usize, value: &str| -> Value {
        (0..count).map(|n| (format!("k{n}"), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    let address = json!({
        "name": "Ada", "line_one": "1 Main St", "city": "Springfield", "state": long, "country": "US",
        "postal_code": "62701"
    });
    let mut table = rows(
        &bench,
        400,
        vec![
            ("/payment_method/name", json!(long)),
            ("/payment_method/cryptogram", json!(long)),
            ("/payment_method/display_wallet_type", json!(long)),
            ("/payment_method/display_brand", json!(long)),
            ("/payment_method/checks_performed", json!(vec!["avs"; 17])),
            ("/payment_method/metadata", pairs(65, "")),
            ("/payment_method/metadata", pairs(1, &"x".repeat(8 << 10))),
            ("/metadata", pairs(65, "")),
            ("/metadata", pairs(1, &"x".repeat(8 << 10))),
            // Little to say, and long to write.
            ("/payment_method/metadata", json!({ "x".repeat((8 << 10) + 1): "" })),
        ],
    );
    let body = changed(&bench, "/billing_address", Some(address));
    let refusal = refused_at(400, "invalid_card", "$.billing_address.state");
    table.push(signed("a state of 513 characters", Base::Mint, body, refusal));
    // As long as each member is, they are too long together.
    let body = changed(&bench, "/payment_method/metadata", Some(pairs(3, &"\u{1}".repeat(2_700))));
    let refusal = refused_at(400, "invalid_card", "$.payment_method");
    table.push(signed("a card of more than 16 KiB", Base::Mint, body, refusal));
    bench.run(table).await;
    // All of it at its bound is taken.
    let mut request = bench.mint();
    for (pointer, value) in [
        ("/payment_method/metadata", pairs(64, &"x".repeat(120))),
        ("/metadata", pairs(64, &"x".repeat(120))),
        ("/payment_method/name", json!("\u{e9}".repeat(512))),
    ] {
        *request.pointer_mut(pointer).unwrap() = value;
    }
    let minted = bench.alpha.post("/agentic_commerce/delegate_payment", &request).send().await.unwrap();
    assert_eq!(minted.status, 201, "{:?}", minted.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_or_allowance_of_the_wrong_meaning_is_422() {
    let bench = Bench::start("").await;
    let mut table = rows(
        &bench,
        422,
        vec![
            ("/payment_method/number", json!("4242424242424241")),
            ("/payment_method/number", json!("4242 4242 4242 4242")),
            ("/payment_method/number", json!("42424242424")),
            ("/payment_method/number", json!("42424242424242424242")),
            ("/payment_method/number", json!("４２４２４２４２４２４２４２４２")),
            ("/payment_method/number", json!("")),
            ("/payment_method/exp_month", json!("13")),
            ("/payment_method/exp_month", json!("00")),
            ("/payment_method/exp_month", json!("-1")),
            ("/payment_method/exp_year", json!("2020")),
            ("/payment_method/exp_year", json!("30")),
            ("/payment_method/cvc", json!("12")),
            ("/payment_method/cvc", json!("12a")),
            ("/payment_method/cvc", json!("")),
            ("/allowance/max_amount", json!(0)),
            ("/allowance/max_amount", json!(-1)),
            ("/allowance/max_amount", json!(9_007_199_254_740_992_u64)),
            ("/allowance/expires_at", json!("2020-01-01T00:00:00Z")),
            ("/allowance/expires_at", json!("2099-01-01T00:00:00Z")),
            ("/allowance/merchant_id", json!("acct_nobody")),
            ("/allowance/merchant_id", json!("acct_lamps ")),
            ("/allowance/merchant_id", json!("")),
            ("/allowance/checkout_session_id", json!("cs_nobody")),
            ("/allowance/checkout_session_id", json!("../books/cs_1")),
            ("/allowance/checkout_session_id", json!("")),
        ],
    );
    // Sessions that exist, and not for this agent at this merchant.
    let (of_beta, _) = create(&bench.beta, "lamps").await;
    let (at_books, _) = create(&bench.alpha, "books").await;
    table.extend(rows(
        &bench,
        422,
        vec![
            ("/allowance/checkout_session_id", json!(of_beta)),
            ("/allowance/checkout_session_id", json!(at_books)),
        ],
    ));
    bench.run(table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_mint_is_told_at_once_in_the_schemas_order() {
    let bench = Bench::start("").await;
    let mut body = bench.mint();
    body["payment_method"]["cvv"] = json!("737");
    body["payment_method"]["4242424242424242"] = json!("x");
    body["payment_method"]["number"] = json!("4242424242424241");
    body["payment_method"]["exp_month"] = json!("13");
    body["allowance"]["currency"] = json!("USD");
    body["allowance"]["expires_at"] = json!("2020-01-01T00:00:00Z");
    body.as_object_mut().unwrap().remove("metadata");
    let answer = bench.alpha.post("/agentic_commerce/delegate_payment", &body).send().await.unwrap();
    let error = answer.json();
    // The first decides, as if it were alone.
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (400, Some("invalid_card")));
    assert_eq!(error["param"], "$.payment_method");
    let message = error["message"].as_str().unwrap();
    let told: Vec<&str> = message.split(" Also ").collect();
    assert_eq!(told[0], "This object has a member that is not defined for it.");
    assert_eq!(told[1], "$.payment_method: This object has a member that is not defined for it: cvv.");
    assert_eq!(told[2], "$.allowance.currency: This must be three lower-case letters.");
    assert_eq!(told[3], "$.metadata: This is required.");
    assert_eq!(told[4], "$.payment_method.number: The card number is not valid.");
    assert_eq!(told[5], "$.payment_method.exp_month: This must be 01 to 12.");
    assert!(told[6].starts_with("$.allowance.expires_at: This must lie in the future: it is "), "{message}");
    assert_eq!(told.len(), 7);
    assert_eq!(shown_of_card(message), None, "{message}");
    // ACP's error allows no other members.
    let members: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members.len(), 4, "{members:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_that_lives_too_long_is_told_how_long_it_may() {
    let bench = Bench::start("").await;
    let body = changed(&bench, "/allowance/expires_at", Some(json!("2099-01-01T00:00:00Z")));
    let call = bench.alpha.post("/agentic_commerce/delegate_payment", &bench.mint()).body(body);
    let answer = call.send().await.unwrap();
    let message = answer.text("/message").unwrap();
    assert_eq!(answer.text("/param").as_deref(), Some("$.allowance.expires_at"));
    let until = message.split("which is 86400 s: until ").nth(1).and_then(|rest| rest.strip_suffix(" now."));
    let until = until.and_then(countersign::domain::clock::Timestamp::parse_rfc3339).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    assert!(until.distance(bench.world.clock.now().plus(day)).as_secs() < 60, "{message}");
}
