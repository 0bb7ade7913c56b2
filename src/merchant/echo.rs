//! A merchant that repeats our own credential, as debug pages repeat a request's headers. Apart from
//! `scrub`, because it is about bytes we know: they are hidden before anything reads the answer.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::exchange::{Answer, Exchange};
use crate::domain::secret::SecretString;

/// Shorter credentials stand in innocent text by chance, and could be guessed anyway.
const SHORTEST: usize = 16;

/// The exchange, with asterisks for the credential wherever the answer's body holds it: as it is, or
/// with the slashes escaped that JSON lets writers escape (RFC 8259 §7).
pub fn without_credential(exchange: Exchange, credential: &SecretString) -> Exchange {
    let credential = credential.expose();
    match exchange {
        Exchange::Answered(answer) if credential.len() >= SHORTEST => {
            let mut body = hidden(answer.body, credential.as_bytes());
            if credential.contains('/') {
                body = hidden(body, credential.replace('/', "\\/").as_bytes());
            }
            let Answer { status, media_type, headers, elapsed, .. } = answer;
            Exchange::Answered(Answer::new(status, media_type, headers, body, elapsed))
        }
        other => other,
    }
}

/// The same length, so that JSON stays JSON.
fn hidden(body: Bytes, secret: &[u8]) -> Bytes {
    let found: Vec<usize> = memmem::find_iter(&body, secret).collect();
    if found.is_empty() {
        return body;
    }
    let mut body = BytesMut::from(body);
    for at in found {
        if let Some(found) = body.get_mut(at..at + secret.len()) {
            found.fill(b'*');
        }
    }
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

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
