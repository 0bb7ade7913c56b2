//! Agents that buy, each purchase in its own temper.
//!
//! Patient ones repeat with the same key, others ask two gateways at once, hang up, or lose patience and
//! try another key, another token, an update, a cancel or a revoke.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::domain::clock::{Clock, SystemClock};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{CallKind, DECLINED_CARD, GOOD_CARD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::facts::{Token, Told, Verb};
use crate::merchants::{DOUBLED, FLAPPING, Merchant};
use crate::notebook::{Meaning, Notebook, Request, asked_to_wait};
use crate::town::Town;

/// After this an agent hears nothing any more.
const HEARS_FOR: Duration = Duration::from_secs(8);
/// After this a patient agent leaves a purchase for later.
const PATIENCE: Duration = Duration::from_secs(4);
/// Pause before a repeat when nothing was done.
const SOON: Duration = Duration::from_millis(50);
/// Pause before a repeat when nobody knows the outcome.
const LATER: Duration = Duration::from_millis(300);
/// How often a create is tried at the merchant that comes and goes, and the pause between.
const CALLS_AGAIN: usize = 6;
const COMES_BACK: Duration = Duration::from_secs(1);
/// The longest pause before a complete at the merchant that comes and goes.
const DAWDLES: Duration = Duration::from_secs(6);
/// How often an impatient agent tries something else.
const TRIES: usize = 4;

/// All agents.
#[derive(Clone)]
pub struct Buyers {
    pub town: Arc<Town>,
    pub notebook: Notebook,
    pub seed: u64,
    /// Of a hundred calls, how many merchants spoil.
    pub mischief: u64,
    /// Purchases under way and done.
    pub done: Arc<AtomicUsize>,
    /// The merchants' people, who decide about what is pending.
    pub clerks: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Temper {
    Patient,
    /// Sends everything to two gateways at once, or twice to one.
    Double,
    /// Leaves before the answer, and comes back.
    HangsUp,
    Impatient,
}

/// A purchase under way.
struct Purchase<'b> {
    buyers: &'b Buyers,
    number: usize,
    merchant: &'b Merchant,
    agent: usize,
    temper: Temper,
    dice: Dice,
    /// Keys used.
    keys: usize,
}

/// A session that is ready to be paid, and a token for it.
pub struct Basket<'b> {
    purchase: Purchase<'b>,
    session: String,
    token: String,
}

impl Basket<'_> {
    /// Pays, and asks again until it is answered or patience ends.
    pub async fn pay(mut self) {
        self.purchase.complete(&self.session, &self.token).await;
    }
}

impl Buyers {
    /// A purchase up to where it is paid.
    pub async fn fill_a_basket(&self, number: usize, merchant: &str) -> Option<Basket<'_>> {
        let merchant = self.town.merchants.iter().find(|one| one.id == merchant)?;
        let dice = Dice::of(self.seed, number as u64);
        let mut purchase =
            Purchase { buyers: self, number, merchant, agent: 0, temper: Temper::Patient, dice, keys: 0 };
        let (session, total) = purchase.create().await?;
        let token = purchase.mint(&session, total).await?;
        Some(Basket { purchase, session, token })
    }

    /// One purchase, to its end or until patience ends.
    pub async fn buy(&self, number: usize) {
        let mut dice = Dice::of(self.seed, number as u64);
        let merchants = &self.town.merchants;
        let merchant = &merchants[dice.roll(merchants.len() as u64) as usize];
        let temper = *dice.pick(&[
            Temper::Patient,
            Temper::Patient,
            Temper::Double,
            Temper::HangsUp,
            Temper::Impatient,
            Temper::Impatient,
        ]);
        let agent = number % self.town.agents[0].len();
        Purchase { buyers: self, number, merchant, agent, temper, dice, keys: 0 }.make().await;
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a request to one gateway; whether and how it was answered.
    pub async fn send(&self, request: &Request, gateway: usize, within: Duration) -> Option<Answer> {
        let agent = &self.town.agents[gateway][request.agent];
        let call = agent.post(&*request.path, &request.body).key(&*request.key);
        let began = Instant::now();
        let answer = tokio::time::timeout(within, call.send()).await.ok()?.ok()?;
        let stays = ![FLAPPING, DOUBLED].iter().any(|id| request.path.starts_with(&format!("/m/{id}/")));
        if request.verb == Verb::Create && answer.status == 201 && stays {
            self.notebook.took(began.elapsed());
        }
        Some(answer)
    }

    fn any_gateway(&self, dice: &mut Dice) -> usize {
        dice.roll(self.town.agents.len() as u64) as usize
    }
}

impl Purchase<'_> {
    async fn make(mut self) {
        let Some((session, mut total)) = self.begin().await else { return };
        let mut token = None;
        for _ in 0..TRIES {
            if token.is_none() {
                token = self.mint(&session, total).await;
            }
            let Some(spent) = token.clone() else { return };
            if self.merchant.id == DOUBLED {
                // So that many find it gone with which they have begun.
                let pause = self.dice.roll(DAWDLES.as_millis() as u64);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            match self.complete(&session, &spent).await {
                // Completed, declined, refused: told for good.
                Some(told) if told.order.is_some() || told.waits => return,
                Some(told) if told.status < 300 && self.dice.chance(50) => return,
                Some(told) if told.status < 300 => {}
                // A token that will not do; another may.
                Some(told) if told.status == 422 => {
                    token = None;
                    continue;
                }
                Some(_) => return,
                None if self.temper != Temper::Impatient => return,
                None => {}
            }
            match self.dice.roll(5) {
                0 => {}
                1 => token = None,
                2 => {
                    total = self.update(&session).await.unwrap_or(total);
                    token = None;
                }
                3 => {
                    self.cancel(&session).await;
                }
                _ => {
                    self.revoke(&spent).await;
                    token = None;
                }
            }
        }
    }

    /// Creates the session, where its merchant comes and goes as soon as it is there.
    async fn begin(&mut self) -> Option<(String, u64)> {
        let tries = if self.merchant.id == DOUBLED { CALLS_AGAIN } else { 1 };
        for _ in 1..tries {
            if let Some(created) = self.create().await {
                return Some(created);
            }
            tokio::time::sleep(COMES_BACK).await;
        }
        self.create().await
    }

    async fn create(&mut self) -> Option<(String, u64)> {
        self.spoil(CallKind::Create, 3);
        let path = format!("/m/{}/checkout_sessions", self.merchant.id);
        let request = self.request(Verb::Create, path, order(1), None, None);
        let answer = self.insist(&request).await.filter(|answer| answer.status == 201)?;
        let id = answer.text("/id")?;
        self.buyers.notebook.created(&id, self.agent, self.merchant.id);
        Some((id, total_of(&answer.json())?))
    }

    async fn mint(&mut self, session: &str, total: u64) -> Option<String> {
        let card = if self.dice.chance(5) { DECLINED_CARD } else { GOOD_CARD };
        // Some budgets are too small by one cent: nothing may be charged under them.
        let cap = if self.dice.chance(5) { total - 1 } else { total };
        let body = mint_request(card, self.merchant.id, session, cap);
        let path = "/agentic_commerce/delegate_payment".to_owned();
        let request = self.request(Verb::Mint, path, body, Some(session), None);
        let answer = self.insist(&request).await.filter(|answer| answer.status == 201)?;
        let id = answer.text("/id")?;
        let (merchant, session) = (self.merchant.id.to_owned(), session.to_owned());
        let token =
            Token { agent: self.agent, merchant, session, cap, currency: "usd".to_owned(), standing: None };
        self.buyers.notebook.minted(&id, token);
        Some(id)
    }

    /// `None` when the outcome is not known when patience ends.
    async fn complete(&mut self, session: &str, token: &str) -> Option<Told> {
        self.spoil(CallKind::Complete, 1);
        self.spoil(CallKind::Read, 3);
        let path = format!("/m/{}/checkout_sessions/{session}/complete", self.merchant.id);
        let request = self.request(Verb::Complete, path, payment(token), Some(session), Some(token));
        self.insist(&request).await?;
        let told =
            self.buyers.notebook.change(|facts| facts.operations[&request.key].answers.last().cloned())?;
        if told.waits {
            self.hand_to_clerk(session);
        }
        Some(told)
    }

    async fn update(&mut self, session: &str) -> Option<u64> {
        self.spoil(CallKind::Update, 3);
        let path = format!("/m/{}/checkout_sessions/{session}", self.merchant.id);
        let quantity = 1 + self.dice.roll(2);
        let body = json!({"line_items": [{"id": "item_lamp", "quantity": quantity}]});
        let request = self.request(Verb::Update, path, body, Some(session), None);
        total_of(&self.insist(&request).await.filter(|answer| answer.status == 200)?.json())
    }

    async fn cancel(&mut self, session: &str) {
        self.spoil(CallKind::Cancel, 3);
        let path = format!("/m/{}/checkout_sessions/{session}/cancel", self.merchant.id);
        let request = self.request(Verb::Cancel, path, json!({}), Some(session), None);
        self.insist(&request).await;
    }

    async fn revoke(&mut self, token: &str) {
        let path = format!("/agentic_commerce/issued_tokens/{token}/revoke");
        let request = self.request(Verb::Revoke, path, json!({}), None, Some(token));
        self.insist(&request).await;
    }

    fn spoil(&mut self, kind: CallKind, share: u64) {
        self.merchant.misbehave(kind, self.buyers.mischief / share, &mut self.dice);
    }

    fn request(
        &mut self,
        verb: Verb,
        path: String,
        body: Value,
        session: Option<&str>,
        token: Option<&str>,
    ) -> Request {
        self.keys += 1;
        let key = format!("{}-{}-{verb:?}", self.number, self.keys);
        let [session, token] = [session, token].map(|id| id.map(str::to_owned));
        let request = Request { verb, agent: self.agent, key, path, body, session, token };
        self.buyers.notebook.opened(&request);
        request
    }

    /// Sends with the same key until there is an answer that settles it, or patience ends.
    async fn insist(&mut self, request: &Request) -> Option<Answer> {
        let end = Instant::now() + PATIENCE;
        let mut sent = 0;
        while Instant::now() < end {
            let gateway = self.buyers.any_gateway(&mut self.dice);
            sent += 1;
            let answers = match self.temper {
                Temper::Double if sent == 1 => {
                    let other = (gateway + 1) % self.buyers.town.agents.len();
                    let (one, two) = tokio::join!(
                        self.buyers.send(request, gateway, HEARS_FOR),
                        self.buyers.send(request, other, HEARS_FOR)
                    );
                    [one, two]
                }
                Temper::HangsUp if sent == 1 => {
                    let soon = Duration::from_millis(self.dice.roll(30));
                    [self.buyers.send(request, gateway, soon).await, None]
                }
                _ => [self.buyers.send(request, gateway, HEARS_FOR).await, None],
            };
            let mut pause = SOON;
            let mut settled = None;
            for answer in answers.into_iter().flatten() {
                // One who has no patience does not wait as told either.
                if self.temper != Temper::Impatient {
                    pause = pause.max(asked_to_wait(&answer));
                }
                match self.buyers.notebook.answered(request, &answer, false) {
                    Meaning::Settled(_) => settled = Some(answer),
                    Meaning::Unknown => pause = pause.max(LATER),
                    Meaning::Later => {}
                }
            }
            if settled.is_some() {
                return settled;
            }
            // One who has no patience asks a second time and then does something else.
            if self.temper == Temper::Impatient && request.verb == Verb::Complete && sent >= 2 {
                return None;
            }
            if Instant::now() + pause > end {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
        None
    }

    /// The merchant's people decide after a while.
    fn hand_to_clerk(&mut self, session: &str) {
        let (town, session, id) = (Arc::clone(&self.buyers.town), session.to_owned(), self.merchant.id);
        let (after, approves) = (Duration::from_millis(self.dice.roll(2_000)), self.dice.chance(70));
        self.buyers.clerks.lock().spawn(async move {
            tokio::time::sleep(after).await;
            let merchant = town.merchants.iter().find(|merchant| merchant.id == id).unwrap();
            if approves {
                merchant.shop.approve(&session).await;
            } else {
                merchant.shop.refuse(&session).await;
            }
        });
    }
}

/// A create request that is ready to be paid.
fn order(quantity: u64) -> Value {
    json!({
        "line_items": [{"id": "item_lamp", "quantity": quantity}],
        "currency": "usd",
        "capabilities": {"interventions": {"supported": []}},
        "buyer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "fulfillment_details": {
            "name": "Ada Lovelace", "email": "ada@example.com",
            "address": {"name": "Ada Lovelace", "line_one": "1 Main St", "city": "Springfield", "state": "IL", "country": "US", "postal_code": "62701"}
        }
    })
}

fn mint_request(card: &str, merchant: &str, session: &str, amount: u64) -> Value {
    let expires_at = SystemClock.now().plus(Duration::from_secs(3600)).to_rfc3339();
    json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": card, "exp_month": "11", "exp_year": "2030",
            "name": "Ada Lovelace", "cvc": "737", "display_card_funding_type": "credit",
            "display_last4": &card[card.len() - 4..], "virtual": false, "metadata": {}
        },
        "allowance": {
            "reason": "one_time", "max_amount": amount, "currency": "usd", "checkout_session_id": session,
            "merchant_id": merchant, "expires_at": expires_at
        },
        "risk_signals": [{"type": "card_testing", "score": 5, "action": "authorized"}],
        "metadata": {}
    })
}

fn payment(token: &str) -> Value {
    json!({"payment_data": {"handler_id": "card_tokenized", "instrument": {"type": "card", "credential": {"type": "spt", "token": token}}}})
}

/// The session-level total of a session.
fn total_of(session: &Value) -> Option<u64> {
    let totals = session["totals"].as_array()?;
    totals.iter().find(|total| total["type"] == "total")?["amount"].as_u64()
}
