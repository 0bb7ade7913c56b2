//! Create, update, cancel and the cart calls: the gateway needs no more of them than that they are
//! JSON objects, and which fulfillment options they select.

use super::WireError;
use super::json::Value;

/// What a create, update, cancel or cart request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MutationView {
    /// Ids of the selected fulfillment options, of any version.
    pub selected_option_ids: Vec<String>,
}

/// The most selections looked at.
const MAX_SELECTED: usize = 256;

/// The members in which a selection nests before 2026-01-30.
const NESTED: [&str; 4] = ["shipping", "digital", "pickup", "local_delivery"];

impl MutationView {
    /// Reads a request; no body at all is an empty one (cancel needs none).
    ///
    /// # Errors
    /// [`WireError`], structural, when it is not a JSON object or repeats a member of it.
    pub fn read(body: &[u8]) -> Result<Self, WireError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let Some(request) = Value::of_body(body).and_then(Value::object) else {
            return Err(WireError::structural("The body must be one JSON object.", "$"));
        };
        let option_id = |value: Value<'_>| Some(value.object()?.get("option_id")?.text()?.to_owned());
        let selections = request.get("selected_fulfillment_options").and_then(Value::array);
        let nested = |selection: Value<'_>| {
            let selection = selection.object()?;
            NESTED.iter().find_map(|name| option_id(selection.get(name)?))
        };
        let single = request.get("fulfillment_option_id").and_then(Value::text);
        let selected_option_ids = selections
            .unwrap_or_default()
            .into_iter()
            .take(MAX_SELECTED)
            .filter_map(|selection| option_id(selection).or_else(|| nested(selection)))
            .chain(single.map(|id| id.to_owned()))
            .collect();
        Ok(Self { selected_option_ids })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selected_options_are_found_in_every_versions_place() {
        for (body, ids) in [
            (r#"{"fulfillment_option_id":"a"}"#, vec!["a"]),
            (
                r#"{"selected_fulfillment_options":[{"type":"shipping","shipping":{"option_id":"a","item_ids":[]}}]}"#,
                vec!["a"],
            ),
            (
                r#"{"selected_fulfillment_options":[{"type":"pickup","option_id":"a"},{"option_id":"b"},7]}"#,
                vec!["a", "b"],
            ),
            (r#"{"items":[]}"#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(MutationView::read(body.as_bytes()).unwrap().selected_option_ids, ids, "{body}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for body in ["[]", "null", "{", " ", r#"{"a":1,"a":2}"#] {
            assert!(MutationView::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = MutationView::read(&body);
        }
    }
}
