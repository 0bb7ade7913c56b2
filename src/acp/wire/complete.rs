//! A complete request, as far as money is concerned: which token, through which handler.
//!
//! In all versions and in the dialects in use (`src/acp/README.md`, "Dialects").

use super::WireError;
use super::json::{Document, Object, Value};
use crate::domain::id::TokenId;
use crate::domain::secret::SecretString;

/// What a complete request pays with. Not printable: the token may be a card number in disguise.
pub struct CompleteView {
    /// The one token, from wherever it stands.
    pub token: Option<SecretString>,
    /// Which of the session's handlers.
    pub handler_id: Option<String>,
    /// Whether a purchase order number is given.
    pub has_purchase_order: bool,
    /// Whether nothing is given to pay with: neither `payment_data` nor what dialects have in its place.
    pub pays_nothing: bool,
    /// Whether the outcome of a 3-D Secure challenge is given.
    pub has_authentication_result: bool,
}

/// The places where a token may stand, each object opened once: as written by 2026-01-30 and later,
/// by earlier versions, and by three dialects. Which one a merchant reads is its affair, so all that
/// are there must agree.
struct Places<'a> {
    root: Object<'a>,
    payment_data: Option<Object<'a>>,
    instrument: Option<Object<'a>>,
    credential: Option<Object<'a>>,
    payment: Option<Object<'a>>,
}

impl<'a> Places<'a> {
    fn open(body: Value<'a>) -> Result<Self, WireError> {
        let root = open(body)?;
        let payment_data = inside(Some(&root), "payment_data")?;
        let instrument = inside(payment_data.as_ref(), "instrument")?;
        let credential = inside(instrument.as_ref(), "credential")?;
        let payment = inside(Some(&root), "payment")?;
        Ok(Self { root, payment_data, instrument, credential, payment })
    }

    fn tokens(&self) -> [(&'static str, Option<Value<'a>>); 5] {
        [
            ("$.payment_data.instrument.credential.token", present(&self.credential, "token")),
            ("$.payment_data.instrument.token", present(&self.instrument, "token")),
            ("$.payment_data.token", present(&self.payment_data, "token")),
            ("$.payment.delegated_token", present(&self.payment, "delegated_token")),
            ("$.payment_token", self.root.present("payment_token")),
        ]
    }

    fn handlers(&self) -> [(&'static str, Option<Value<'a>>); 2] {
        [
            ("$.payment_data.handler_id", present(&self.payment_data, "handler_id")),
            ("$.payment_data.instrument.handler_id", present(&self.instrument, "handler_id")),
        ]
    }
}

impl CompleteView {
    /// Reads a complete request of any version or dialect.
    ///
    /// # Errors
    /// [`WireError`], structural: not an object; a token or handler id that is not a non-empty
    /// string; several that differ; repeated members on the way to one. Whatever else it holds is
    /// the merchant's to judge.
    pub fn read(body: &[u8]) -> Result<Self, WireError> {
        let document = Document::of_body(body)
            .filter(|document| document.value().is_object())
            .ok_or_else(|| WireError::structural("The body must be one JSON object.", "$"))?;
        let places = Places::open(document.value())?;
        let token = agreed(places.tokens(), "Only one payment token may be given.")?;
        let handler_id = agreed(places.handlers(), "Only one handler_id may be given.")?;
        let purchase_order = present(&places.payment_data, "purchase_order_number");
        let pays_with = ["payment_data", "payment", "payment_token"];
        let pays_nothing = pays_with.iter().all(|name| places.root.present(name).is_none());
        Ok(Self {
            token: token.map(SecretString::new),
            handler_id,
            has_purchase_order: purchase_order.is_some(),
            pays_nothing,
            has_authentication_result: places.root.present("authentication_result").is_some(),
        })
    }

    /// The token, if it has the shape of one of ours.
    pub fn minted_token(&self) -> Option<TokenId> {
        TokenId::parse_minted(self.token.as_ref()?.expose())
    }

    /// Whether it pays by purchase order alone: no allowance stands behind that.
    pub const fn is_purchase_order_only(&self) -> bool {
        self.has_purchase_order && self.token.is_none()
    }
}

/// The text that stands in one or more of several places.
fn agreed<const N: usize>(
    places: [(&'static str, Option<Value<'_>>); N],
    differing: &'static str,
) -> Result<Option<String>, WireError> {
    let mut found: Option<String> = None;
    for (path, value) in places {
        let Some(value) = value else { continue };
        let text = value
            .text()
            .filter(|text| !text.as_str().is_empty())
            .ok_or_else(|| WireError::structural("This must be a non-empty string.", path))?;
        if found.as_ref().is_some_and(|found| found != text.as_str()) {
            return Err(WireError::structural(differing, path));
        }
        found = Some(text.to_owned());
    }
    Ok(found)
}

fn open(value: Value<'_>) -> Result<Object<'_>, WireError> {
    value.object().ok_or_else(|| WireError::structural("Members of an object must not be repeated.", "$"))
}

/// The object in a member; none where it is absent, `null` or no object.
fn inside<'a>(object: Option<&Object<'a>>, name: &str) -> Result<Option<Object<'a>>, WireError> {
    let inner = object.and_then(|object| object.get(name)).filter(|value| value.is_object());
    inner.map(open).transpose()
}

fn present<'a>(object: &Option<Object<'a>>, name: &str) -> Option<Value<'a>> {
    object.as_ref()?.present(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> CompleteView {
        CompleteView::read(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn refused(body: &str) -> String {
        CompleteView::read(body.as_bytes()).err().map(|error| error.param).unwrap_or_default()
    }

    #[test]
    fn the_token_is_found_wherever_agents_put_it() {
        for body in [
            r#"{"payment_data":{"token":"spt_1","provider":"stripe"}}"#,
            r#"{"payment_data":{"handler_id":"h","instrument":{"type":"card","credential":{"type":"spt","token":"spt_1"}}}}"#,
            r#"{"payment_data":{"instrument":{"token":"spt_1"}}}"#,
            r#"{"payment":{"delegated_token":"spt_1"}}"#,
            r#"{"payment_token":"spt_\u0031"}"#,
            r#"{"payment_token":"spt_1","payment_data":{"token":"spt_1"}}"#,
        ] {
            assert_eq!(read(body).token.unwrap().expose(), "spt_1", "{body}");
        }
    }

    #[test]
    fn tokens_that_differ_are_refused() {
        let body = r#"{"payment_token":"b","payment_data":{"token":"a"}}"#;
        assert_eq!(refused(body), "$.payment_token");
        let body = r#"{"payment_data":{"token":"a","instrument":{"credential":{"token":"b"}}}}"#;
        assert_eq!(refused(body), "$.payment_data.token");
    }

    #[test]
    fn a_token_is_a_string_that_says_something() {
        for body in [r#"{"payment_token":7}"#, r#"{"payment_token":""}"#, r#"{"payment_token":{"a":1}}"#] {
            assert_eq!(refused(body), "$.payment_token", "{body}");
        }
        assert!(read(r#"{"payment_token":null}"#).token.is_none());
        assert_eq!(refused(r#"{"payment_data":{"token":"a","token":"b"}}"#), "$");
        assert_eq!(refused("[]"), "$");
        assert_eq!(refused(""), "$");
    }

    #[test]
    fn a_handler_is_named_once_or_twice_alike() {
        let twice = r#"{"payment_data":{"handler_id":"h","instrument":{"handler_id":"h"}}}"#;
        assert_eq!(read(twice).handler_id.as_deref(), Some("h"));
        let differing = r#"{"payment_data":{"handler_id":"h","instrument":{"handler_id":"g"}}}"#;
        assert_eq!(refused(differing), "$.payment_data.instrument.handler_id");
    }

    #[test]
    fn a_purchase_order_alone_is_told_from_one_beside_a_token() {
        let alone = read(r#"{"payment_data":{"purchase_order_number":"PO-1"}}"#);
        assert!(alone.is_purchase_order_only());
        let beside = read(r#"{"payment_data":{"purchase_order_number":"PO-1","token":"t"}}"#);
        assert!(beside.has_purchase_order && !beside.is_purchase_order_only());
    }

    #[test]
    fn nothing_is_paid_with_only_where_no_member_says_otherwise() {
        for body in ["{}", r#"{"payment_data":null,"buyer":{}}"#] {
            assert!(read(body).pays_nothing, "{body}");
        }
        for body in [r#"{"payment_data":{}}"#, r#"{"payment":{"x":1}}"#, r#"{"payment_token":"t"}"#] {
            assert!(!read(body).pays_nothing, "{body}");
        }
    }

    #[test]
    fn a_3ds_outcome_and_a_token_of_ours_are_seen() {
        let body = r#"{"payment_token":"vt_abcdefghij0123456789012345678901","authentication_result":{"outcome":"denied"}}"#;
        let view = read(body);
        assert!(view.has_authentication_result && view.minted_token().is_some());
        assert!(read(r#"{"payment_token":"spt_1"}"#).minted_token().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = CompleteView::read(&body).is_ok();
        }
    }
}
