//! What a session says against ACP although it can be read. It is relayed all the same, because the
//! merchant is the system of record; but somebody should hear of it.

use smallvec::SmallVec;

use super::SessionStatus;
use crate::acp::wire::json::{Object, Text, Value};

/// Something a session says against ACP (rfc.agentic_checkout §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFault {
    /// `authentication_required` without the `authentication_metadata` to authenticate with.
    AuthenticationMetadataMissing,
    /// A fulfillment option is selected that is not among those offered.
    OptionNotOffered,
}

/// The most selections looked at.
const MAX_SELECTED: usize = 256;

/// The members in which a selection nests before 2026-01-30.
const NESTED: [&str; 4] = ["shipping", "digital", "pickup", "local_delivery"];

/// Ids of options; few.
type Ids<'a> = SmallVec<[Text<'a>; 8]>;

impl SessionFault {
    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationMetadataMissing => "authentication_metadata_missing",
            Self::OptionNotOffered => "option_not_offered",
        }
    }

    /// The faults of a session. One that is canceled or expired has none: what it offered no longer
    /// matters.
    pub(super) fn of_session(session: &Object<'_>, status: SessionStatus) -> Vec<Self> {
        if matches!(status, SessionStatus::Canceled | SessionStatus::Expired) {
            return Vec::new();
        }
        let unauthenticable = status == SessionStatus::AuthenticationRequired
            && session.present("authentication_metadata").is_none();
        let selected = selected_option_ids(session);
        let stray = !selected.is_empty() && {
            let offered = offered_option_ids(session);
            let is_offered = |selected: &Text<'_>| offered.iter().any(|id| id.as_str() == selected.as_str());
            !selected.iter().all(is_offered)
        };
        let faults = [
            unauthenticable.then_some(Self::AuthenticationMetadataMissing),
            stray.then_some(Self::OptionNotOffered),
        ];
        faults.into_iter().flatten().collect()
    }
}

fn offered_option_ids<'a>(session: &Object<'a>) -> Ids<'a> {
    let offered = session.get("fulfillment_options").and_then(Value::array).unwrap_or_default();
    offered.into_iter().filter_map(|option| option.object()?.get("id")?.text()).collect()
}

/// Ids of the selected options: a list, flat from 2026-01-30 on and nested by type before; in
/// 2025-09-29 one id.
fn selected_option_ids<'a>(session: &Object<'a>) -> Ids<'a> {
    let option_id = |value: Value<'a>| value.object()?.get("option_id")?.text();
    let nested = |selection: Value<'a>| {
        let selection = selection.object()?;
        NESTED.iter().find_map(|name| option_id(selection.get(name)?))
    };
    let selections = session.get("selected_fulfillment_options").and_then(Value::array);
    let single = session.get("fulfillment_option_id").and_then(Value::text);
    selections
        .unwrap_or_default()
        .into_iter()
        .take(MAX_SELECTED)
        .filter_map(|selection| option_id(selection).or_else(|| nested(selection)))
        .chain(single)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::SessionView;
    use super::*;

    fn faults(members: &str) -> Vec<SessionFault> {
        SessionView::read(format!("{{{members}}}").as_bytes()).unwrap().faults
    }

    #[test]
    fn an_option_must_be_offered_to_be_selected_in_every_versions_shape() {
        for selected in [
            r#""fulfillment_option_id":"b""#,
            r#""selected_fulfillment_options":[{"type":"shipping","shipping":{"option_id":"b","item_ids":[]}}]"#,
            r#""selected_fulfillment_options":[{"type":"pickup","option_id":"a"},{"option_id":"b"},7]"#,
        ] {
            let offers = |options: &str| faults(&format!(r#""fulfillment_options":{options},{selected}"#));
            assert_eq!(offers(r#"[{"id":"a"},{"id":"b"}]"#), [], "{selected}");
            assert_eq!(offers(r#"[{"id":"a"}]"#), [SessionFault::OptionNotOffered], "{selected}");
            assert_eq!(faults(selected), [SessionFault::OptionNotOffered], "{selected}");
            assert_eq!(faults(&format!(r#"{selected},"status":"canceled""#)), [], "{selected}");
        }
        assert_eq!(faults(r#""fulfillment_option_id":null,"selected_fulfillment_options":[]"#), []);
    }

    #[test]
    fn a_session_that_demands_authentication_says_how() {
        let status = r#""status":"authentication_required""#;
        let missing = [SessionFault::AuthenticationMetadataMissing];
        assert_eq!(faults(status), missing);
        assert_eq!(faults(&format!(r#"{status},"authentication_metadata":null"#)), missing);
        assert_eq!(faults(&format!(r#"{status},"authentication_metadata":{{}}"#)), []);
        assert_eq!(faults(r#""status":"ready_for_payment""#), []);
    }
}
