//! Checkout sessions: create, read, update, complete, cancel. Complete redeems the card before it
//! knows whether it will be declined: only the card's issuer can tell.

use std::sync::Arc;

use serde_json::Value;

use super::behaviour::Behaviour;
use super::book::{Book, Charge};
use super::cart::no_randomness;
use super::desk::{Call, Desk};
use super::gateway::{NotRedeemed, Redeem};
use super::issuer::Issuer;
use super::reply::Reply;
use super::request::{self, Payment};
use super::session::{Message, Pending, Session, Status};
use crate::domain::card::Pan;

/// A complete on its way.
struct Completing {
    session: String,
    token: String,
    claim: String,
    amount: u64,
    currency: String,
    /// The outcome of 3-D Secure.
    authentication: Option<String>,
    /// Whether a card was declined for the session before.
    declined_before: bool,
}

impl Desk {
    pub(super) fn create(&self, call: &Call) -> Reply {
        let wrong = |param: &str| Reply::invalid(param, "These items are not sold here.");
        let mut book = self.book.lock();
        let lines = request::items(&call.json)
            .map_err(str::to_owned)
            .and_then(|items| items.ok_or_else(|| "$.line_items".to_owned()))
            .and_then(|items| book.catalogue.lines(items));
        let lines = match lines {
            Ok(lines) => lines,
            Err(param) => return wrong(&param),
        };
        let Ok(id) = self.new_id("cs") else { return no_randomness() };
        let mut session = Session::new(id.clone(), lines);
        if let Err(reply) = apply(&mut session, &book, &call.json) {
            return reply;
        }
        session.settle_down(&book.catalogue);
        let view = self.viewer(&book.catalogue, call).session(&session);
        book.sessions.insert(id, session);
        Reply::json(201, &view)
    }

    pub(super) fn read(&self, id: &str, call: &Call) -> Reply {
        self.show(&self.book.lock(), id, call)
    }

    pub(super) fn update(&self, id: &str, call: &Call) -> Reply {
        let mut guard = self.book.lock();
        let book = &mut *guard;
        // Taken out so that the rest of the book can be read meanwhile.
        let Some(mut session) = book.sessions.remove(id) else { return Reply::not_found() };
        let changed = session.may_change().map_err(Reply::from).and_then(|()| {
            apply(&mut session, book, &call.json)?;
            session.settle_down(&book.catalogue);
            Ok(())
        });
        book.sessions.insert(id.to_owned(), session);
        match changed {
            Ok(()) => self.show(book, id, call),
            Err(reply) => reply,
        }
    }

    pub(super) fn cancel(&self, id: &str, call: &Call) -> Reply {
        let mut book = self.book.lock();
        let Some(session) = book.sessions.get_mut(id) else { return Reply::not_found() };
        match session.cancel() {
            Ok(()) => self.show(&book, id, call),
            Err(refused) => refused.into(),
        }
    }

    pub(super) async fn complete(&self, id: &str, call: &Call) -> Reply {
        let payment = Payment::read(&call.json);
        let completing = match self.begin_complete(id, call, payment) {
            Ok(completing) => completing,
            Err(reply) => return reply,
        };
        if let Some(context) = &call.context {
            let gateway = self.gateway.lock().clone();
            let now = self.clock.now();
            let granted = self.trust.granted(&call.head.headers, context, id, gateway.as_ref(), now).await;
            if let Err(distrust) = granted {
                self.end_complete(id, call, |session| session.end_complete(Status::Ready, None));
                return Reply::error(403, "grant_refused", &distrust.to_string());
            }
        }
        if let Behaviour::PendingApproval = call.behaviour {
            return self.end_complete(id, call, |session| {
                let Completing { token, claim, .. } = &completing;
                session.pending = Some(Pending { token: token.clone(), claim: claim.clone() });
                session.end_complete(Status::PendingApproval, None);
            });
        }
        let declined = |session: &mut Session| session.end_complete(Status::Ready, Some(Message::Declined));
        if call.behaviour == Behaviour::DeclineUnseen {
            return self.end_complete(id, call, declined);
        }
        let more = if let Behaviour::RedeemMore(more) = call.behaviour { more } else { 0 };
        let card = match self.card(&completing, more).await {
            Ok(card) => card,
            Err(refused) if refused.says_nothing() => {
                self.end_complete(id, call, |session| session.end_complete(Status::Ready, None));
                return Reply::error(503, "card_unavailable", "The card could not be fetched; try again.");
            }
            Err(_) => return self.end_complete(id, call, declined),
        };
        if call.behaviour == Behaviour::EchoCard {
            self.end_complete(id, call, declined);
            let number = card.expose();
            return Reply::error(402, "card_refused", &format!("Card {number} was refused, {number}!"))
                .with_header("x-card", number)
                .with_header("set-cookie", &format!("card={number}"));
        }
        match Issuer::judge(&card, completing.authentication.as_deref(), completing.declined_before) {
            Issuer::Declines => self.end_complete(id, call, declined),
            Issuer::WantsAuthentication => self.end_complete(id, call, |session| {
                session.end_complete(Status::AuthenticationRequired, None);
            }),
            Issuer::Approves => self.charge(&completing, &card, call),
        }
    }

    fn begin_complete(&self, id: &str, call: &Call, payment: Payment) -> Result<Completing, Reply> {
        let mut guard = self.book.lock();
        let book = &mut *guard;
        let session = book.sessions.get_mut(id).ok_or_else(Reply::not_found)?;
        let token = payment.token.ok_or_else(|| Reply::invalid("$.payment_data", "A token is needed."))?;
        let amount = session.totals(&book.catalogue).total;
        let currency = book.catalogue.currency.clone();
        let claim = call.key().unwrap_or_default().to_owned();
        if let Some(context) = &call.context {
            let agrees = context.token.as_ref() == Some(&token)
                && context.claim.as_ref() == Some(&claim)
                && context.amount == Some(amount)
                && context.currency.as_ref() == Some(&currency);
            if !agrees {
                return Err(Reply::error(409, "total_changed", "This is not what was approved."));
            }
        }
        session.begin_complete(payment.authentication.is_some(), self.careless)?;
        let authentication = payment.authentication;
        let (session, declined_before) = (id.to_owned(), session.declined);
        Ok(Completing { session, token, claim, amount, currency, authentication, declined_before })
    }

    /// The card: kept from an earlier attempt of this session, or redeemed.
    async fn card(&self, completing: &Completing, more: u64) -> Result<Arc<Pan>, NotRedeemed> {
        let Completing { session, token, .. } = completing;
        let kept = |book: &Book| book.sessions.get(session)?.cards.get(token).cloned();
        if let Some(card) = kept(&self.book.lock()) {
            return Ok(card);
        }
        let redeem = Redeem {
            token: token.clone(),
            claim: completing.claim.clone(),
            session: session.clone(),
            amount: completing.amount.saturating_add(more),
            currency: completing.currency.clone(),
        };
        let gateway = self.gateway.lock().clone();
        let card = match gateway {
            Some(gateway) => gateway.card(&redeem).await,
            None => Err(NotRedeemed { status: None, code: None }),
        };
        let mut book = self.book.lock();
        match card {
            Ok(card) => {
                let card = Arc::new(card);
                book.redeemed.push(redeem);
                if let Some(session) = book.sessions.get_mut(session) {
                    session.cards.insert(token.clone(), Arc::clone(&card));
                }
                Ok(card)
            }
            Err(refused) => {
                book.not_redeemed.push(refused.clone());
                Err(refused)
            }
        }
    }

    /// Takes the money and the stock.
    fn charge(&self, completing: &Completing, card: &Pan, call: &Call) -> Reply {
        let id = &completing.session;
        if self.take_order(completing, card).is_err() {
            self.end_complete(id, call, |session| session.end_complete(Status::Ready, None));
            return no_randomness();
        }
        self.show(&self.book.lock(), id, call)
    }

    fn take_order(
        &self,
        completing: &Completing,
        card: &Pan,
    ) -> Result<(), crate::crypto::random::RandomUnavailable> {
        let order = self.new_id("ord")?;
        let mut guard = self.book.lock();
        let book = &mut *guard;
        let Some(session) = book.sessions.get_mut(&completing.session) else { return Ok(()) };
        if !book.catalogue.take(&session.lines) {
            session.end_complete(Status::NotReady, Some(Message::OutOfStock));
            return Ok(());
        }
        let number = card.expose();
        book.charges.push(Charge {
            session: completing.session.clone(),
            claim: completing.claim.clone(),
            token: completing.token.clone(),
            amount: completing.amount,
            currency: completing.currency.clone(),
            last4: number.get(number.len().saturating_sub(4)..).unwrap_or_default().to_owned(),
            order: order.clone(),
        });
        session.complete(order);
        Ok(())
    }

    /// The shop's people decide about a session that waits for them. Whether it became an order.
    pub(super) async fn decide(&self, id: &str, approved: bool) -> bool {
        let completing = {
            let mut guard = self.book.lock();
            let book = &mut *guard;
            let Some(session) = book.sessions.get_mut(id) else { return false };
            let Some(Pending { token, claim }) = session.pending.take() else { return false };
            if !approved {
                session.end_complete(Status::Ready, Some(Message::Declined));
                return false;
            }
            let (session, amount) = (id.to_owned(), session.totals(&book.catalogue).total);
            let currency = book.catalogue.currency.clone();
            Completing {
                session,
                token,
                claim,
                amount,
                currency,
                authentication: None,
                declined_before: false,
            }
        };
        match self.card(&completing, 0).await {
            Ok(card) => self.take_order(&completing, &card).is_ok(),
            Err(_) => {
                let mut book = self.book.lock();
                if let Some(session) = book.sessions.get_mut(id) {
                    session.end_complete(Status::Ready, Some(Message::Declined));
                }
                false
            }
        }
    }

    fn end_complete(&self, id: &str, call: &Call, end: impl FnOnce(&mut Session)) -> Reply {
        let mut book = self.book.lock();
        if let Some(session) = book.sessions.get_mut(id) {
            end(session);
        }
        self.show(&book, id, call)
    }

    fn show(&self, book: &Book, id: &str, call: &Call) -> Reply {
        let Some(session) = book.sessions.get(id) else { return Reply::not_found() };
        Reply::json(200, &self.viewer(&book.catalogue, call).session(session))
    }
}

/// Applies what a create or update says, whole or not at all.
fn apply(session: &mut Session, book: &Book, body: &Value) -> Result<(), Reply> {
    let wrong = |param: &str| Reply::invalid(param, "This cannot be ordered.");
    let items = request::items(body).map_err(wrong)?;
    let lines = items.map(|items| book.catalogue.lines(items)).transpose().map_err(|param| wrong(&param))?;
    let shipping = request::selected_shipping(body);
    if shipping.as_ref().is_some_and(|id| book.catalogue.shipping(id).is_none()) {
        return Err(wrong("$.selected_fulfillment_options[0].option_id"));
    }
    if let Some(lines) = lines {
        session.lines = lines;
    }
    session.shipping = shipping.or(session.shipping.take());
    session.details = request::fulfillment_details(body).or(session.details.take());
    session.buyer = body.get("buyer").cloned().or(session.buyer.take());
    Ok(())
}
