//! Tests against the official ACP files, which are not part of this repository.
//!
//! `ACP_SPEC_DIR` names a directory with `spec/` and `examples/`. Without it they say so and do nothing.

use std::path::PathBuf;

use http::StatusCode;
use serde_json::{Value, json};

use super::Settings;
use super::authority::Authority;
use super::discovery::{self, Service};
use super::header::HeaderError;
use super::problem::{DELEGATE_PAYMENT_CODES, ErrorDialect, Problem};
use super::version::Version;
use super::wire::Fault;
use super::wire::WireError;
use super::wire::complete::CompleteView;
use super::wire::delegate_payment::{DelegatePayment, merge_vault_json, minted};
use super::wire::json::Document;
use super::wire::session::{Handler, OrderView, SessionStatus, SessionView, Total};
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::secret::SecretBytes;

/// The directory, or a printed reason to skip.
fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os("ACP_SPEC_DIR").map(PathBuf::from);
    if directory.is_none() {
        println!("skipped: ACP_SPEC_DIR is not set");
    }
    directory
}

fn load(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn examples(directory: &std::path::Path, version: Version, family: &str) -> Value {
    load(directory.join(format!("examples/{version}/examples.{family}.json")))
}

/// A bundle's definitions. All versions share one `$id`, and 2025-09-29 has a boolean
/// `exclusiveMinimum` (`src/acp/README.md`, "Published files"): the first is dropped, the second mended.
fn definitions(directory: &std::path::Path, version: Version, family: &str) -> Value {
    let mut bundle = load(directory.join(format!("spec/{version}/json-schema/schema.{family}.json")));
    mend(&mut bundle);
    bundle["$defs"].take()
}

fn mend(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("exclusiveMinimum") == Some(&Value::Bool(true)) {
                object.insert("exclusiveMinimum".into(), json!(0));
                object.remove("minimum");
            }
            object.values_mut().for_each(mend);
        }
        Value::Array(elements) => elements.iter_mut().for_each(mend),
        _ => {}
    }
}

fn validator(definitions: &Value, name: &str) -> jsonschema::Validator {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions, "$ref": format!("#/$defs/{name}")
    });
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn assert_valid(validator: &jsonschema::Validator, instance: &Value, what: &str) {
    let errors: Vec<String> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {instance}: {errors:?}");
}

/// Every kind of refusal made here.
fn problems() -> Vec<Problem> {
    let headers = [
        HeaderError::Repeated("Timestamp"),
        HeaderError::MalformedAuthorization,
        HeaderError::UnsupportedVersion,
        HeaderError::InvalidIdempotencyKey,
        HeaderError::UnsupportedMediaType,
        HeaderError::UnsupportedEncoding,
    ];
    let body = WireError { fault: Fault::Semantic, message: "m".into(), param: "$.a[0].b".into() };
    let mut problems = vec![
        Problem::of_body(body),
        Problem::not_found(),
        Problem::missing_version(Version::NEWEST_FIRST),
        Problem::idempotency_conflict(StatusCode::CONFLICT),
        Problem::idempotency_in_flight(2),
        Problem::rate_limited(3),
        Problem::service_unavailable(4),
        Problem::processing_error(StatusCode::BAD_GATEWAY, "m"),
    ];
    problems.extend(headers.map(|error| Problem::of_header(error, Version::NEWEST_FIRST)));
    problems
}

#[test]
fn every_refusal_is_valid_in_both_dialects_of_every_version() {
    let Some(directory) = directory() else { return };
    for version in Version::NEWEST_FIRST {
        for (family, dialect) in [
            ("agentic_checkout", ErrorDialect::Checkout),
            ("delegate_payment", ErrorDialect::DelegatePayment),
        ] {
            let mut definitions = definitions(&directory, version, family);
            if dialect == ErrorDialect::DelegatePayment {
                // The closed list with its extras (`src/acp/README.md`, "Errors").
                definitions["Error"]["properties"]["code"]["enum"] = json!(DELEGATE_PAYMENT_CODES);
            }
            let validator = validator(&definitions, "Error");
            for problem in problems() {
                let problem = problem.in_dialect(dialect);
                let mut body: Value = serde_json::from_slice(&problem.body()).unwrap();
                if version < Version::V2026_04_17 {
                    // Demanded by the RFC text in all versions, in the schema since 2026-04-17.
                    body.as_object_mut().unwrap().remove("supported_versions");
                }
                assert_valid(&validator, &body, &format!("{version} {family}"));
            }
        }
    }
}

#[test]
fn the_codes_of_delegate_payment_are_the_official_ones_and_four_extras() {
    let Some(directory) = directory() else { return };
    let definitions = definitions(&directory, Version::LATEST, "delegate_payment");
    let official = definitions["Error"]["properties"]["code"]["enum"].as_array().unwrap();
    let ours: Vec<Value> = DELEGATE_PAYMENT_CODES.iter().map(|code| json!(code)).collect();
    assert_eq!(&ours[..official.len()], official.as_slice());
    assert_eq!(ours.len(), official.len() + 4);
}

#[test]
fn every_official_delegate_payment_is_accepted_sealed_and_answered_by_the_schema() {
    let Some(directory) = directory() else { return };
    let now = Timestamp::parse_rfc3339("2025-10-01T00:00:00Z").unwrap();
    for version in Version::NEWEST_FIRST {
        let definitions = definitions(&directory, version, "delegate_payment");
        let mut requests =
            vec![examples(&directory, version, "delegate_payment")["delegate_payment_request"].take()];
        // Examples inside the schema, dated 2026.
        requests.extend(definitions["DelegatePaymentRequest"].get("example").cloned());
        for request in requests {
            assert_valid(&validator(&definitions, "DelegatePaymentRequest"), &request, "the example itself");
            let read =
                DelegatePayment::read(request.to_string().as_bytes(), version, now, &Settings::default());
            let read = read.unwrap_or_else(|error| panic!("{version}: {error:?}"));
            let pieces = read.to_vault_json();
            let perishable = pieces.perishable.as_ref().map(SecretBytes::expose);
            let merged = merge_vault_json(pieces.card.expose(), perishable).unwrap();
            let merged: Value = serde_json::from_slice(merged.expose()).unwrap();
            assert_eq!(merged["payment_method"], request["payment_method"]);
            assert_eq!(merged["billing_address"], request["billing_address"]);

            let token = TokenId::parse_minted("vt_abcdefghij0123456789012345678901").unwrap();
            let answer = minted(&token, now, &read.metadata, &read.allowance.merchant_id, "k-1");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_valid(&validator(&definitions, "DelegatePaymentResponse"), &answer, "the answer");
        }
    }
}

/// What the schema refuses is refused as structural, what it accepts is at most semantic, for every
/// way of breaking one member of the official request.
#[test]
fn delegate_payment_is_read_as_strictly_as_the_schema() {
    let Some(directory) = directory() else { return };
    let now = Timestamp::parse_rfc3339("2025-10-01T00:00:00Z").unwrap();
    let values = [
        json!(null),
        json!(7),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("123"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
        json!(true),
    ];
    for version in Version::NEWEST_FIRST {
        let validator =
            validator(&definitions(&directory, version, "delegate_payment"), "DelegatePaymentRequest");
        let mut request =
            examples(&directory, version, "delegate_payment")["delegate_payment_request"].take();
        request["payment_method"]["cryptogram"] = json!("abc");
        request["payment_method"]["eci_value"] = json!("05");
        for object in ["", "/payment_method", "/allowance", "/billing_address", "/risk_signals/0"] {
            let mut widened = request.clone();
            widened.pointer_mut(object).unwrap()["more"] = json!("x");
            let read =
                DelegatePayment::read(widened.to_string().as_bytes(), version, now, &Settings::default());
            assert!(read.is_err() && !validator.is_valid(&widened), "{version} {object}");
        }
        for pointer in pointers(&request, "") {
            for value in values.iter().map(Some).chain([None]) {
                let mut broken = request.clone();
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                match (broken.pointer_mut(parent).unwrap(), value) {
                    (Value::Object(parent), None) => _ = parent.remove(name),
                    (Value::Array(parent), None) => _ = parent.remove(name.parse().unwrap()),
                    (_, Some(value)) => *broken.pointer_mut(&pointer).unwrap() = value.clone(),
                    _ => panic!("pointers lead into objects and arrays"),
                }
                // `display_last4` is exact from 2025-12-12 on by our choice.
                if pointer.ends_with("display_last4") && version < Version::V2026_01_30 {
                    continue;
                }
                let read =
                    DelegatePayment::read(broken.to_string().as_bytes(), version, now, &Settings::default());
                let structural = read.err().is_some_and(|error| error.first.fault == Fault::Structural);
                assert_eq!(structural, !validator.is_valid(&broken), "{version} {pointer} {value:?}");
            }
        }
    }
}

fn pointers(value: &Value, prefix: &str) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    let below = |(name, value): (String, &Value)| {
        let here = format!("{prefix}/{name}");
        let mut all = pointers(value, &here);
        all.push(here);
        all
    };
    children.into_iter().flat_map(below).collect()
}

#[test]
fn discovery_documents_are_valid_for_every_set_of_services() {
    let Some(directory) = directory() else { return };
    let validator =
        validator(&definitions(&directory, Version::LATEST, "agentic_checkout"), "DiscoveryResponse");
    let authority = Authority::parse("Shop.example:8443").unwrap();
    for services in
        [vec![Service::DelegatePayment], vec![Service::Checkout, Service::Carts, Service::DelegatePayment]]
    {
        let document = discovery::document(&authority, Version::NEWEST_FIRST, services).unwrap();
        assert_valid(&validator, &serde_json::from_slice(&document).unwrap(), "discovery");
    }
}

#[test]
fn the_total_status_and_order_of_every_official_session_are_found() {
    let Some(directory) = directory() else { return };
    for version in Version::NEWEST_FIRST {
        let examples = examples(&directory, version, "agentic_checkout");
        let mut sessions = 0;
        for (name, session) in examples.as_object().unwrap() {
            if session.get("totals").is_none() || session.get("line_items").is_none() {
                continue;
            }
            sessions += 1;
            let text = session.to_string();
            let view = SessionView::read(text.as_bytes()).unwrap();
            let entries = session["totals"].as_array().unwrap();
            let total = entries.iter().find(|entry| entry["type"] == "total").unwrap();
            let Total::Known(known) = view.total else { panic!("{version} {name}: {:?}", view.total) };
            assert_eq!(Some(known.settlement.amount.get()), total["amount"].as_u64(), "{version} {name}");
            assert_ne!(view.status, SessionStatus::Unknown, "{version} {name}");
            assert_eq!(view.order == OrderView::Valid, session.get("order").is_some(), "{version} {name}");
            assert_eq!(view.faults, [], "{version} {name}");
            let listed = session["capabilities"]["payment"]["handlers"].as_array().map_or(0, Vec::len);
            let found =
                Handler::listed(&Document::of_body(text.as_bytes()).unwrap().value().object().unwrap());
            assert_eq!(found.len(), listed, "{version} {name}");
        }
        assert!(sessions >= 5, "{version}: {sessions}");
    }
}

#[test]
fn the_token_of_every_official_complete_is_found() {
    let Some(directory) = directory() else { return };
    for version in Version::NEWEST_FIRST {
        let examples = examples(&directory, version, "agentic_checkout");
        let mut completes = 0;
        for (name, request) in examples.as_object().unwrap() {
            let text = request.to_string();
            if request.get("payment_data").is_some() {
                completes += 1;
                let view = CompleteView::read(text.as_bytes()).unwrap();
                let place = if version.token_in_instrument() {
                    "/payment_data/instrument/credential/token"
                } else {
                    "/payment_data/token"
                };
                let token = request.pointer(place).and_then(Value::as_str).unwrap();
                assert_eq!(view.token.unwrap().expose(), token, "{version} {name}");
                assert_eq!(view.handler_id.is_some(), version.token_in_instrument(), "{version} {name}");
                let has_result = request.get("authentication_result").is_some();
                assert_eq!(view.has_authentication_result, has_result, "{version} {name}");
            }
        }
        assert!(completes > 0, "{version}");
    }
}
