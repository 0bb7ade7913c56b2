//! What the cases have in common: a basket that is ready for payment, a payment, and the reading of answers.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use serde_json::Value;

use super::bodies;
use super::caller::{Caller, Paying, new_key, new_token};
use super::report::{Unmet, otherwise};
use super::till::{Manner, Offer, Till};
use crate::acp::version::Version;
use crate::acp::wire::session::{SessionStatus, SessionView};
use crate::domain::id::TokenId;
use crate::domain::money::{Currency, Money};
use crate::domain::session::Lifecycle;
use crate::quickstart::client::Answer;

/// The cards that decide what the merchant's test bank says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cards {
    pub good: &'static str,
    pub declined: &'static str,
    /// Wants 3-D Secure, then is accepted.
    pub secure: &'static str,
}

/// What is bought.
pub(super) struct Wish {
    pub item: String,
    pub currency: Currency,
    /// The whole body of create, where the usual one does not do.
    pub checkout: Option<Value>,
    pub cards: Cards,
}

/// Who tries the cases.
pub(super) struct Shopper {
    pub caller: Caller,
    pub till: Till,
    pub wish: Wish,
}

/// A checkout session that is ready for payment.
pub(super) struct Basket {
    pub session: String,
    pub total: Money,
    handler: Option<String>,
}

/// A token, and the complete that pays with it.
pub(super) struct Payment {
    pub token: TokenId,
    pub claim: String,
    pub body: Value,
}

impl Shopper {
    /// The body of create, in a version.
    pub(super) fn checkout(&self, version: Version) -> Value {
        let usual = || bodies::checkout(version, &self.wish.item, self.wish.currency.as_str());
        self.wish.checkout.clone().unwrap_or_else(usual)
    }

    /// Creates a checkout session.
    pub(super) async fn create(&self) -> Result<Answer, Unmet> {
        let body = self.checkout(self.caller.version).to_string();
        let key = new_key()?;
        self.caller.send(self.caller.request(Method::POST, "/checkout_sessions", body, Some(&key))?).await
    }

    /// Reads a session.
    pub(super) async fn look_at(&self, session: &str) -> Result<Answer, Unmet> {
        let path = format!("/checkout_sessions/{session}");
        self.caller.send(self.caller.request(Method::GET, &path, Bytes::new(), None)?).await
    }

    /// The session of an answer, ready for payment, or made so.
    pub(super) async fn ready(&self, created: &Answer) -> Result<(Basket, Answer), Unmet> {
        let session =
            created.text("/id").ok_or_else(|| Unmet::Otherwise("the session has no id".to_owned()))?;
        let first = self.basket_of(created, &session);
        if let Ok(basket) = first {
            return Ok((basket, created.clone()));
        }
        let options = created.json().get("fulfillment_options").and_then(|options| options.get(0)).cloned();
        let text = |name: &str| options.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let Some(option) = text("id") else { return first.map(|basket| (basket, created.clone())) };
        let kind = text("type").unwrap_or_else(|| "shipping".to_owned());
        let body = bodies::choice(self.caller.version, &kind, &option, std::slice::from_ref(&self.wish.item));
        let updated = self.update(&session, &body).await?;
        self.basket_of(&updated, &session).map(|basket| (basket, updated))
    }

    /// Changes a session.
    pub(super) async fn update(&self, session: &str, body: &Value) -> Result<Answer, Unmet> {
        let (path, key) = (format!("/checkout_sessions/{session}"), new_key()?);
        self.caller.send(self.caller.request(Method::POST, &path, body.to_string(), Some(&key))?).await
    }

    fn basket_of(&self, answer: &Answer, session: &str) -> Result<Basket, Unmet> {
        let currency = self.wish.currency;
        let view = SessionView::read(&answer.body).ok().filter(|_| answer.status.is_success());
        let Some(view) = view else { return otherwise(told(answer)) };
        if view.status != SessionStatus::ReadyForPayment {
            return otherwise(format!(
                "{}, not ready_for_payment; perhaps it needs --checkout",
                told(answer)
            ));
        }
        let total = view.total_in(currency);
        let total = total.ok_or_else(|| {
            Unmet::Otherwise(format!("no single entry of type total in {}", currency.as_str()))
        })?;
        let handler = answer.text("/capabilities/payment/handlers/0/id");
        Ok(Basket { session: session.to_owned(), total, handler })
    }

    /// A new basket, for a case that begins with one: without, it cannot be tried.
    pub(super) async fn basket(&self) -> Result<Basket, Unmet> {
        let made = async { self.ready(&self.create().await?).await };
        made.await.map(|(basket, _)| basket).map_err(|unmet| match unmet {
            Unmet::Otherwise(why) | Unmet::Skipped(why) => Unmet::Skipped(format!("no basket: {why}")),
        })
    }

    /// A new token for a basket, to be redeemed as is said.
    pub(super) fn token_for(
        &self,
        basket: &Basket,
        card: &'static str,
        manner: Manner,
    ) -> Result<Payment, Unmet> {
        let (token, claim) = (new_token()?, new_key()?);
        let (session, total) = (basket.session.clone(), basket.total);
        self.till.offer(token.as_str(), Offer { session, claim: claim.clone(), total, card, manner });
        let body = self.body_with(basket, &token);
        Ok(Payment { token, claim, body })
    }

    /// The body of a complete of a basket, with a token.
    pub(super) fn body_with(&self, basket: &Basket, token: &TokenId) -> Value {
        bodies::payment(self.caller.version, basket.handler.as_deref(), token.as_str())
    }

    /// The complete of a payment, for the so-manieth time.
    pub(super) fn complete(
        &self,
        basket: &Basket,
        payment: &Payment,
        attempt: u32,
    ) -> Result<Request<Bytes>, Unmet> {
        let Payment { token, claim, body } = payment;
        let paying = Paying { session: &basket.session, total: basket.total, token, claim, attempt };
        self.caller.paying(&paying, body)
    }

    /// Pays a basket with a card, and waits for the answer.
    pub(super) async fn pay(
        &self,
        basket: &Basket,
        card: &'static str,
        manner: Manner,
    ) -> Result<(Payment, Answer), Unmet> {
        let payment = self.token_for(basket, card, manner)?;
        let answer = self.caller.send(self.complete(basket, &payment, 1)?).await?;
        Ok((payment, answer))
    }

    /// How often a card was handed out for a token.
    pub(super) fn handed_out(&self, token: &TokenId) -> usize {
        self.till.asked_for(token.as_str()).iter().filter(|asked| asked.status == 200).map(|_| 1).sum()
    }
}

/// What an answer says, in a line: its status, the session's or the error's word, the order.
pub(super) fn told(answer: &Answer) -> String {
    let status = answer.status.as_u16().to_string();
    let order = order_of(answer).map(|order| format!("order {order}"));
    let parts = [Some(status), answer.text("/status"), answer.code(), order];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The order that an answer shows.
pub(super) fn order_of(answer: &Answer) -> Option<String> {
    answer.text("/order/id").filter(|_| answer.status.is_success())
}

/// Whether an answer says that it was charged.
pub(super) fn is_charged(answer: &Answer) -> bool {
    let view = SessionView::read(&answer.body).ok().filter(|_| answer.status.is_success());
    view.is_some_and(|view| view.lifecycle() == Lifecycle::Completed)
}

/// The order of a complete that succeeded as it should.
pub(super) fn ordered(answer: &Answer) -> Result<String, Unmet> {
    match order_of(answer) {
        Some(order) if answer.status == 200 && is_charged(answer) => Ok(order),
        Some(_) | None => otherwise(told(answer)),
    }
}

/// Whether a refusal says that the first request with this key is still at work.
pub(super) fn is_at_work(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        409 => answer.code().is_none_or(|code| code == "idempotency_in_flight"),
        425 | 429 => true,
        status => status >= 500,
    }
}

/// An error as ACP writes it: one flat object of type, code and message, as JSON.
pub(super) fn flat(answer: &Answer, statuses: &[u16]) -> Result<String, Unmet> {
    let told = told(answer);
    if !statuses.contains(&answer.status.as_u16()) {
        return otherwise(told);
    }
    let missing = ["/type", "/code", "/message"].into_iter().find(|member| answer.text(member).is_none());
    if let Some(member) = missing {
        return otherwise(format!("{told}, without a text in {member}"));
    }
    let kind = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return otherwise(format!("{told}, as {kind:?}"));
    }
    Ok(told)
}
