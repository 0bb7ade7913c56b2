//! Reading a merchant's error, in every envelope met (`src/acp/README.md`, "Dialects").
//!
//! Nothing read here is fit for an agent or a log before `scrub` has seen it.

use serde_json::{Map, Value};

/// An error as a merchant described it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// `type`
    pub kind: Option<String>,
    /// `code`
    pub code: Option<String>,
    /// `message`, or the text that stands in its place.
    pub message: Option<String>,
    /// `param`
    pub param: Option<String>,
    /// `supported_versions`
    pub supported_versions: Vec<String>,
}

/// Reads a flat error, `{error:{…}}`, `{error:"text"}`, `{detail:{…}}`, `{detail:[…]}` or
/// `{detail:"text"}`; `None` when the body is none of these or says nothing.
pub(super) fn read_error(body: &[u8]) -> Option<Described> {
    let Value::Object(object) = serde_json::from_slice(body).ok()? else { return None };
    let inner = ["error", "detail"].into_iter().find_map(|name| object.get(name));
    let described = match inner {
        Some(Value::Object(error)) => flat(error),
        Some(Value::Array(entries)) => entries.first().and_then(Value::as_object).map(entry)?,
        // Beside a text the flat members may stand all the same.
        Some(Value::String(text)) => {
            let beside = flat(&object);
            Described { message: beside.message.or_else(|| Some(text.clone())), ..beside }
        }
        _ => flat(&object),
    };
    (described != Described::default()).then_some(described)
}

fn flat(object: &Map<String, Value>) -> Described {
    Described {
        kind: text(object, "type"),
        code: text(object, "code"),
        message: text(object, "message"),
        param: text(object, "param"),
        supported_versions: texts(object, "supported_versions"),
    }
}

/// One entry of a validator's list: `{loc: […], msg, type}`, or a flat error.
fn entry(object: &Map<String, Value>) -> Described {
    let described = flat(object);
    Described {
        message: described.message.or_else(|| text(object, "msg")),
        param: described.param.or_else(|| object.get("loc").and_then(location)),
        ..described
    }
}

/// A validator's location as a JSONPath; the leading `body` names the request, not a member.
fn location(loc: &Value) -> Option<String> {
    let mut path = String::from("$");
    for (position, step) in loc.as_array()?.iter().enumerate() {
        match step {
            Value::String(name) if position == 0 && name == "body" => {}
            Value::String(name) => {
                path.push('.');
                path.push_str(name);
            }
            Value::Number(index) => path.push_str(&format!("[{index}]")),
            _ => return None,
        }
    }
    Some(path)
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn texts(object: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = object.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(kind: &str, code: &str, message: &str, param: &str) -> Option<Described> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Described {
            kind: some(kind),
            code: some(code),
            message: some(message),
            param: some(param),
            supported_versions: vec![],
        })
    }

    #[test]
    fn every_envelope_met_is_unwrapped() {
        let flat = r#"{"type":"invalid_request","code":"out_of_stock","message":"gone","param":"$.items"}"#;
        let expected = described("invalid_request", "out_of_stock", "gone", "$.items");
        assert_eq!(read_error(flat.as_bytes()), expected);
        assert_eq!(read_error(format!(r#"{{"error":{flat}}}"#).as_bytes()), expected);
        assert_eq!(read_error(format!(r#"{{"detail":{flat}}}"#).as_bytes()), expected);
        assert_eq!(read_error(br#"{"error":"text"}"#), described("", "", "text", ""));
        assert_eq!(read_error(br#"{"detail":"text"}"#), described("", "", "text", ""));
        assert_eq!(read_error(br#"{"error":"text","code":"c"}"#), described("", "c", "text", ""));
        let list = br#"{"detail":[{"loc":["body","items",0,"id"],"msg":"field required","type":"missing"}]}"#;
        assert_eq!(read_error(list), described("missing", "", "field required", "$.items[0].id"));
    }

    #[test]
    fn what_describes_no_error_is_none() {
        for body in ["", "<html>", "[]", "null", "{}", r#"{"detail":[]}"#, r#"{"error":{}}"#, r#"{"code":7}"#]
        {
            assert_eq!(read_error(body.as_bytes()), None, "{body}");
        }
    }
}
