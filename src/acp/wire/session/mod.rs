//! A merchant's session answer: what bears on money, and nothing else.
//!
//! Of every version and of the dialects in use (`src/acp/README.md`, "Dialects"). Unknown members never
//! matter.

mod fault;
mod total;

pub use fault::SessionFault;
pub use total::Total;

use super::json::{Document, Object, Value};
use crate::crypto::digest::sha256;
use crate::domain::id::SessionId;
use crate::domain::money::{Currency, Money};
use crate::domain::session::{HandlerMark, Handlers, Lifecycle, OrderMark, SessionTotal};

/// The body is not a JSON object, repeats a member, or has more members than any session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the merchant's answer is not a JSON object")]
pub struct NotASession;

/// What a session answer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its id, if it has one of the path grammar: any other could never be asked for again.
    pub id: Option<SessionId>,
    /// Where it stands.
    pub status: SessionStatus,
    /// Whether it shows an order.
    pub order: OrderView,
    /// What tells that order from others, where it has an id.
    pub order_mark: Option<OrderMark>,
    /// What complete will charge.
    pub total: Total,
    /// The payment handlers it lists.
    pub handlers: Handlers,
    /// What it says against ACP.
    pub faults: Vec<SessionFault>,
}

/// A session's status: all of 2026-04-17, a superset of every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is ACP's word of the same name")]
pub enum SessionStatus {
    Incomplete,
    NotReadyForPayment,
    RequiresEscalation,
    AuthenticationRequired,
    ReadyForPayment,
    PendingApproval,
    CompleteInProgress,
    Completed,
    Canceled,
    InProgress,
    Expired,
    /// None of these, or none at all: never terminal.
    Unknown,
}

impl SessionStatus {
    /// Reads ACP's word.
    pub fn parse(text: &str) -> Self {
        match text {
            "incomplete" => Self::Incomplete,
            "not_ready_for_payment" => Self::NotReadyForPayment,
            "requires_escalation" => Self::RequiresEscalation,
            "authentication_required" => Self::AuthenticationRequired,
            "ready_for_payment" => Self::ReadyForPayment,
            "pending_approval" => Self::PendingApproval,
            "complete_in_progress" => Self::CompleteInProgress,
            "completed" => Self::Completed,
            "canceled" => Self::Canceled,
            "in_progress" => Self::InProgress,
            "expired" => Self::Expired,
            _ => Self::Unknown,
        }
    }
}

/// The order a session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderView {
    /// None.
    None,
    /// One, of this session as far as it says.
    Valid,
    /// Something that is no order, or another session's: proves nothing.
    Unreadable,
}

/// A way to pay that a session offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Its id within the session.
    pub id: String,
    /// Whether its instrument must be a delegated token. True unless the merchant says `false`:
    /// the protection holds where it is not waived.
    pub requires_delegate_payment: bool,
}

impl Handler {
    /// Handlers from the three places where merchants list them (`src/acp/README.md`, "Complete"). One
    /// listed twice needs delegation if either says so.
    pub fn listed(session: &Object<'_>) -> Vec<Self> {
        let capabilities = inside(session, "capabilities");
        let places = [
            capabilities.as_ref().and_then(|it| inside(it, "payment")).and_then(|it| it.get("handlers")),
            capabilities.as_ref().and_then(|it| it.get("payment_handlers")),
            inside(session, "payment").and_then(|it| it.get("handlers")),
        ];
        let mut handlers: Vec<Self> = Vec::new();
        for listed in places.into_iter().flatten().filter_map(Value::array).flatten() {
            let Some(listed) = listed.object() else { continue };
            let Some(id) = listed.get("id").and_then(Value::text) else { continue };
            let waived = listed.get("requires_delegate_payment").and_then(Value::boolean) == Some(false);
            match handlers.iter_mut().find(|known| known.id == id.as_str()) {
                Some(known) => known.requires_delegate_payment |= !waived,
                None => handlers.push(Self { id: id.to_owned(), requires_delegate_payment: !waived }),
            }
            if handlers.len() == MAX_LISTED {
                break;
            }
        }
        handlers
    }
}

impl SessionView {
    /// Reads a session.
    ///
    /// # Errors
    /// [`NotASession`].
    pub fn read(body: &[u8]) -> Result<Self, NotASession> {
        Self::of(Document::of_body(body).ok_or(NotASession)?.value())
    }

    /// As [`Self::read`], of a body that is known to be JSON.
    ///
    /// # Errors
    /// [`NotASession`].
    pub fn of(body: Value<'_>) -> Result<Self, NotASession> {
        let session = body.object().ok_or(NotASession)?;
        let id = session.get("id").and_then(Value::text).and_then(|id| SessionId::parse(id.as_str()));
        let status = session.get("status").and_then(Value::text);
        let status = status.map_or(SessionStatus::Unknown, |status| SessionStatus::parse(status.as_str()));
        let order = session.present("order").and_then(Value::object);
        Ok(Self {
            order_mark: order.as_ref().and_then(order_mark),
            order: order_view(&session, order.as_ref(), id.as_ref()),
            id,
            status,
            total: Total::of_session(&session),
            handlers: Handlers::of(Handler::listed(&session).iter().map(|handler| handler_mark(&handler.id))),
            faults: SessionFault::of_session(&session, status),
        })
    }

    /// Where the session stands as evidence about claims (`src/acp/README.md`, "Complete").
    pub const fn lifecycle(&self) -> Lifecycle {
        match (self.order, self.status) {
            (OrderView::Unreadable, _) => Lifecycle::Unknown,
            (OrderView::Valid, _) | (OrderView::None, SessionStatus::Completed) => Lifecycle::Completed,
            (OrderView::None, status) => match status {
                SessionStatus::Canceled | SessionStatus::Expired => Lifecycle::Closed,
                SessionStatus::PendingApproval
                | SessionStatus::CompleteInProgress
                | SessionStatus::InProgress => Lifecycle::Working,
                SessionStatus::Incomplete
                | SessionStatus::NotReadyForPayment
                | SessionStatus::RequiresEscalation
                | SessionStatus::AuthenticationRequired
                | SessionStatus::ReadyForPayment => Lifecycle::Open,
                SessionStatus::Completed | SessionStatus::Unknown => Lifecycle::Unknown,
            },
        }
    }

    /// The total, if exactly one is known.
    pub const fn known_total(&self) -> Option<SessionTotal> {
        match self.total {
            Total::Known(total) => Some(total),
            Total::Missing | Total::Conflicting => None,
        }
    }

    /// The total in an allowance's currency: `amount` in the settlement currency, or
    /// `presentment_amount` in the presentment currency; never converted
    /// (`src/acp/README.md`, "Totals").
    pub fn total_in(&self, currency: Currency) -> Option<Money> {
        self.known_total()?.in_currency(currency)
    }
}

fn order_view(session: &Object<'_>, order: Option<&Object<'_>>, id: Option<&SessionId>) -> OrderView {
    let Some(order) = order else {
        let is_none = session.present("order").is_none();
        return if is_none { OrderView::None } else { OrderView::Unreadable };
    };
    let Some(of) = order.present("checkout_session_id") else { return OrderView::Valid };
    let is_this = of.text().is_some_and(|of| id.is_none_or(|id| id.as_str() == of.as_str()));
    if is_this { OrderView::Valid } else { OrderView::Unreadable }
}

/// What tells a handler of this id from others.
pub fn handler_mark(id: &str) -> HandlerMark {
    HandlerMark(*sha256(&[id.as_bytes()]).first_chunk().unwrap_or(&[0; 8]))
}

fn order_mark(order: &Object<'_>) -> Option<OrderMark> {
    let id = order.present("id")?.text()?;
    sha256(&[id.as_str().as_bytes()]).first_chunk().copied().map(OrderMark)
}

fn inside<'a>(object: &Object<'a>, name: &str) -> Option<Object<'a>> {
    object.get(name)?.object()
}

/// The most handlers taken over from one answer.
const MAX_LISTED: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(body: &str) -> SessionView {
        SessionView::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn status_and_order_say_where_a_session_stands() {
        let lifecycle = |body: &str| view(body).lifecycle();
        assert_eq!(lifecycle(r#"{"status":"completed"}"#), Lifecycle::Completed);
        assert_eq!(lifecycle(r#"{"status":"ready_for_payment","order":{"id":"o"}}"#), Lifecycle::Completed);
        assert_eq!(lifecycle(r#"{"status":"ready_for_payment","order":null}"#), Lifecycle::Open);
        assert_eq!(lifecycle(r#"{"status":"pending_approval"}"#), Lifecycle::Working);
        assert_eq!(lifecycle(r#"{"status":"expired"}"#), Lifecycle::Closed);
        assert_eq!(lifecycle(r#"{"status":"paid"}"#), Lifecycle::Unknown);
        assert_eq!(lifecycle("{}"), Lifecycle::Unknown);
        let of_another = r#"{"id":"cs_1","status":"completed","order":{"checkout_session_id":"cs_2"}}"#;
        assert_eq!(lifecycle(of_another), Lifecycle::Unknown);
        assert_eq!(lifecycle(r#"{"status":"completed","order":"o_1"}"#), Lifecycle::Unknown);
    }

    #[test]
    fn handlers_are_found_in_all_three_places_and_protect_unless_waived() {
        let document = Document::of_body(
            br#"{"capabilities":{"payment":{"handlers":[{"id":"a","requires_delegate_payment":true}]},
                                "payment_handlers":[{"id":"b","requires_delegate_payment":false},7]},
                "payment":{"handlers":[{"id":"c"},{"id":"a","requires_delegate_payment":false}]}}"#,
        );
        let listed = Handler::listed(&document.unwrap().value().object().unwrap());
        let handler = |id: &str| listed.iter().find(|handler| handler.id == id);
        let needs = |id: &str| handler(id).map(|handler| handler.requires_delegate_payment);
        assert_eq!((needs("a"), needs("b"), needs("c")), (Some(true), Some(false), Some(true)));
        assert_eq!(needs("d"), None);
    }

    #[test]
    fn an_id_outside_the_path_grammar_is_no_id() {
        assert_eq!(view(r#"{"id":"cs/1"}"#).id, None);
        assert_eq!(view(r#"{"id":7}"#).id, None);
        assert!(view(r#"{"id":"cs_1"}"#).id.is_some());
    }

    #[test]
    fn only_an_object_without_repeats_is_a_session() {
        for body in ["", "[]", "null", "{", r#"{"status":"completed","status":"canceled"}"#, "<html>"] {
            assert_eq!(SessionView::read(body.as_bytes()), Err(NotASession), "{body}");
        }
        assert_eq!(SessionView::read(b"{\"a\":\"\xff\"}"), Err(NotASession));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_session_or_refused(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = SessionView::read(&body);
        }

        #[test]
        fn any_object_is_a_session(value in "[a-z0-9\"]{0,6}", amount in any::<f64>(), extra in any::<String>()) {
            let body = serde_json::json!({
                "id": value, "status": value, "order": extra, "currency": value, extra.clone(): amount,
                "totals": [{"type": "total", "amount": amount}], "capabilities": [value],
            });
            prop_assert!(SessionView::read(body.to_string().as_bytes()).is_ok());
        }
    }
}
