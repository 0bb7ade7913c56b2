//! A merchant that repeats our own credential, as debug pages repeat a request's headers. Apart from
//! `scrub`, because it is about bytes we know: they are hidden before anything reads the answer.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::exchange::Exchange;
use crate::domain::secret::SecretString;

/// Shorter credentials stand in innocent text by chance, and could be guessed anyway.
const SHORTEST: usize = 16;

/// The exchange, with asterisks for the credential wherever the answer's body holds it: as it is, or
/// with some of its characters escaped as JSON lets writers escape them (RFC 8259 §7).
pub(super) fn without_credential(exchange: Exchange, credential: &SecretString) -> Exchange {
    let credential = credential.expose();
    match exchange {
        Exchange::Answered(answer) if credential.len() >= SHORTEST => {
            // What is left as it was need not be read again.
            match hidden(&answer.body, credential.as_bytes()) {
                Some(body) => Exchange::Answered(answer.with_body(body)),
                None => Exchange::Answered(answer),
            }
        }
        other => other,
    }
}

/// The body without it, at the same length, so that JSON stays JSON; `None` where it does not hold it.
fn hidden(body: &Bytes, secret: &[u8]) -> Option<Bytes> {
    let found: Vec<Range<usize>> = match memchr::memchr(b'\\', body) {
        None => memmem::find_iter(body, secret).map(|at| at..at + secret.len()).collect(),
        Some(_) => find_escaped(body, secret),
    };
    if found.is_empty() {
        return None;
    }
    let mut body = BytesMut::from(body.as_ref());
    for range in found {
        if let Some(found) = body.get_mut(range) {
            found.fill(b'*');
        }
    }
    Some(body.freeze())
}

/// Where a secret stands in text that may escape any of its characters.
fn find_escaped(body: &[u8], secret: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        match length_of(rest, secret) {
            Some(length) => {
                found.push(at..at + length);
                at += length;
            }
            None => at += 1,
        }
    }
    found
}

/// How long the secret is that `text` begins with, as written there.
fn length_of(text: &[u8], secret: &[u8]) -> Option<usize> {
    let mut rest = text;
    for byte in secret {
        rest = match rest {
            [first, after @ ..] if first == byte => after,
            [b'\\', b'/', after @ ..] if *byte == b'/' => after,
            [b'\\', b'u', b'0', b'0', high, low, after @ ..] if is_byte([*high, *low], *byte) => after,
            _ => return None,
        };
    }
    Some(text.len() - rest.len())
}

/// Whether two hexadecimal digits, in either case, are that byte.
fn is_byte(digits: [u8; 2], byte: u8) -> bool {
    std::str::from_utf8(&digits).is_ok_and(|text| u8::from_str_radix(text, 16) == Ok(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merchant::exchange::Answer;

    fn seen(body: &str, credential: &str) -> String {
        let answer = Answer::new(
            http::StatusCode::OK,
            None,
            http::HeaderMap::new(),
            Bytes::copy_from_slice(body.as_bytes()),
            std::time::Duration::ZERO,
        );
        let credential = SecretString::new(credential.to_owned());
        let exchange = without_credential(Exchange::Answered(answer), &credential);
        String::from_utf8(exchange.answer().unwrap().body.to_vec()).unwrap()
    }

    #[test]
    fn a_credential_is_hidden_wherever_it_stands() {
        let secret = "aab/cdefghijklmnop";
        let hidden = "*".repeat(secret.len());
        assert_eq!(seen(secret, secret), hidden);
        assert_eq!(seen(&format!("a{secret}{secret}b"), secret), format!("a{hidden}{hidden}b"));
        assert_eq!(
            seen(r#"{"m":"aab\/cdefghijklmnop"}"#, secret),
            format!(r#"{{"m":"{}"}}"#, "*".repeat(secret.len() + 1))
        );
        // As .NET writes it, and as nobody does.
        let base64 = "aa+/cdefghijklmnop==";
        for written in [
            r"aa\u002B/cdefghijklmnop==",
            r"aa\u002b\/cdefghijklmnop\u003D=",
            r"\u0061a+\u002fcdefghijklmnop==",
        ] {
            let body = format!(r#"{{"a":"\n","m":"{written}!"}}"#);
            let hidden = format!(r#"{{"a":"\n","m":"{}!"}}"#, "*".repeat(written.len()));
            assert_eq!(seen(&body, base64), hidden);
        }
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for (body, credential) in
            [("", "0123456789abcdef"), ("0123456789abcde", "0123456789abcdef"), ("a short b", "short")]
        {
            assert_eq!(seen(body, credential), body);
        }
    }
}
