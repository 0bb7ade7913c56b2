//! A checkout session of the shop: a small state machine that knows neither HTTP nor the gateway.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::catalogue::{Catalogue, Line, Totals};
use crate::acp::version::Version;
use crate::domain::card::Pan;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// No address, no way to send it, or something is out of stock.
    NotReady,
    Ready,
    /// The card's issuer wants to see the buyer.
    AuthenticationRequired,
    /// A complete is under way.
    Completing,
    PendingApproval,
    Completed,
    Canceled,
}

impl Status {
    /// The word for it; versions before 2026-01-30 have one for everything under way.
    pub(super) fn name(self, version: Version) -> &'static str {
        match self {
            Self::NotReady => "not_ready_for_payment",
            Self::Ready => "ready_for_payment",
            Self::AuthenticationRequired => "authentication_required",
            Self::Completing | Self::PendingApproval if version < Version::V2026_01_30 => "in_progress",
            Self::Completing => "complete_in_progress",
            Self::PendingApproval => "pending_approval",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
        }
    }
}

/// Something the buyer should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    AddressMissing,
    OutOfStock,
    Declined,
    Canceled,
}

/// A complete that waits for the shop's people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub token: String,
    pub claim: String,
}

/// A session.
pub(super) struct Session {
    pub id: String,
    pub lines: Vec<Line>,
    pub buyer: Option<Value>,
    pub details: Option<Value>,
    pub shipping: Option<String>,
    pub status: Status,
    pub messages: Vec<Message>,
    pub order: Option<String>,
    pub pending: Option<Pending>,
    /// Whether a card was declined for it.
    pub declined: bool,
    /// Cards redeemed for this session, by token: the gateway hands each out once.
    pub cards: HashMap<String, Arc<Pan>>,
}

/// Why a session cannot do what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Completed or canceled.
    Ended,
    /// A complete is under way, or waits for approval.
    Busy,
    /// Not ready for payment.
    NotReady,
    /// The issuer asked to see the buyer, and the request says nothing of it.
    Requires3ds,
}

impl Session {
    pub(super) fn new(id: String, lines: Vec<Line>) -> Self {
        Self {
            id,
            lines,
            buyer: None,
            details: None,
            shipping: None,
            status: Status::NotReady,
            messages: Vec::new(),
            order: None,
            pending: None,
            declined: false,
            cards: HashMap::new(),
        }
    }

    pub(super) fn totals(&self, catalogue: &Catalogue) -> Totals {
        catalogue.totals(&self.lines, self.shipping.as_deref())
    }

    pub(super) const fn may_change(&self) -> Result<(), Refused> {
        match self.status {
            Status::Completed | Status::Canceled => Err(Refused::Ended),
            Status::Completing | Status::PendingApproval => Err(Refused::Busy),
            Status::NotReady | Status::Ready | Status::AuthenticationRequired => Ok(()),
        }
    }

    /// Works out where the session stands after a change. An address without a choice gets the first
    /// way to send things.
    pub(super) fn settle_down(&mut self, catalogue: &Catalogue) {
        if self.details.is_some() && self.shipping.is_none() {
            self.shipping = catalogue.shipping.first().map(|shipping| shipping.id.clone());
        }
        self.messages.clear();
        if self.details.is_none() {
            self.messages.push(Message::AddressMissing);
        }
        if self.lines.iter().any(|line| !line.in_stock) {
            self.messages.push(Message::OutOfStock);
        }
        let ready = self.messages.is_empty() && self.shipping.is_some();
        self.status = if ready { Status::Ready } else { Status::NotReady };
    }

    /// Begins a complete. A careless shop does not mind a session that is completed.
    pub(super) fn begin_complete(&mut self, authenticated: bool, careless: bool) -> Result<(), Refused> {
        match self.status {
            Status::Completed if careless => {}
            Status::NotReady => return Err(Refused::NotReady),
            Status::AuthenticationRequired if !authenticated => return Err(Refused::Requires3ds),
            _ => self.may_change()?,
        }
        self.messages.clear();
        self.status = Status::Completing;
        Ok(())
    }

    /// Ends a complete without an order.
    pub(super) fn end_complete(&mut self, status: Status, message: Option<Message>) {
        self.status = if self.order.is_some() { Status::Completed } else { status };
        self.declined |= message == Some(Message::Declined);
        self.messages.extend(message);
    }

    pub(super) fn complete(&mut self, order: String) {
        self.status = Status::Completed;
        self.order = Some(order);
        self.pending = None;
    }

    pub(super) fn cancel(&mut self) -> Result<(), Refused> {
        self.may_change()?;
        self.status = Status::Canceled;
        self.messages = vec![Message::Canceled];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(items: &[&str]) -> (Session, Catalogue) {
        let catalogue = Catalogue::default();
        let lines = items.iter().map(|id| catalogue.line(id, 1).unwrap()).collect();
        let mut session = Session::new("cs_1".to_owned(), lines);
        session.settle_down(&catalogue);
        (session, catalogue)
    }

    #[test]
    fn a_session_is_ready_with_an_address_and_everything_in_stock() {
        let (mut one, catalogue) = session(&["item_lamp"]);
        assert_eq!((one.status, one.messages.as_slice()), (Status::NotReady, &[Message::AddressMissing][..]));
        assert_eq!(one.begin_complete(false, false), Err(Refused::NotReady));
        one.details = Some(Value::Null);
        one.settle_down(&catalogue);
        assert_eq!((one.status, one.totals(&catalogue).shipping), (Status::Ready, Some(500)));
        let (mut sold_out, _) = session(&["item_teapot"]);
        sold_out.details = Some(Value::Null);
        sold_out.settle_down(&catalogue);
        assert_eq!((sold_out.status, sold_out.messages), (Status::NotReady, vec![Message::OutOfStock]));
    }

    #[test]
    fn a_session_completes_once_unless_the_shop_is_careless() {
        let (mut session, catalogue) = session(&["item_lamp"]);
        session.details = Some(Value::Null);
        session.settle_down(&catalogue);
        session.begin_complete(false, false).unwrap();
        assert_eq!(session.begin_complete(false, false), Err(Refused::Busy));
        assert_eq!(session.cancel(), Err(Refused::Busy));
        session.complete("ord_1".to_owned());
        assert_eq!(session.begin_complete(false, false), Err(Refused::Ended));
        session.begin_complete(false, true).unwrap();
        session.end_complete(Status::Ready, Some(Message::Declined));
        assert_eq!(session.status, Status::Completed, "an order stays an order");
    }

    #[test]
    fn an_issuer_that_asked_to_see_the_buyer_is_not_passed_over() {
        let (mut session, catalogue) = session(&["item_lamp"]);
        session.details = Some(Value::Null);
        session.settle_down(&catalogue);
        session.begin_complete(false, false).unwrap();
        session.end_complete(Status::AuthenticationRequired, None);
        assert_eq!(session.begin_complete(false, false), Err(Refused::Requires3ds));
        session.begin_complete(true, false).unwrap();
    }
}
