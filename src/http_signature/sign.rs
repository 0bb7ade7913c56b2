//! Making signatures: the values of `Signature-Input` and `Signature` for a message of ours.

use bytes::Bytes;
use http::HeaderValue;

use super::{Component, HttpSignatureError as Error, MessageView, signature_base};
use crate::crypto::sign::SigningKey;
use crate::domain::clock::Timestamp;
use crate::structured_fields::write;

/// What a signature is to say.
#[derive(Clone, Copy)]
pub struct Signing<'a> {
    /// Its label: a structured-field key (lower-case).
    pub label: &'a str,
    /// What it covers, in this order.
    pub components: &'a [Component],
    /// When it is made.
    pub created: Timestamp,
    /// From when it must not be accepted.
    pub expires: Option<Timestamp>,
    /// How the receiver finds the key.
    pub keyid: &'a str,
    /// Makes it unique, if it must be.
    pub nonce: Option<&'a str>,
    /// What it is for.
    pub tag: Option<&'a str>,
}

/// The two headers of a signature.
#[derive(Clone, Debug)]
pub struct SignatureHeaders {
    /// `Signature-Input`.
    pub input: HeaderValue,
    /// `Signature`.
    pub signature: HeaderValue,
    /// The bytes that were signed, for explaining.
    pub base: Vec<u8>,
}

impl Signing<'_> {
    /// Signs the message.
    ///
    /// # Errors
    /// [`Error::MissingComponent`] and [`Error::NotAscii`] as [`signature_base`], the latter for the
    /// parameters too; [`Error::Malformed`] for a label that is no key; [`Error::NotSigned`].
    pub fn sign(&self, message: &MessageView<'_>, key: &SigningKey) -> Result<SignatureHeaders, Error> {
        if !write::is_key(self.label) {
            return Err(Error::Malformed);
        }
        // Both values stand in one text, and neither is written twice.
        let mut text = String::with_capacity(512);
        text.push_str(self.label);
        text.push('=');
        let label_end = text.len();
        self.append_parameters(&mut text)?;
        let input_end = text.len();
        let parameters = text.get(label_end..).unwrap_or_default();
        let base = signature_base(message, self.components, parameters)?;
        let signature = key.sign(&base).map_err(|_| Error::NotSigned)?;
        text.push_str(self.label);
        text.push('=');
        write::bytes(&signature, &mut text);
        let text = Bytes::from(text);
        let header = |text: Bytes| HeaderValue::from_maybe_shared(text).map_err(|_| Error::NotAscii);
        Ok(SignatureHeaders {
            input: header(text.slice(..input_end))?,
            signature: header(text.slice(input_end..))?,
            base,
        })
    }

    /// The value of `@signature-params`.
    fn append_parameters(&self, out: &mut String) -> Result<(), Error> {
        out.push('(');
        for (position, component) in self.components.iter().enumerate() {
            if position > 0 {
                out.push(' ');
            }
            component.write(out)?;
        }
        out.push(')');
        for (key, time) in [("created", Some(self.created)), ("expires", self.expires)] {
            let Some(time) = time else { continue };
            write::parameter(key, out);
            write::integer(time.unix_seconds(), out)?;
        }
        for (key, text) in [("keyid", Some(self.keyid)), ("nonce", self.nonce), ("tag", self.tag)] {
            let Some(text) = text else { continue };
            write::parameter(key, out);
            write::string(text, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::super::{SIGNATURE, SIGNATURE_INPUT, received};
    use super::*;
    use crate::crypto::sign::Algorithm;

    fn message(headers: &HeaderMap) -> MessageView<'_> {
        MessageView {
            method: "POST",
            scheme: "https",
            authority: "shop.example",
            path: "/a/b",
            query: Some("x=1"),
            headers,
        }
    }

    fn signing<'a>(components: &'a [Component], nonce: &'a str) -> Signing<'a> {
        Signing {
            label: "sig1",
            components,
            created: Timestamp::from_unix_seconds(1_000),
            expires: Some(Timestamp::from_unix_seconds(1_300)),
            keyid: "k",
            nonce: Some(nonce),
            tag: Some("t"),
        }
    }

    #[test]
    fn the_base_has_a_line_for_each_component_in_order() {
        let mut headers = HeaderMap::new();
        headers.append("x-list", HeaderValue::from_static(" a "));
        headers.append("x-list", HeaderValue::from_static("b"));
        headers.append("x-map", HeaderValue::from_static("one=1;p, two"));
        let mut components: Vec<_> = [
            "@method",
            "@target-uri",
            "@authority",
            "@scheme",
            "@request-target",
            "@path",
            "@query",
            "x-list",
        ]
        .iter()
        .map(|name| Component::parse(name).unwrap())
        .collect();
        let field = http::HeaderName::from_static("x-map");
        for key in ["one", "two"] {
            components.push(Component::Member { field: field.clone(), key: key.into() });
        }
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let signed = signing(&components, "n").sign(&message(&headers), &key).unwrap();
        assert_eq!(
            String::from_utf8(signed.base).unwrap(),
            r#""@method": POST
"@target-uri": https://shop.example/a/b?x=1
"@authority": shop.example
"@scheme": https
"@request-target": /a/b?x=1
"@path": /a/b
"@query": ?x=1
"x-list": a, b
"x-map";key="one": 1;p
"x-map";key="two": ?1
"@signature-params": ("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" "@query" "x-list" "x-map";key="one" "x-map";key="two");created=1000;expires=1300;keyid="k";nonce="n";tag="t""#
        );
    }

    #[test]
    fn nothing_is_signed_that_the_message_lacks() {
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let components = [Component::parse("x-absent").unwrap()];
        let refused = signing(&components, "n").sign(&message(&HeaderMap::new()), &key);
        assert_eq!(refused.unwrap_err(), Error::MissingComponent);
    }

    proptest! {
        #[test]
        fn what_is_signed_is_read_back_and_verifies(nonce in "[ -~]{0,40}", value in "[!-~]{1,40}") {
            let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
            let mut headers = HeaderMap::new();
            headers.append("x-value", HeaderValue::from_str(&value).unwrap());
            let components = [Component::Path, Component::parse("x-value").unwrap()];
            let signed = signing(&components, &nonce).sign(&message(&headers), &key).unwrap();
            headers.append(SIGNATURE_INPUT, signed.input);
            headers.append(SIGNATURE, signed.signature);
            let read = received(&headers).unwrap().remove(0);
            prop_assert_eq!(read.parameters.nonce.as_deref(), Some(nonce.as_str()));
            let base = read.base(&message(&headers)).unwrap();
            prop_assert!(key.public().verifies(&base, &read.signature));
        }
    }
}
