//! Sessions and carts as ACP shows them, in the shapes of every version.

use serde_json::{Map, Value, json};

use super::basket::Cart;
use super::catalogue::{Catalogue, Line, Shipping, Totals};
use super::session::{Message, Session, Status};
use crate::acp::version::Version;

/// The id of the shop's one payment handler.
pub const HANDLER: &str = "card_tokenized";

/// What views need to know about the shop.
pub(super) struct Viewer<'a> {
    pub catalogue: &'a Catalogue,
    pub version: Version,
    pub merchant: &'a str,
    /// `https` and the shop's authority.
    pub base_url: &'a str,
}

impl Viewer<'_> {
    /// From 2026-01-30 on: `line_items` with totals, capabilities, tokens in instruments.
    fn is_modern(&self) -> bool {
        self.version >= Version::V2026_01_30
    }

    pub(super) fn session(&self, session: &Session) -> Value {
        let totals = session.totals(self.catalogue);
        let mut view = Map::new();
        let mut put = |name: &str, value: Value| {
            view.insert(name.to_owned(), value);
        };
        put("id", json!(session.id));
        put("status", json!(session.status.name(self.version)));
        put("currency", json!(self.catalogue.currency));
        put("line_items", self.lines(&session.lines));
        put("totals", breakdown(&totals));
        put(
            "fulfillment_options",
            self.catalogue.shipping.iter().map(|option| self.option(option)).collect(),
        );
        put("messages", session.messages.iter().map(|message| self.message(*message, session)).collect());
        put("links", json!([{ "type": "terms_of_use", "url": format!("{}/terms", self.base_url) }]));
        if self.is_modern() {
            put("protocol", json!({ "version": self.version.as_str() }));
            put("capabilities", self.capabilities());
        } else {
            put("payment_provider", self.payment_provider());
        }
        if let Some(buyer) = &session.buyer {
            put("buyer", buyer.clone());
        }
        if let Some(details) = &session.details {
            match (self.version, details.get("address")) {
                (Version::V2025_09_29, Some(address)) => put("fulfillment_address", address.clone()),
                _ => put("fulfillment_details", details.clone()),
            }
        }
        if let Some(option) = &session.shipping {
            let (name, value) = self.selected(option, &session.lines);
            put(name, value);
        }
        if session.status == Status::AuthenticationRequired {
            put("authentication_metadata", self.authentication_metadata());
        }
        if let Some(order) = &session.order {
            put("order", self.order(order, session));
        }
        Value::Object(view)
    }

    pub(super) fn cart(&self, cart: &Cart) -> Value {
        let totals = self.catalogue.totals(&cart.lines, None);
        let missing: Vec<Value> =
            cart.lines.iter().enumerate().filter(|(_, line)| !line.in_stock).map(out_of_stock).collect();
        let mut view = json!({
            "id": cart.id,
            "line_items": self.lines(&cart.lines),
            "currency": self.catalogue.currency,
            "totals": breakdown(&totals),
            "messages": missing,
        });
        if let (Some(members), Some(buyer)) = (view.as_object_mut(), &cart.buyer) {
            members.insert("buyer".to_owned(), buyer.clone());
        }
        view
    }

    fn lines(&self, lines: &[Line]) -> Value {
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn line(&self, line: &Line) -> Value {
        let (base, tax) = (line.amount(), self.catalogue.tax(line.amount()));
        let total = base.saturating_add(tax);
        let id = format!("line_{}", line.item);
        if self.is_modern() {
            return json!({
                "id": id,
                "item": { "id": line.item },
                "quantity": line.quantity,
                "name": line.name,
                "unit_amount": line.price,
                "totals": [
                    row("items_base_amount", "Base amount", base),
                    row("subtotal", "Subtotal", base),
                    row("tax", "Tax", tax),
                    row("total", "Total", total),
                ],
            });
        }
        json!({
            "id": id,
            "item": { "id": line.item, "quantity": line.quantity },
            "base_amount": base,
            "discount": 0,
            "subtotal": base,
            "tax": tax,
            "total": total,
        })
    }

    fn option(&self, option: &Shipping) -> Value {
        let mut view = json!({ "type": "shipping", "id": option.id, "title": option.title });
        let Some(members) = view.as_object_mut() else { return view };
        if self.version >= Version::V2026_01_16 {
            members.insert("description".to_owned(), json!(option.description));
            members.insert("totals".to_owned(), json!([row("total", "Shipping", option.price)]));
        } else {
            members.insert("subtitle".to_owned(), json!(option.description));
            members.insert("carrier".to_owned(), json!("Post"));
            members.insert("subtotal".to_owned(), json!(option.price));
            members.insert("tax".to_owned(), json!(0));
            members.insert("total".to_owned(), json!(option.price));
        }
        view
    }

    fn selected(&self, option: &str, lines: &[Line]) -> (&'static str, Value) {
        let items: Vec<&str> = lines.iter().map(|line| line.item.as_str()).collect();
        if self.version == Version::V2025_09_29 {
            return ("fulfillment_option_id", json!(option));
        }
        let choice = json!({ "option_id": option, "item_ids": items });
        let selected = if self.is_modern() {
            json!([{ "type": "shipping", "option_id": option, "item_ids": items }])
        } else {
            json!([{ "type": "shipping", "shipping": choice }])
        };
        ("selected_fulfillment_options", selected)
    }

    fn message(&self, message: Message, session: &Session) -> Value {
        let error = |code: &str, text: &str| json!({ "type": "error", "code": code, "content_type": "plain", "content": text });
        match message {
            Message::AddressMissing => error("missing", "An address is needed to send this order."),
            Message::OutOfStock => session
                .lines
                .iter()
                .enumerate()
                .find(|(_, line)| !line.in_stock)
                .map_or_else(|| error("out_of_stock", "Something is out of stock."), out_of_stock),
            Message::Declined => {
                error("payment_declined", "The payment was declined. Please try another card.")
            }
            Message::Canceled => {
                json!({ "type": "info", "content_type": "plain", "content": "The checkout was canceled." })
            }
        }
    }

    fn capabilities(&self) -> Value {
        let handler = json!({
            "id": HANDLER,
            "name": "dev.acp.tokenized.card",
            "version": "2026-01-22",
            "spec": "https://acp.dev/handlers/tokenized.card",
            "requires_delegate_payment": true,
            "requires_pci_compliance": false,
            "psp": "countersign",
            "config_schema": "https://acp.dev/schemas/handlers/tokenized.card/config.json",
            "instrument_schemas": ["https://acp.dev/schemas/handlers/tokenized.card/instrument.json"],
            "config": { "merchant_id": self.merchant, "psp": "countersign", "accepted_brands": ["visa"] },
        });
        json!({ "payment": { "handlers": [handler] }, "interventions": { "supported": ["3ds"] } })
    }

    fn payment_provider(&self) -> Value {
        match self.version {
            Version::V2025_09_29 => json!({ "provider": "stripe", "supported_payment_methods": ["card"] }),
            version => {
                let methods = json!([{ "type": "card", "supported_card_networks": ["visa"] }]);
                let mut provider = json!({ "provider": "stripe", "supported_payment_methods": methods });
                if let (Version::V2026_01_16, Some(members)) = (version, provider.as_object_mut()) {
                    members.insert("merchant_id".to_owned(), json!(self.merchant));
                }
                provider
            }
        }
    }

    fn authentication_metadata(&self) -> Value {
        json!({
            "acquirer_details": {
                "acquirer_bin": "123456",
                "acquirer_country": "US",
                "acquirer_merchant_id": self.merchant,
                "merchant_name": "Sample shop",
            },
            "directory_server": "visa",
            "flow_preference": { "type": "challenge", "challenge": { "type": "preferred" } },
        })
    }

    fn order(&self, order: &str, session: &Session) -> Value {
        json!({
            "id": order,
            "checkout_session_id": session.id,
            "permalink_url": format!("{}/orders/{order}", self.base_url),
        })
    }
}

fn out_of_stock((index, line): (usize, &Line)) -> Value {
    json!({
        "type": "error",
        "code": "out_of_stock",
        "param": format!("$.line_items[{index}]"),
        "content_type": "plain",
        "content": format!("There is not enough of: {}", line.name),
    })
}

fn breakdown(totals: &Totals) -> Value {
    let mut rows = vec![
        row("items_base_amount", "Items", totals.items),
        row("subtotal", "Subtotal", totals.items),
        row("tax", "Tax", totals.tax),
    ];
    rows.extend(totals.shipping.map(|price| row("fulfillment", "Shipping", price)));
    rows.push(row("total", "Total", totals.total));
    Value::Array(rows)
}

fn row(kind: &str, text: &str, amount: u64) -> Value {
    json!({ "type": kind, "display_text": text, "amount": amount })
}
