//! What the reading of `delegate_payment` accepts, refuses and keeps.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::acp::wire::Fault;
use crate::domain::secret::SecretBytes;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-06-15T12:00:00Z").unwrap()
}

fn example() -> Json {
    json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": "4242424242424242",
            "exp_month": "11", "exp_year": "2027", "name": "Jané \"J\" Doe", "cvc": "223",
            "cryptogram": "gXc5UCLnM6ckD7pjM1TdPA==", "eci_value": "07",
            "checks_performed": ["avs", "cvv"], "iin": "424242", "virtual": false,
            "display_card_funding_type": "credit", "display_wallet_type": "apple_pay",
            "display_brand": "visa", "display_last4": "4242", "metadata": {"issuing_bank": "temp"}
        },
        "allowance": {
            "reason": "one_time", "max_amount": 2000, "currency": "usd",
            "checkout_session_id": "cs_1", "merchant_id": "acme", "expires_at": "2026-06-15T12:00:00.001Z"
        },
        "billing_address": {
            "name": "Ada", "line_one": "1 Road", "line_two": "", "city": "SF", "state": "CA",
            "country": "US", "postal_code": "94131"
        },
        "risk_signals": [{"type": "card_testing", "score": 10, "action": "manual_review"}],
        "metadata": {"campaign": "q4"}
    })
}

fn read_in(body: &Json, version: Version) -> Result<DelegatePayment, WireError> {
    DelegatePayment::read(body.to_string().as_bytes(), version, now(), &Settings::default())
        .map_err(|mistakes| mistakes.first)
}

/// Status kind and place of the refusal of the example with one change.
fn refusal(change: impl Fn(&mut Json)) -> Option<(Fault, String)> {
    let mut body = example();
    change(&mut body);
    read_in(&body, Version::LATEST).err().map(|error| (error.fault, error.param))
}

/// The example with the member at a JSON pointer set, or removed.
fn with(pointer: &'static str, value: Json) -> impl Fn(&mut Json) {
    move |body| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
    }
}

fn without(pointer: &'static str) -> impl Fn(&mut Json) {
    move |body| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    }
}

/// `/a/b` as `$.a.b`.
fn path(pointer: &str) -> String {
    format!("${}", pointer.replace('/', "."))
}

#[test]
fn a_whole_request_is_read_in_every_version() {
    for version in Version::NEWEST_FIRST {
        let read = read_in(&example(), version).unwrap_or_else(|error| panic!("{version}: {error:?}"));
        assert_eq!(read.card.number.expose(), "4242424242424242");
        assert_eq!((read.card.exp_month, read.card.exp_year), (Some(11), Some(2027)));
        assert_eq!(read.card.number_kind, NumberKind::Fpan);
        assert_eq!(read.allowance.max_amount.get(), 2000);
        assert_eq!(read.allowance.currency.as_str(), "usd");
        assert_eq!(read.allowance.merchant_id, "acme");
        assert_eq!(read.risk_signals[0].action, RiskAction::ManualReview);
        assert_eq!(read.metadata["campaign"], "q4");
        assert_eq!(*read.billing_address.unwrap().city, "SF");
    }
}

#[test]
fn each_required_member_is_required() {
    for pointer in [
        "/payment_method",
        "/payment_method/type",
        "/payment_method/card_number_type",
        "/payment_method/number",
        "/payment_method/display_card_funding_type",
        "/payment_method/metadata",
        "/allowance",
        "/allowance/reason",
        "/allowance/max_amount",
        "/allowance/currency",
        "/allowance/checkout_session_id",
        "/allowance/merchant_id",
        "/allowance/expires_at",
        "/billing_address/name",
        "/billing_address/line_one",
        "/billing_address/city",
        "/billing_address/state",
        "/billing_address/country",
        "/billing_address/postal_code",
        "/risk_signals",
        "/metadata",
    ] {
        assert_eq!(refusal(without(pointer)), Some((Fault::Structural, path(pointer))), "{pointer}");
    }
    let score = refusal(|body| _ = body["risk_signals"][0].as_object_mut().unwrap().remove("score"));
    assert_eq!(score, Some((Fault::Structural, "$.risk_signals[0].score".to_owned())));
}

#[test]
fn each_optional_member_is_optional_but_never_null() {
    for pointer in [
        "/billing_address",
        "/billing_address/line_two",
        "/payment_method/exp_month",
        "/payment_method/exp_year",
        "/payment_method/name",
        "/payment_method/cvc",
        "/payment_method/cryptogram",
        "/payment_method/eci_value",
        "/payment_method/checks_performed",
        "/payment_method/iin",
        "/payment_method/virtual",
        "/payment_method/display_wallet_type",
        "/payment_method/display_brand",
        "/payment_method/display_last4",
    ] {
        assert_eq!(refusal(without(pointer)), None, "{pointer}");
        let null = refusal(with(pointer, Json::Null));
        assert_eq!(null, Some((Fault::Structural, path(pointer))), "{pointer}");
    }
}

#[test]
fn a_wrong_shape_is_structural_and_names_its_place() {
    let long = |length: usize| Json::String("x".repeat(length));
    for (pointer, value) in [
        ("/payment_method/type", json!("seller_backed_saved_card")),
        ("/payment_method/card_number_type", json!("pan")),
        ("/payment_method/number", json!(4_242_424_242_424_242_u64)),
        ("/payment_method/exp_month", json!("011")),
        ("/payment_method/exp_year", json!("20277")),
        ("/payment_method/cvc", json!("12345")),
        ("/payment_method/eci_value", json!("007")),
        ("/payment_method/checks_performed", json!(["avs", "psd2"])),
        ("/payment_method/iin", json!("424242424")),
        ("/payment_method/virtual", json!("false")),
        ("/payment_method/display_card_funding_type", json!("charge")),
        ("/payment_method/display_last4", json!("42")),
        ("/payment_method/metadata", json!({"a": 1})),
        ("/allowance/reason", json!("recurring")),
        ("/allowance/max_amount", json!(10.5)),
        ("/allowance/max_amount", json!("2000")),
        ("/allowance/currency", json!("USD")),
        ("/allowance/currency", json!("us")),
        ("/allowance/merchant_id", long(257)),
        ("/allowance/expires_at", json!("tomorrow")),
        ("/billing_address/name", long(257)),
        ("/billing_address/line_one", long(61)),
        ("/billing_address/line_two", long(61)),
        ("/billing_address/city", long(61)),
        ("/billing_address/state", long(513)),
        ("/payment_method/name", long(513)),
        ("/payment_method/cryptogram", long(513)),
        ("/payment_method/display_wallet_type", long(513)),
        ("/payment_method/display_brand", long(513)),
        ("/payment_method/checks_performed", json!(vec!["avs"; 17])),
        ("/billing_address/country", json!("USA")),
        ("/billing_address/country", json!("U")),
        ("/billing_address/postal_code", long(21)),
        ("/risk_signals", json!({})),
        ("/metadata", json!(["a"])),
    ] {
        let refused = refusal(with(pointer, value.clone()));
        assert_eq!(refused, Some((Fault::Structural, path(pointer))), "{pointer} {value}");
    }
    for (member, value) in [("type", json!("x")), ("score", json!(1.5)), ("action", json!("allow"))] {
        let refused = refusal(|body| body["risk_signals"][0][member] = value.clone());
        assert_eq!(refused, Some((Fault::Structural, format!("$.risk_signals[0].{member}"))));
    }
}

#[test]
fn a_wrong_meaning_is_semantic() {
    for (pointer, value) in [
        ("/payment_method/number", json!("4242424242424241")),
        ("/payment_method/number", json!("4242 4242 4242 4242")),
        ("/payment_method/exp_month", json!("13")),
        ("/payment_method/exp_month", json!("00")),
        ("/payment_method/exp_month", json!("1")),
        ("/payment_method/exp_year", json!("27")),
        ("/payment_method/exp_year", json!("2025")),
        ("/payment_method/cvc", json!("12")),
        ("/payment_method/cvc", json!("12a")),
        ("/allowance/max_amount", json!(0)),
        ("/allowance/max_amount", json!(-1)),
        ("/allowance/max_amount", json!(9_007_199_254_740_992_u64)),
        // Invalid at the instant of expiry itself.
        ("/allowance/expires_at", json!("2026-06-15T12:00:00Z")),
    ] {
        let refused = refusal(with(pointer, value.clone()));
        assert_eq!(refused, Some((Fault::Semantic, path(pointer))), "{pointer} {value}");
    }
}

#[test]
fn a_fault_of_shape_comes_before_any_of_meaning() {
    let both = refusal(|body| {
        body["payment_method"]["number"] = json!("4242424242424241");
        body["allowance"]["currency"] = json!("USD");
    });
    assert_eq!(both, Some((Fault::Structural, "$.allowance.currency".to_owned())));
}

#[test]
fn members_that_are_not_defined_are_refused_at_their_object() {
    for (pointer, place) in [
        ("/handler_id", "$"),
        ("/payment_method/fields", "$.payment_method"),
        ("/allowance/4242424242424242", "$.allowance"),
        ("/billing_address/company", "$.billing_address"),
    ] {
        let refused = refusal(with(pointer, json!("x")));
        assert_eq!(refused, Some((Fault::Structural, place.to_owned())), "{pointer}");
    }
    let twice = br#"{"metadata":{},"metadata":{}}"#;
    let refused = DelegatePayment::read(twice, Version::LATEST, now(), &Settings::default());
    assert_eq!(refused.err().map(|mistakes| mistakes.first.param).as_deref(), Some("$"));
}

#[test]
fn a_member_that_is_not_defined_is_named_where_its_name_can_be_no_secret() {
    for (name, told) in [("company", true), ("line_3", true), ("4242424242424242", false), ("737", false)] {
        let mut body = example();
        body["billing_address"][name] = json!("x");
        let message = read_in(&body, Version::LATEST).err().unwrap().message;
        assert_eq!(message.ends_with(&format!(": {name}.")), told, "{message}");
        assert_eq!(message.contains(name), told, "{message}");
    }
}

/// Where the mistakes of the example with these changes stand.
fn mistakes(change: impl Fn(&mut Json)) -> (Vec<String>, bool) {
    let mut body = example();
    change(&mut body);
    let read =
        DelegatePayment::read(body.to_string().as_bytes(), Version::LATEST, now(), &Settings::default());
    let Mistakes { first, more, cut } = read.err().unwrap();
    (std::iter::once(first).chain(more).map(|mistake| mistake.param).collect(), cut)
}

#[test]
fn all_mistakes_are_found_those_of_shape_first_and_each_kind_in_the_schemas_order() {
    let (found, cut) = mistakes(|body| {
        body["metadata"] = json!(["a"]);
        body["risk_signals"][0]["score"] = json!(1.5);
        without("/billing_address/city")(body);
        body["allowance"]["expires_at"] = json!("2020-01-01T00:00:00Z");
        body["allowance"]["currency"] = json!("USD");
        body["payment_method"]["cvc"] = json!("12a");
        body["payment_method"]["number"] = json!("4242424242424241");
        body["payment_method"]["surprise"] = json!(1);
    });
    let expected = [
        "$.payment_method",
        "$.allowance.currency",
        "$.billing_address.city",
        "$.risk_signals[0].score",
        "$.metadata",
        "$.payment_method.number",
        "$.payment_method.cvc",
        "$.allowance.expires_at",
    ];
    assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>(), cut), (expected.to_vec(), false));
}

#[test]
fn no_more_than_ten_mistakes_are_told_and_that_there_are_more() {
    let signals = |count: usize| move |body: &mut Json| body["risk_signals"] = json!(vec![1; count]);
    for (count, told, cut) in [(1, 1, false), (10, 10, false), (11, 10, true), (9_000, 10, true)] {
        let (found, was_cut) = mistakes(signals(count));
        assert_eq!((found.len(), was_cut), (told, cut), "{count}");
    }
}

#[test]
fn risk_signals_may_be_empty_only_from_2026_04_17() {
    let mut body = example();
    body["risk_signals"] = json!([]);
    for version in Version::NEWEST_FIRST {
        let refused = read_in(&body, version).err().map(|error| (error.fault, error.param));
        let expected = version.requires_risk_signals().then(|| (Fault::Structural, "$.risk_signals".into()));
        assert_eq!(refused, expected, "{version}");
    }
}

#[test]
fn the_last_digits_may_be_fewer_than_four_only_in_the_first_version() {
    let mut body = example();
    body["payment_method"]["display_last4"] = json!("42");
    for version in Version::NEWEST_FIRST {
        assert_eq!(read_in(&body, version).is_ok(), version == Version::V2025_09_29, "{version}");
    }
}

#[test]
fn virtual_can_be_demanded() {
    let settings = Settings { require_virtual: true };
    let mut body = example();
    without("/payment_method/virtual")(&mut body);
    let refused = DelegatePayment::read(body.to_string().as_bytes(), Version::LATEST, now(), &settings);
    let at = refused.err().map(|mistakes| mistakes.first.param);
    assert_eq!(at.as_deref(), Some("$.payment_method.virtual"));
}

#[test]
fn a_card_is_good_to_the_end_of_its_month_everywhere_on_earth() {
    let mut body = example();
    body["payment_method"]["exp_month"] = json!("12");
    body["payment_method"]["exp_year"] = json!("2026");
    body["allowance"]["expires_at"] = json!("2027-02-01T00:00:00Z");
    let at = |instant: &str| {
        let now = Timestamp::parse_rfc3339(instant).unwrap();
        DelegatePayment::read(body.to_string().as_bytes(), Version::LATEST, now, &Settings::default()).is_ok()
    };
    assert!(at("2027-01-01T11:59:59Z"));
    assert!(!at("2027-01-01T12:00:00Z"));
}

#[test]
fn a_network_token_needs_no_checksum_and_an_amount_may_be_written_as_a_float() {
    let changed = refusal(|body| {
        body["payment_method"]["card_number_type"] = json!("network_token");
        body["payment_method"]["number"] = json!("tok_visa_abc123");
        body["allowance"]["max_amount"] = json!(2000.0);
    });
    assert_eq!(changed, None);
}

#[test]
fn what_is_sealed_is_put_together_again_for_redeem() {
    let pieces = read_in(&example(), Version::LATEST).unwrap().to_vault_json();
    let perishable = pieces.perishable.unwrap();
    let are_full = [&pieces.card, &perishable].map(|piece| piece.expose().len() % 16 == 0);
    assert_eq!(are_full, [true, true], "no block of a cipher is left half full");
    let kept = std::str::from_utf8(pieces.card.expose()).unwrap();
    for secret in ["\"cvc\"", "223", "gXc5UCLnM6ckD7pjM1TdPA", "eci_value"] {
        assert!(!kept.contains(secret), "{secret} outlives its epoch");
    }
    let parse = |bytes: &SecretBytes| serde_json::from_slice::<Json>(bytes.expose()).unwrap();
    let merged = merge_vault_json(pieces.card.expose(), Some(perishable.expose())).unwrap();
    let mut expected = example();
    for name in ["allowance", "risk_signals", "metadata"] {
        expected.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(parse(&merged), expected);

    // The epoch is over: the rest is still there.
    for name in ["cvc", "cryptogram", "eci_value"] {
        expected["payment_method"].as_object_mut().unwrap().remove(name);
    }
    assert_eq!(parse(&merge_vault_json(pieces.card.expose(), None).unwrap()), expected);
    assert_eq!(parse(&merge_vault_json(pieces.card.expose(), Some(b"{}")).unwrap()), expected);
}

#[test]
fn a_card_without_perishable_values_has_no_second_piece() {
    let mut body = example();
    for name in ["cvc", "cryptogram", "eci_value"] {
        body["payment_method"].as_object_mut().unwrap().remove(name);
    }
    body.as_object_mut().unwrap().remove("billing_address");
    let pieces = read_in(&body, Version::LATEST).unwrap().to_vault_json();
    assert!(pieces.perishable.is_none());
    assert!(!std::str::from_utf8(pieces.card.expose()).unwrap().contains("billing_address"));
}

#[test]
fn what_was_never_sealed_is_not_put_together() {
    for (card, perishable) in [
        (&b""[..], None),
        (b"{}", None),
        (b"{}", Some(&b"{}"[..])),
        (br#"{"payment_method":7}"#, Some(b"{}")),
        (br#"{"payment_method":{"a":1}}"#, Some(b"[]")),
    ] {
        assert!(merge_vault_json(card, perishable).is_err());
    }
}

#[test]
fn the_answer_echoes_metadata_with_ours_winning() {
    let token = crate::domain::id::TokenId::parse_minted("vt_abcdefghij0123456789012345678901").unwrap();
    let metadata = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("merchant_id".into(), "x".into())]);
    let body = minted(&token, now(), &metadata, "acme", "k-1");
    let expected = json!({
        "id": "vt_abcdefghij0123456789012345678901", "created": "2026-06-15T12:00:00Z",
        "metadata": {"a": "b", "merchant_id": "acme", "idempotency_key": "k-1"}
    });
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap(), expected);
}

proptest! {
    #[test]
    fn any_bytes_are_refused(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let read = DelegatePayment::read(&body, Version::LATEST, now(), &Settings::default());
        prop_assert!(read.is_err());
    }

    #[test]
    fn no_refusal_shows_a_byte_of_the_request(secret in "[0-9]{6,19}", place in 0usize..6) {
        let pointer = [
            "/payment_method/number", "/payment_method/cvc", "/allowance/currency",
            "/allowance/expires_at", "/payment_method/exp_year", "/risk_signals",
        ][place];
        let mut body = example();
        with(pointer, Json::String(secret.clone()))(&mut body);
        if let Err(error) = read_in(&body, Version::LATEST) {
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains(&secret));
        }
    }

    #[test]
    fn any_name_and_metadata_survive_the_vault(name in any::<String>(), key in any::<String>()) {
        let mut body = example();
        body["payment_method"]["name"] = json!(name);
        body["payment_method"]["metadata"] = json!({ key: name });
        let pieces = read_in(&body, Version::LATEST).unwrap().to_vault_json();
        let merged = merge_vault_json(pieces.card.expose(), pieces.perishable.as_ref().map(SecretBytes::expose));
        let merged: Json = serde_json::from_slice(merged.unwrap().expose()).unwrap();
        prop_assert_eq!(&merged["payment_method"], &body["payment_method"]);
    }
}
