//! What anyone may read: discovery and keys, without credential and without `API-Version`.

use countersign::acp::version::Version;
use countersign::crypto::sign::VerifyingKey;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::CallKind;
use serde_json::{Value, json};

use super::only_call;
use crate::world::*;

const OLDEST_FIRST: [&str; 5] = ["2025-09-29", "2025-12-12", "2026-01-16", "2026-01-30", "2026-04-17"];

/// Reads as a stranger.
async fn read(agent: &Agent, path: &str) -> Answer {
    let call = agent.get(path).without("authorization").without("api-version").unsigned();
    call.send().await.unwrap()
}

/// Seconds for which anyone may keep an answer.
fn kept_for(answer: &Answer) -> u64 {
    let value = answer.header("cache-control").unwrap();
    assert!(value.contains("public"), "{value}");
    value.split(',').find_map(|part| part.trim().strip_prefix("max-age=")).unwrap().parse().unwrap()
}

/// Whether the official schema accepts it; where that is not at hand, the members it demands.
fn assert_discovery(document: &Value) {
    let members: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["api_base_url", "capabilities", "protocol", "transports"], "{document}");
    let Some(directory) = std::env::var_os("ACP_SPEC_DIR") else { return };
    let path = std::path::Path::new(&directory)
        .join(format!("spec/{}/json-schema/schema.agentic_checkout.json", Version::LATEST));
    let bundle: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = json!({"$defs": bundle["$defs"], "$ref": "#/$defs/DiscoveryResponse"});
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{document}: {errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_discovery_on_the_shared_host_names_no_merchant() {
    let world = World::start().await;
    let answer = read(&world.alpha(), "/.well-known/acp.json").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/json")));
    assert!(kept_for(&answer) >= 3600);
    let document = answer.json();
    assert_discovery(&document);
    assert_eq!(document["protocol"]["name"], "acp");
    assert_eq!(document["protocol"]["version"], "2026-04-17");
    assert_eq!(document["protocol"]["supported_versions"], json!(OLDEST_FIRST));
    assert_eq!(document["api_base_url"], format!("https://{GATEWAY}"));
    assert_eq!(document["capabilities"], json!({"services": ["delegate_payment"]}));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for secret in ["lamps", "books", "acct_", "alpha", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for path in ["/m/lamps/.well-known/acp.json", "/m/nobody/.well-known/acp.json"] {
        assert_eq!(read(&world.alpha(), path).await.status, 404, "a document stands at an origin's root");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_discovery_on_a_merchants_host_is_that_merchants() {
    let versions =
        "versions = [\"2025-09-29\", \"2025-12-12\", \"2026-01-16\", \"2026-01-30\", \"2026-04-17\"]";
    let fewer = "versions = [\"2026-01-30\", \"2025-12-12\"]";
    let world = World::amended(Options::default(), &[("id = \"lamps\"", versions, fewer)]).await;
    let host = world.agent(0, |settings| settings.authority = SHOP_HOST.to_owned());
    let answer = read(&host, "/.well-known/acp.json").await;
    assert_eq!(answer.status, 200);
    assert!(kept_for(&answer) >= 3600);
    let document = answer.json();
    assert_discovery(&document);
    assert_eq!(document["api_base_url"], format!("https://{SHOP_HOST}"));
    assert_eq!(document["protocol"]["version"], "2026-01-30");
    assert_eq!(document["protocol"]["supported_versions"], json!(["2025-12-12", "2026-01-30"]));
    assert_eq!(document["capabilities"]["services"], json!(["checkout", "delegate_payment", "carts"]));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(!text.contains("acct_") && !text.contains("127.0.0.1"), "{text}");
    assert!(world.lamps.calls().is_empty(), "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_keys_are_those_that_sign() {
    let world = World::start().await;
    let alpha = world.alpha();
    create(&alpha, "lamps").await;
    let call = only_call(&world.lamps, CallKind::Create);
    let input = call.headers["signature-input"].to_str().unwrap();

    let jwks = read(&alpha, "/.well-known/jwks.json").await;
    let directory = read(&alpha, "/.well-known/http-message-signatures-directory").await;
    assert_eq!((jwks.status.as_u16(), directory.status.as_u16()), (200, 200));
    assert_eq!(jwks.header("content-type"), Some("application/jwk-set+json"));
    let media_type = Some("application/http-message-signatures-directory+json");
    assert_eq!(directory.header("content-type"), media_type);
    assert!(kept_for(&jwks) >= 3600 && kept_for(&directory) >= 3600);
    assert_eq!(jwks.json(), directory.json());
    let keys = jwks.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 1);
    let members: Vec<&str> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(!members.contains(&"d") && !members.contains(&"k"), "public parts alone: {members:?}");
    let key = VerifyingKey::from_jwk(&keys[0].to_string()).unwrap();
    assert_eq!(keys[0]["kid"], key.thumbprint());
    assert!(input.contains(&format!("keyid=\"{}\"", key.thumbprint())), "{input}");
    for covered in [
        "\"@method\"",
        "\"@target-uri\"",
        "\"content-digest\"",
        "\"content-type\"",
        "\"idempotency-key\"",
        "\"api-version\"",
        "\"forwarded\"",
        "\"countersign-context\"",
    ] {
        assert!(input.contains(covered), "{covered} in {input}");
    }
    assert!(input.starts_with("countersign=(") && input.contains("tag=\"countersign\""), "{input}");
    // On a merchant's host too, by either version of HTTP's way of asking.
    let host = world.agent(0, |settings| settings.authority = SHOP_HOST.to_owned());
    assert_eq!(read(&host, "/.well-known/jwks.json").await.json(), jwks.json());
    assert_eq!(read(&alpha, "/.well-known/other.json").await.status, 404);
}
