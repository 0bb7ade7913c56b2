//! What the gateway says of itself agrees with the official JSON Schemas, and the official examples pass.
//!
//! The official files are not part of this repository: `ACP_SPEC_DIR` names a directory with `spec/` and
//! `examples/`; without it these tests say so and do nothing.
//!
//! Refusals of heads and shapes are in `head::errors`. Every answer in `idempotency` and `payment`
//! is judged as well, in whichever version it is given.

mod examples;
pub mod official;

use countersign::acp::version::Version;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Change};
use serde_json::{Value, json};

use crate::world::*;
use official::{DELEGATE_PAYMENT, ask, assert_valid, directory_or_say, validator};

const MINT: &str = "/agentic_commerce/delegate_payment";

/// The payment of a complete, with the token where the version has it.
fn paying(version: Version, token: &str) -> Value {
    if version.token_in_instrument() {
        return payment(token);
    }
    json!({"payment_data": {"token": token, "provider": "stripe"}})
}

/// An agent of one version at the first shop.
struct Buyer {
    agent: Agent,
    version: Version,
}

impl Buyer {
    fn of(world: &World, version: Version) -> Self {
        Self { agent: world.agent(0, |settings| settings.version = version), version }
    }

    async fn session(&self) -> (String, u64) {
        create(&self.agent, "lamps").await
    }

    async fn mint(&self, session: &str, amount: u64, action: &str) -> Answer {
        let mut request = mint_request(GOOD_CARD, "lamps", session, amount);
        request["risk_signals"][0]["action"] = json!(action);
        ask(&self.agent, self.agent.post(MINT, &request)).await
    }

    async fn token(&self, session: &str, amount: u64) -> String {
        let minted = self.mint(session, amount, "authorized").await;
        assert_eq!(minted.status, 201, "{}", minted.json());
        minted.text("/id").unwrap()
    }

    async fn complete(&self, session: &str, body: &Value) -> Answer {
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");
        ask(&self.agent, self.agent.post(path, body)).await
    }

    async fn revoke(&self, token: &str) -> Answer {
        let path = format!("/agentic_commerce/issued_tokens/{token}/revoke");
        ask(&self.agent, self.agent.post(path, &json!({}))).await
    }
}

/// `ask` judges each answer; here each is provoked once in every version.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_risk_rules_limits_and_tokens_agree_with_every_version() {
    let Some(_) = directory_or_say() else { return };
    let agent = "live_tokens_per_session = 2".to_owned();
    let world = World::with(Options { agent, ..Options::default() }).await;
    for version in Version::NEWEST_FIRST {
        let buyer = Buyer::of(&world, version);
        let pays = |token: &str| paying(version, token);
        let (session, total) = buyer.session().await;
        assert_eq!(buyer.mint(&session, total, "blocked").await.status, 403);
        let short = buyer.token(&session, total - 1).await;
        let spent = buyer.token(&session, total).await;
        assert_eq!(buyer.mint(&session, total, "authorized").await.status, 429);
        assert_eq!(buyer.complete(&session, &pays(&short)).await.status, 422);
        assert_eq!(buyer.revoke(&short).await.status, 200);
        assert_eq!(buyer.complete(&session, &pays(&short)).await.status, 422);
        assert_eq!(buyer.complete(&session, &pays(&spent)).await.status, 200);
        assert_eq!(buyer.complete(&session, &pays(&spent)).await.status, 409);
        assert_eq!(buyer.revoke(&spent).await.status, 409);
        assert_eq!(buyer.mint(&session, total, "authorized").await.status, 422, "it is completed");

        let (session, total) = buyer.session().await;
        let order = json!({"payment_data": {"purchase_order_number": "PO-1"}});
        assert_eq!(buyer.complete(&session, &order).await.status, 403);
        let token = buyer.token(&session, total).await;
        world.lamps.behave_once(CallKind::Complete, Behaviour::Changed(Change::OtherSession));
        assert_eq!(buyer.complete(&session, &pays(&token)).await.status, 502, "in doubt");
        assert_eq!(buyer.complete(&session, &pays(&token)).await.status, 409, "held");
        let path = format!("/m/lamps/checkout_sessions/{session}");
        assert_eq!(
            ask(&buyer.agent, buyer.agent.post(&path, &json!({}))).await.status,
            409,
            "so is the session"
        );
        assert_eq!(ask(&buyer.agent, buyer.agent.get("/m/lamps/checkout_sessions/cs_x")).await.status, 404);
    }
}

/// What a redeem hands out is a card as the version of the mint knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redeemed_card_is_the_official_payment_method() {
    let Some(directory) = directory_or_say() else { return };
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let buyer = Buyer::of(&world, version);
        let (session, total) = buyer.session().await;
        let token = buyer.token(&session, total).await;
        let card = examples::redeem_under_way(&world, &buyer.agent, version, &session, &token, total).await;
        let schema = validator(directory, version, DELEGATE_PAYMENT, "PaymentMethodCard");
        assert_valid(&schema, &card.json()["payment_method"], &format!("redeemed after {}", buyer.version));
    }
}
