//! Redeem, the only way a card leaves: who may not ask, and what may not be asked.

use countersign::crypto::digest::sha256;
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use serde_json::{Value, json};

use super::bench::{Bench, Expected, closing, judge, refused, refused_at};
use crate::wire::{Raw, exchange};
use crate::world::*;

/// A credential of the first shop's that this test knows.
const CREDENTIAL: &str = "a-redeemer-credential-known-to-this-test";

/// A complete that waits at the shop, and the redeem it would make.
struct Waiting {
    bench: Bench,
    redeem: Redeem,
    completing: tokio::task::JoinHandle<countersign::quickstart::client::Answer>,
}

impl Waiting {
    async fn start() -> Self {
        let mut bench = Bench::start("").await;
        let digest: String =
            sha256(&[CREDENTIAL.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
        let known = "name = \"lamps-itself\"\ncredentials = [";
        let change = |text: String| text.replace(known, &format!("{known}\"sha256:{digest}\", "));
        bench.world.reopen(&[], change).await;
        let alpha = bench.world.alpha();
        let (session, total) = create(&alpha, "lamps").await;
        let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
        bench.world.lamps.behave(CallKind::Complete, Behaviour::HoldBefore);
        let completing = {
            let (session, token) = (session.clone(), token.clone());
            tokio::spawn(async move { complete(&alpha, "lamps", &session, &token).await })
        };
        bench.world.lamps.received(CallKind::Complete, 1).await;
        let claim = bench.world.lamps.calls_of(CallKind::Complete)[0].idempotency_key.clone().unwrap();
        let redeem = Redeem { token, claim, session, amount: total, currency: "usd".to_owned() };
        Self { bench, redeem, completing }
    }

    /// The good redeem, as bytes.
    fn raw(&self) -> Raw {
        Raw {
            method: b"POST".to_vec(),
            target: format!("/agentic_commerce/granted_tokens/{}/redeem", self.redeem.token).into(),
            version: b"HTTP/1.1".to_vec(),
            headers: Vec::new(),
            body: Vec::new(),
        }
        .add("host", GATEWAY)
        .add("authorization", format!("Bearer {CREDENTIAL}"))
        .add("content-type", "application/json")
    }

    fn body(&self) -> Value {
        let Redeem { claim, session, amount, currency, .. } = &self.redeem;
        json!({"claim": claim, "checkout_session_id": session, "amount": amount, "currency": currency})
    }

    /// The good redeem with this body.
    fn with(&self, body: impl AsRef<[u8]>) -> Raw {
        let length = body.as_ref().len().to_string();
        self.raw().add("content-length", length).framed(body)
    }

    /// The good redeem with one member changed.
    fn changed(&self, name: &str, value: Value) -> Raw {
        let mut body = self.body();
        body[name] = value;
        self.with(body.to_string())
    }

    fn as_agent(&self) -> Raw {
        let credential = self.bench.alpha.settings().credential.expose();
        self.with(self.body().to_string()).set("authorization", format!("Bearer {credential}"))
    }

    fn table(&self) -> Vec<(&'static str, Raw, Expected)> {
        let good = || self.with(self.body().to_string());
        let nobody = || refused(401, "unauthorized");
        let shape = |param| refused_at(400, "invalid_body", param);
        let amount = self.redeem.amount;
        let other_token = "vt_00000000000000000000000000000000";
        vec![
            ("no credential", good().without("authorization"), nobody()),
            ("a credential of nobody", good().set("authorization", "Bearer nobody"), nobody()),
            ("the agent's credential", self.as_agent(), nobody()),
            ("two credentials", good().twice("authorization"), refused(400, "invalid_header")),
            ("an encoding", good().add("content-encoding", "gzip"), refused(415, "unsupported_media_type")),
            ("GET", self.raw().method("GET"), refused(405, "method_not_allowed")),
            (
                "a token nobody minted",
                good().target(format!("/agentic_commerce/granted_tokens/{other_token}/redeem")),
                refused(404, "not_found"),
            ),
            (
                "a token that climbs",
                good().target("/agentic_commerce/granted_tokens/../redeem"),
                refused(404, "not_found"),
            ),
            (
                "under a merchant",
                good().target(format!("/m/lamps/agentic_commerce/granted_tokens/{other_token}/redeem")),
                refused(404, "not_found"),
            ),
            ("no body", self.raw(), shape("$")),
            ("an array", self.with("[]"), shape("$")),
            ("no JSON", self.with("x"), shape("$")),
            ("a byte order mark", self.with(format!("\u{feff}{}", self.body())), shape("$")),
            ("bytes behind", self.with(format!("{} x", self.body())), shape("$")),
            ("an unknown member", self.changed("card", json!(1)), shape("$")),
            (
                "a claim twice",
                self.with(self.body().to_string().replacen('{', "{\"claim\":\"a\",", 1)),
                shape("$"),
            ),
            (
                "an amount twice, once escaped",
                self.with(self.body().to_string().replacen('{', "{\"\\u0061mount\":1,", 1)),
                shape("$"),
            ),
            ("no claim", self.changed("claim", Value::Null), shape("$.claim")),
            ("a claim that climbs", self.changed("claim", json!("..")), shape("$.claim")),
            ("an endless claim", self.changed("claim", json!("c".repeat(129))), shape("$.claim")),
            (
                "a session that climbs",
                self.changed("checkout_session_id", json!("a/b")),
                shape("$.checkout_session_id"),
            ),
            ("half a cent", self.changed("amount", json!(10.5)), shape("$.amount")),
            ("an amount that is text", self.changed("amount", json!(amount.to_string())), shape("$.amount")),
            ("a currency of two letters", self.changed("currency", json!("us")), shape("$.currency")),
            (
                "less than nothing",
                self.changed("amount", json!(-1)),
                refused_at(422, "invalid_body", "$.amount"),
            ),
            (
                "2^53",
                self.changed("amount", json!(9_007_199_254_740_992_u64)),
                refused_at(422, "invalid_body", "$.amount"),
            ),
            (
                "a cent more",
                self.changed("amount", json!(amount + 1)),
                refused_at(422, "amount_exceeds_claim", "$.amount"),
            ),
            (
                "another currency",
                self.changed("currency", json!("eur")),
                refused_at(422, "currency_mismatch", "$.currency"),
            ),
            (
                "another claim",
                self.changed("claim", json!("another")),
                refused_at(409, "claim_unknown", "$.claim"),
            ),
            (
                "another session",
                self.changed("checkout_session_id", json!(self.bench.session)),
                refused(409, "claim_unknown"),
            ),
            ("1 MiB and a byte", self.raw().add("content-length", "1048577"), closing(413, "body_too_large")),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_leaves_for_its_merchant_its_claim_and_its_amount_only() {
    let waiting = Waiting::start().await;
    let mut failures = Vec::new();
    for (name, raw, expected) in waiting.table() {
        let received = exchange(&waiting.bench.world, &raw.bytes()).await;
        if received.body.windows(4).any(|four| four == b"4242") {
            failures.push(format!("{name}: the card left"));
        }
        failures.extend(judge(&received, &expected).err().map(|failure| format!("{name}: {failure}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    // Another merchant's credential: to it the token does not exist.
    let World { lamps, books, .. } = &waiting.bench.world;
    let elsewhere = books.redeem(&waiting.redeem).await.unwrap().unwrap();
    assert_eq!((elsewhere.status.as_u16(), elsewhere.code().as_deref()), (404, Some("not_found")));

    // None of it used up the one time the card leaves.
    let raw = waiting.with(waiting.body().to_string());
    let redeemed = exchange(&waiting.bench.world, &raw.bytes()).await;
    assert_eq!(redeemed.json()["payment_method"]["number"], GOOD_CARD, "{:?}", redeemed.status);
    assert_eq!(redeemed.header("cache-control"), Some("no-store"));
    lamps.release();
    assert_eq!(waiting.completing.await.unwrap().text("/status").as_deref(), Some("completed"));
}
