//! What the shop answers, before and after it is spoiled on purpose.

use std::time::Duration;

use serde_json::{Value, json};

use super::behaviour::{Canned, Change};
use super::session::Refused;
use crate::acp::version::Version;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How an answer's body travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    /// Half of it, then the connection breaks.
    Truncated,
    /// A byte at a time.
    Dripping(Duration),
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    /// A flat ACP error.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let kind = if status >= 500 { "processing_error" } else { "invalid_request" };
        Self::json(status, &json!({ "type": kind, "code": code, "message": message }))
    }

    /// A flat ACP error about one member of the request.
    pub(super) fn invalid(param: &str, message: &str) -> Self {
        let body =
            json!({ "type": "invalid_request", "code": "invalid", "message": message, "param": param });
        Self::json(400, &body)
    }

    /// That the version is missing or unknown, and which are not.
    pub(super) fn unknown_version() -> Self {
        let versions = Version::NEWEST_FIRST.map(Version::as_str);
        let message = "API-Version is missing or unknown.";
        let code = "unsupported_api_version";
        Self::json(
            400,
            &json!({ "type": "invalid_request", "code": code, "message": message, "supported_versions": versions }),
        )
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "not_found", "There is nothing here.")
    }

    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The answer spoiled.
    pub(super) fn changed(mut self, change: &Change) -> (Self, Delivery) {
        match change {
            Change::Truncated => return (self, Delivery::Truncated),
            Change::Dripping(pause) => return (self, Delivery::Dripping(*pause)),
            Change::OtherSession => self.edit(|view| {
                if let Some(id) = view.get_mut("id") {
                    *id = json!("cs_somebody_elses");
                }
            }),
            Change::ConflictingTotals => self.edit(|view| {
                let Some(totals) = view.get_mut("totals").and_then(Value::as_array_mut) else { return };
                let second = totals.iter().find(|row| is_total(row)).map(|row| raised(row, 1));
                totals.extend(second);
            }),
            Change::HigherTotal(by) => self.edit(|view| {
                let Some(totals) = view.get_mut("totals").and_then(Value::as_array_mut) else { return };
                for row in totals.iter_mut().filter(|row| is_total(row)) {
                    *row = raised(row, *by);
                }
            }),
        }
        (self, Delivery::Whole)
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        if let Ok(mut view) = serde_json::from_slice(&self.body) {
            edit(&mut view);
            self.body = view.to_string().into_bytes();
        }
    }
}

fn is_total(row: &Value) -> bool {
    row.get("type").and_then(Value::as_str) == Some("total")
}

fn raised(row: &Value, by: u64) -> Value {
    let mut row = row.clone();
    if let Some(amount) = row.get_mut("amount") {
        *amount = json!(amount.as_u64().unwrap_or(0).saturating_add(by));
    }
    row
}

impl From<&Canned> for Reply {
    fn from(canned: &Canned) -> Self {
        Self {
            status: canned.status,
            headers: canned.headers.clone(),
            body: canned.body.clone().into_bytes(),
        }
    }
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Ended => Self::error(405, "invalid_state", "This checkout is completed or canceled."),
            Refused::Busy => Self::error(409, "conflict", "This checkout is being completed."),
            Refused::NotReady => {
                Self::error(400, "not_ready_for_payment", "This checkout is not ready for payment.")
            }
            Refused::Requires3ds => Self::json(
                400,
                &json!({
                    "type": "invalid_request",
                    "code": "requires_3ds",
                    "message": "The issuer asked to see the buyer; send authentication_result.",
                    "param": "$.authentication_result",
                }),
            ),
        }
    }
}
