//! Who takes part in the story, and what its chapters do and look at alike.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::clock::{Clock, Timestamp};
use crate::quickstart::agent::{Agent, AgentError};
use crate::quickstart::client::Answer;
use crate::quickstart::order::{self, Mandate};
use crate::quickstart::shop::Shop;

/// What the story's tokens live.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);

/// Who takes part.
pub struct Cast {
    /// Buys.
    pub concierge: Agent,
    /// Would like to.
    pub stranger: Agent,
    /// A shop, by the gateway's name for it: [`HOMEGOODS`].
    pub homegoods: Shop,
    /// Another: [`STATIONER`].
    pub stationer: Shop,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// The first shop's name at the gateway.
pub const HOMEGOODS: &str = "homegoods";
/// The other's.
pub const STATIONER: &str = "stationer";

/// Why a chapter does not go on.
pub(super) enum Trouble {
    /// It cannot be told.
    Out(io::Error),
    /// A step did something else.
    Step(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

/// A checkout that is ready for payment.
pub(super) struct Basket {
    pub(super) session: String,
    pub(super) total: u64,
}

impl Cast {
    pub(super) fn until(&self) -> Timestamp {
        self.clock.now().plus(TOKEN_LIFE)
    }

    /// A checkout of one item at a shop, ready for payment, made without a word.
    pub(super) async fn basket(&self, agent: &Agent, shop: &str, item: &str) -> Result<Basket, Trouble> {
        let mut body = order::checkout(&[(item, 1)]);
        merge(&mut body, order::delivery("ship_standard", item));
        let made = agent.post(format!("/m/{shop}/checkout_sessions"), &body).send().await;
        let made = expect("a checkout is opened", made, 201)?;
        Ok(Basket { session: id(&made)?, total: amount(&made, "total")? })
    }

    /// A token for the concierge, made without a word.
    pub(super) async fn token(&self, card: &str, basket: &Basket, most: u64) -> Result<String, Trouble> {
        let mandate =
            Mandate { card, merchant: HOMEGOODS, session: &basket.session, most, until: self.until() };
        let minted = self.concierge.post(MINT, &order::mandate(&mandate)).send().await;
        id(&expect("a token is minted", minted, 201)?)
    }
}

/// The path of the mint.
pub(super) const MINT: &str = "/agentic_commerce/delegate_payment";

pub(super) fn path(shop: &str, session: &str, verb: &str) -> String {
    format!("/m/{shop}/checkout_sessions/{session}{verb}")
}

/// The answer, if it has this status.
pub(super) fn expect(what: &str, answer: Result<Answer, AgentError>, status: u16) -> Result<Answer, Trouble> {
    match answer {
        Ok(answer) if answer.status.as_u16() == status => Ok(answer),
        Ok(answer) => Err(Trouble::Step(format!("{what}: expected {status}, got {}", summary(&answer)))),
        Err(error) => Err(Trouble::Step(format!("{what}: {error}"))),
    }
}

/// Goes on only if it is true.
pub(super) fn ensure(what: &str, is_true: bool) -> Result<(), Trouble> {
    if is_true { Ok(()) } else { Err(Trouble::Step(format!("not true: {what}"))) }
}

/// Goes on only if the session stands where it should.
pub(super) fn ensure_status(answer: &Answer, status: &str) -> Result<(), Trouble> {
    let found = answer.text("/status").unwrap_or_default();
    ensure(&format!("the checkout is {status} (it is {found})"), found == status)
}

/// A status and what an error says.
pub(super) fn summary(answer: &Answer) -> String {
    let parts = [Some(answer.status.as_u16().to_string()), answer.code(), answer.text("/message")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) fn id(answer: &Answer) -> Result<String, Trouble> {
    answer.text("/id").ok_or_else(|| Trouble::Step("an answer has no id".to_owned()))
}

/// An entry of the session's totals.
pub(super) fn amount(answer: &Answer, kind: &str) -> Result<u64, Trouble> {
    let body = answer.json();
    let rows = body.get("totals").and_then(Value::as_array);
    let row = rows.into_iter().flatten().find(|row| row.get("type").is_some_and(|name| name == kind));
    row.and_then(|row| row.get("amount")?.as_u64())
        .ok_or_else(|| Trouble::Step(format!("the shop states no {kind}")))
}

/// Dollars as people write them.
pub(super) fn dollars(cents: u64) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

pub(super) fn merge(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}
