//! What the merchant answers: a session of about 3 KB, as shops show them, from templates.

use anyhow::Result;
use bytes::Bytes;
use serde_json::{Value, json};

/// The total of every session, in minor units.
pub const TOTAL: u64 = 10_032;
/// Stands for the session's id in a template.
const ID: &str = "{session}";

/// Sessions ready to be filled in.
pub struct Templates {
    open: Template,
    completed: Template,
    canceled: Template,
}

struct Template(Vec<String>);

impl Templates {
    /// Makes the templates.
    ///
    /// # Errors
    /// Never: what is written is JSON.
    pub fn new() -> Result<Self> {
        let order = json!({
            "id": format!("ord_{ID}"),
            "checkout_session_id": ID,
            "permalink_url": format!("https://shop.example/orders/{ID}"),
        });
        Ok(Self {
            open: Template::new(&session("ready_for_payment", None))?,
            completed: Template::new(&session("completed", Some(order)))?,
            canceled: Template::new(&session("canceled", None))?,
        })
    }

    /// A session that can be paid.
    pub fn open(&self, id: &str) -> Bytes {
        self.open.fill(id)
    }

    /// A session that was paid.
    pub fn completed(&self, id: &str) -> Bytes {
        self.completed.fill(id)
    }

    /// A session that was given up.
    pub fn canceled(&self, id: &str) -> Bytes {
        self.canceled.fill(id)
    }
}

impl Template {
    fn new(value: &Value) -> Result<Self> {
        Ok(Self(serde_json::to_string(value)?.split(ID).map(str::to_owned).collect()))
    }

    fn fill(&self, id: &str) -> Bytes {
        Bytes::from(self.0.join(id))
    }
}

fn row(kind: &str, text: &str, amount: u64) -> Value {
    json!({ "type": kind, "display_text": text, "amount": amount })
}

fn session(status: &str, order: Option<Value>) -> Value {
    let handler = json!({
        "id": "card",
        "name": "dev.acp.tokenized.card",
        "version": "2026-01-22",
        "spec": "https://acp.dev/handlers/tokenized.card",
        "requires_delegate_payment": true,
        "requires_pci_compliance": false,
        "psp": "countersign",
        "config_schema": "https://acp.dev/schemas/handlers/tokenized.card/config.json",
        "instrument_schemas": ["https://acp.dev/schemas/handlers/tokenized.card/instrument.json"],
        "config": { "merchant_id": "shop", "psp": "countersign", "accepted_brands": ["visa", "mastercard"] },
    });
    let option = |id: &str, title: &str, description: &str, price: u64| {
        json!({
            "type": "shipping", "id": id, "title": title, "description": description,
            "carrier": "Post", "totals": [row("total", "Shipping", price)],
        })
    };
    let mut session = json!({
        "id": ID,
        "status": status,
        "currency": "usd",
        "line_items": [{
            "id": "line_item_lamp",
            "item": { "id": "item_lamp" },
            "quantity": 1,
            "name": "Walnut desk lamp",
            "unit_amount": 7900,
            "totals": [
                row("items_base_amount", "Base amount", 7900),
                row("subtotal", "Subtotal", 7900),
                row("tax", "Tax", 632),
                row("total", "Total", 8532),
            ],
        }],
        "totals": [
            row("items_base_amount", "Items", 7900),
            row("subtotal", "Subtotal", 7900),
            row("tax", "Tax", 632),
            row("fulfillment", "Shipping", 1500),
            row("total", "Total", TOTAL),
        ],
        "fulfillment_options": [
            option("standard", "Standard", "Arrives in four to six days, signature not needed", 500),
            option("express", "Express", "Arrives the day after tomorrow, signature needed", 1500),
        ],
        "selected_fulfillment_options": [
            { "type": "shipping", "option_id": "express", "item_ids": ["item_lamp"] },
        ],
        "fulfillment_details": {
            "name": "Ada Lovelace", "email": "ada@example.com", "phone_number": "+15551234567",
            "address": {
                "name": "Ada Lovelace", "line_one": "1 Main St", "line_two": "Apartment 7", "city": "Springfield",
                "state": "IL", "country": "US", "postal_code": "62701",
            },
        },
        "buyer": { "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" },
        "messages": [{
            "type": "info", "content_type": "plain",
            "content": "Returns are free of charge within thirty days after the parcel has arrived.",
        }],
        "links": [
            { "type": "terms_of_use", "url": "https://shop.example/terms" },
            { "type": "privacy_policy", "url": "https://shop.example/privacy" },
            { "type": "return_policy", "url": "https://shop.example/returns" },
        ],
        "protocol": { "version": "2026-04-17" },
        "capabilities": {
            "payment": { "handlers": [handler] },
            "interventions": { "supported": ["3ds"] },
        },
    });
    if let (Some(order), Some(members)) = (order, session.as_object_mut()) {
        members.insert("order".to_owned(), order);
    }
    session
}

#[cfg(test)]
mod tests {
    use countersign::acp::wire::session::SessionView;

    use super::*;

    #[test]
    fn sessions_are_ones_the_gateway_finds_no_fault_with() {
        let templates = Templates::new().unwrap();
        for (body, has_order) in [(templates.open("cs_1"), false), (templates.completed("cs_1"), true)] {
            assert!((2_400..3_400).contains(&body.len()), "{} bytes", body.len());
            let view = SessionView::read(&body).unwrap();
            assert_eq!(view.id.unwrap().as_str(), "cs_1");
            assert!(view.faults.is_empty(), "{:?}", view.faults);
            let text = std::str::from_utf8(&body).unwrap();
            assert_eq!(text.contains("\"order\""), has_order);
            assert!(text.contains(&TOTAL.to_string()));
        }
    }
}
