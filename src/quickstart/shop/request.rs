//! What the shop reads of requests, in the shapes of every ACP version it knows.

use http::Method;
use serde_json::Value;

use super::behaviour::CallKind;

/// Which call a method and path are, and the id in the path.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> (CallKind, Option<&'a str>) {
    let mut segments = path.split('/').skip(1);
    let parts = (segments.next(), segments.next(), segments.next(), segments.next());
    let (kind, id) = match (method.as_str(), parts) {
        ("POST", (Some("checkout_sessions"), None, ..)) => (CallKind::Create, None),
        ("GET", (Some("checkout_sessions"), id @ Some(_), None, _)) => (CallKind::Read, id),
        ("POST", (Some("checkout_sessions"), id @ Some(_), None, _)) => (CallKind::Update, id),
        ("POST", (Some("checkout_sessions"), id, Some("complete"), None)) => (CallKind::Complete, id),
        ("POST", (Some("checkout_sessions"), id, Some("cancel"), None)) => (CallKind::Cancel, id),
        ("POST", (Some("carts"), None, ..)) => (CallKind::CartCreate, None),
        ("GET", (Some("carts"), id @ Some(_), None, _)) => (CallKind::CartRead, id),
        ("PUT", (Some("carts"), id @ Some(_), None, _)) => (CallKind::CartUpdate, id),
        ("POST", (Some("carts"), id, Some("cancel"), None)) => (CallKind::CartCancel, id),
        _ => (CallKind::Other, None),
    };
    (kind, id)
}

/// The items asked for, with their quantities: `line_items`, before 2026-01-30 `items`. `Err` names
/// what is wrong with them.
pub(super) fn items(body: &Value) -> Result<Option<Vec<(String, u64)>>, &'static str> {
    let Some(items) = body.get("line_items").or_else(|| body.get("items")) else { return Ok(None) };
    let items = items.as_array().filter(|items| !items.is_empty()).ok_or("$.line_items")?;
    let read = |item: &Value| {
        let id = item.get("id").and_then(Value::as_str)?;
        let quantity = item.get("quantity").map_or(Some(1), Value::as_u64)?;
        (quantity > 0).then(|| (id.to_owned(), quantity))
    };
    items.iter().map(read).collect::<Option<_>>().map(Some).ok_or("$.line_items")
}

/// Where to send it: `fulfillment_details`, in 2025-09-29 the bare `fulfillment_address`.
pub(super) fn fulfillment_details(body: &Value) -> Option<Value> {
    let details = body.get("fulfillment_details").filter(|details| details.is_object());
    details.cloned().or_else(|| {
        let address = body.get("fulfillment_address").filter(|address| address.is_object())?;
        Some(serde_json::json!({ "address": address }))
    })
}

/// The chosen way to send it: flat from 2026-01-30 on, nested by type before, a bare id at first.
pub(super) fn selected_shipping(body: &Value) -> Option<String> {
    let selected = body.pointer("/selected_fulfillment_options/0");
    let id = selected
        .and_then(|option| option.get("option_id").or_else(|| option.pointer("/shipping/option_id")))
        .or_else(|| body.get("fulfillment_option_id"));
    id.and_then(Value::as_str).map(str::to_owned)
}

/// What a complete pays with.
pub(super) struct Payment {
    /// The token.
    pub token: Option<String>,
    /// `authentication_result.outcome`.
    pub authentication: Option<String>,
}

impl Payment {
    /// The token stands in the instrument's credential, before 2026-01-30 in `payment_data` itself.
    pub(super) fn read(body: &Value) -> Self {
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let token = text("/payment_data/instrument/credential/token");
        Self {
            token: token.or_else(|| text("/payment_data/token")),
            authentication: text("/authentication_result/outcome"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shapes_of_every_version_are_read() {
        let one = Ok(Some(vec![("a".to_owned(), 1)]));
        assert_eq!(items(&json!({"line_items": [{"id": "a"}]})), one);
        assert_eq!(items(&json!({"items": [{"id": "a", "quantity": 1}]})), one);
        assert_eq!(items(&json!({})), Ok(None));
        for bad in [json!([]), json!([{"id": "a", "quantity": 0}]), json!([{"quantity": 1}]), json!("a")] {
            assert!(items(&json!({ "line_items": bad })).is_err());
        }
        for selected in [
            json!({"selected_fulfillment_options": [{"type": "shipping", "option_id": "s"}]}),
            json!({"selected_fulfillment_options": [{"type": "shipping", "shipping": {"option_id": "s"}}]}),
            json!({"fulfillment_option_id": "s"}),
        ] {
            assert_eq!(selected_shipping(&selected).as_deref(), Some("s"));
        }
        let old = Payment::read(&json!({"payment_data": {"token": "t", "provider": "stripe"}}));
        assert_eq!(old.token.as_deref(), Some("t"));
    }

    #[test]
    fn paths_are_calls() {
        let route = |method: &str, path| route(&method.parse().unwrap(), path);
        assert_eq!(route("POST", "/checkout_sessions"), (CallKind::Create, None));
        assert_eq!(route("POST", "/checkout_sessions/a/complete"), (CallKind::Complete, Some("a")));
        assert_eq!(route("PUT", "/carts/a"), (CallKind::CartUpdate, Some("a")));
        assert_eq!(route("GET", "/checkout_sessions"), (CallKind::Other, None));
        assert_eq!(route("DELETE", "/carts/a"), (CallKind::Other, None));
    }
}
