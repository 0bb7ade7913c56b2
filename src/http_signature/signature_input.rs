//! What a message says about its signatures: `Signature-Input` and `Signature` (RFC 9421 §4).

use byteview::StrView;
use http::HeaderMap;

use super::base::{MessageView, field_value, signature_base};
use super::{Component, HttpSignatureError as Error, MAX_SIGNATURES, SIGNATURE, SIGNATURE_INPUT};
use crate::structured_fields::{Bare, Member, Value, dictionary};

/// A signature as received; nothing about it has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSignature {
    /// Its label in both headers.
    pub label: StrView,
    /// What it says it covers, in order, without repeats.
    pub components: Vec<Component>,
    /// Its parameters.
    pub parameters: Parameters,
    /// The signature's bytes.
    pub signature: Vec<u8>,
    /// Components and parameters as received: the value of `@signature-params`. RFC 9421 would have
    /// them serialised again, which for senders that write them otherwise signs other bytes.
    raw: StrView,
}

/// Signature parameters (RFC 9421 §2.3). Others may stand beside them and are covered all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// When it was made, in seconds since the Unix epoch.
    pub created: Option<i64>,
    /// From when it must not be accepted, in seconds since the Unix epoch.
    pub expires: Option<i64>,
    /// Which key made it.
    pub keyid: Option<StrView>,
    /// Which algorithm made it.
    pub alg: Option<StrView>,
    /// Makes it unique.
    pub nonce: Option<StrView>,
    /// What it is for.
    pub tag: Option<StrView>,
}

impl ReceivedSignature {
    /// Whether it covers the component.
    pub fn covers(&self, component: &Component) -> bool {
        self.components.contains(component)
    }

    /// The bytes it should be a signature over.
    ///
    /// # Errors
    /// As [`signature_base`].
    pub fn base(&self, message: &MessageView<'_>) -> Result<Vec<u8>, Error> {
        signature_base(message, &self.components, &self.raw)
    }
}

/// Reads the signatures of a message, in the order of `Signature-Input`; empty without that header.
///
/// # Errors
/// [`Error`] when anything about either header is not as RFC 9421 §4 says.
pub fn received(headers: &HeaderMap) -> Result<Vec<ReceivedSignature>, Error> {
    if !headers.contains_key(SIGNATURE_INPUT) {
        return Ok(Vec::new());
    }
    let inputs = field_value(headers, &SIGNATURE_INPUT).map_err(|_| Error::Malformed)?;
    let inputs = dictionary(&inputs)?;
    let signatures = match field_value(headers, &SIGNATURE) {
        Err(Error::MissingComponent) => return Err(Error::LabelsDiffer),
        value => value.map_err(|_| Error::Malformed)?,
    };
    let mut signatures = dictionary(&signatures)?;
    if inputs.len() > MAX_SIGNATURES {
        return Err(Error::TooLarge);
    }
    // Keys are unique on both sides, so equal counts and every label found means equal sets.
    if inputs.len() != signatures.len() || inputs.is_empty() {
        return Err(Error::LabelsDiffer);
    }
    let mut read = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let signature = signatures.iter_mut().find(|signature| signature.key == input.key);
        read.push(of_input(input, signature.ok_or(Error::LabelsDiffer)?)?);
    }
    Ok(read)
}

/// Takes the signature's bytes: no label stands twice.
fn of_input(input: &Member<'_>, signature: &mut Member<'_>) -> Result<ReceivedSignature, Error> {
    let (Value::InnerList(items), Value::Bare(Bare::Bytes(signature))) = (&input.value, &mut signature.value)
    else {
        return Err(Error::Malformed);
    };
    let mut components = Vec::with_capacity(items.len());
    for item in items {
        let component = Component::of_item(item)?;
        if components.contains(&component) {
            return Err(Error::Repeated);
        }
        components.push(component);
    }
    Ok(ReceivedSignature {
        label: StrView::new(input.key),
        components,
        parameters: parameters(input)?,
        signature: std::mem::take(signature),
        raw: StrView::new(input.raw),
    })
}

fn parameters(input: &Member<'_>) -> Result<Parameters, Error> {
    let mut parameters = Parameters::default();
    for (key, value) in &input.parameters {
        match (*key, value) {
            ("created", Bare::Integer(seconds)) => parameters.created = Some(*seconds),
            ("expires", Bare::Integer(seconds)) => parameters.expires = Some(*seconds),
            ("keyid", Bare::String(text)) => parameters.keyid = Some(StrView::new(text)),
            ("alg", Bare::String(text)) => parameters.alg = Some(StrView::new(text)),
            ("nonce", Bare::String(text)) => parameters.nonce = Some(StrView::new(text)),
            ("tag", Bare::String(text)) => parameters.tag = Some(StrView::new(text)),
            ("created" | "expires" | "keyid" | "alg" | "nonce" | "tag", _) => return Err(Error::Malformed),
            _ => {}
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(input: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(SIGNATURE_INPUT, HeaderValue::from_str(input).unwrap());
        headers.append(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        headers
    }

    #[test]
    fn components_and_parameters_are_read_and_the_bytes_kept() {
        let input = r#"a=( "@method"  "content-digest" "signature-agent";key="x");keyid="k";created=5;x=y"#;
        let read = received(&headers(input, "a=:AQI=:")).unwrap().remove(0);
        let names: Vec<_> = read.components.iter().map(Component::name).collect();
        assert_eq!(names, ["@method", "content-digest", "signature-agent"]);
        assert_eq!((read.parameters.created, read.parameters.keyid.as_deref()), (Some(5), Some("k")));
        assert_eq!(read.signature, [1, 2]);
        assert_eq!(Some(&*read.raw), input.strip_prefix("a="));
    }

    #[test]
    fn headers_that_do_not_match_are_refused() {
        let refused = |input, signature| received(&headers(input, signature)).unwrap_err();
        assert_eq!(refused("a=()", "b=:AQI=:"), Error::LabelsDiffer);
        assert_eq!(refused("a=()", "a=:AQI=:, b=:AQI=:"), Error::LabelsDiffer);
        assert_eq!(refused("a=(), b=()", "a=:AQI=:"), Error::LabelsDiffer);
        assert_eq!(refused("", "a=:AQI=:"), Error::LabelsDiffer);
        assert_eq!(refused("a=()", "AQI"), Error::Malformed);
        assert_eq!(refused("a=1", "a=:AQI=:"), Error::Malformed);
        assert_eq!(refused("a=(b)", "a=:AQI=:"), Error::Malformed);
        assert_eq!(refused(r#"a=("Date")"#, "a=:AQI=:"), Error::Malformed);
        assert_eq!(refused("a=();created=\"1\"", "a=:AQI=:"), Error::Malformed);
        assert_eq!(refused("a=();keyid=k", "a=:AQI=:"), Error::Malformed);
        assert_eq!(refused(r#"a=("date" "date")"#, "a=:AQI=:"), Error::Repeated);
        let mut unsigned = headers("a=()", "a=:AQI=:");
        unsigned.remove(SIGNATURE);
        assert_eq!(received(&unsigned), Err(Error::LabelsDiffer));
    }

    #[test]
    fn components_that_are_not_supported_are_refused_by_name() {
        for (component, named) in [
            (r#""date";sf"#, ";sf"),
            (r#""date";bs"#, ";bs"),
            (r#""date";req"#, ";req"),
            (r#""date";tr"#, ";tr"),
            (r#""date";key=x"#, ";key"),
            (r#""date";key="x";req"#, ";req"),
            (r#""date";x4242"#, "a parameter of a component"),
            (r#""@method";req"#, ";req"),
            (r#""@query-param";name="q""#, "@query-param"),
            (r#""@status""#, "@status"),
            (r#""@signature-params""#, "@signature-params"),
            (r#""@4242""#, "a derived component"),
        ] {
            let input = format!("a=({component})");
            let refused = received(&headers(&input, "a=:AQI=:"));
            assert_eq!(refused, Err(Error::UnsupportedComponent(named)), "{input}");
        }
    }

    proptest! {
        #[test]
        fn any_headers_are_read_or_refused(
            input in proptest::collection::vec(any::<u8>(), 0..80),
            near in "[ab=();:\"@, ]{0,40}",
        ) {
            let mut headers = HeaderMap::new();
            for value in [HeaderValue::from_bytes(&input), HeaderValue::from_str(&near)].into_iter().flatten() {
                headers.append(SIGNATURE_INPUT, value.clone());
                headers.append(SIGNATURE, value);
            }
            let _ = received(&headers);
        }
    }
}
