//! `Content-Digest` (RFC 9530): what binds a body to a signature over headers.

use http::{HeaderMap, HeaderValue};

use super::CONTENT_DIGEST;
use super::base::field_value;
use crate::crypto::digest::{sha256, sha512};
use crate::structured_fields::{Bare, Value, dictionary, write};

/// A `Content-Digest` that says nothing usable about the body, or something false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentDigestError {
    /// No such header.
    #[error("Content-Digest is missing")]
    Missing,
    /// Not a dictionary of byte sequences.
    #[error("Content-Digest is malformed")]
    Malformed,
    /// Neither `sha-256` nor `sha-512`.
    #[error("Content-Digest has neither sha-256 nor sha-512")]
    Unsupported,
    /// Not the digest of this body.
    #[error("Content-Digest is not that of the body")]
    Mismatch,
}

/// Appends the value of `Content-Digest` for a body: SHA-256 alone.
pub(crate) fn append(body: &[u8], out: &mut String) {
    out.push_str("sha-256=");
    write::bytes(&sha256(&[body]), out);
}

/// The header's value for a body: `sha-256=:…:`.
pub fn make(body: &[u8]) -> HeaderValue {
    let mut value = String::with_capacity(64);
    append(body, &mut value);
    // Base64 between colons is always a header value.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("sha-256=::"))
}

/// Checks a body against the header: at least one of `sha-256` and `sha-512` must stand in it, and
/// each that does must be right. Other algorithms are ignored (RFC 9530 §2).
///
/// # Errors
/// [`ContentDigestError`].
pub fn verify(headers: &HeaderMap, body: &[u8]) -> Result<(), ContentDigestError> {
    if !headers.contains_key(CONTENT_DIGEST) {
        return Err(ContentDigestError::Missing);
    }
    let value = field_value(headers, &CONTENT_DIGEST).map_err(|_| ContentDigestError::Malformed)?;
    let digests = dictionary(&value).map_err(|_| ContentDigestError::Malformed)?;
    let mut checked = false;
    for digest in &digests {
        let Value::Bare(Bare::Bytes(claimed)) = &digest.value else {
            return Err(ContentDigestError::Malformed);
        };
        // Digests of a body the sender knows are no secret: comparing may take any time.
        let matches = match digest.key {
            "sha-256" => claimed == sha256(&[body]).as_slice(),
            "sha-512" => claimed == sha512(&[body]).as_slice(),
            _ => continue,
        };
        if !matches {
            return Err(ContentDigestError::Mismatch);
        }
        checked = true;
    }
    if checked { Ok(()) } else { Err(ContentDigestError::Unsupported) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // RFC 9530 appendix B and RFC 9421 appendix B.2: the digests of `{"hello": "world"}`.
    const BODY: &[u8] = b"{\"hello\": \"world\"}";
    const SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA_512: &str =
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn check(lines: &[&str], body: &[u8]) -> Result<(), ContentDigestError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, HeaderValue::from_str(line).unwrap());
        }
        verify(&headers, body)
    }

    #[test]
    fn the_digests_of_the_rfcs_verify_alone_and_together() {
        for lines in [vec![SHA_256], vec![SHA_512], vec![SHA_512, SHA_256], vec!["md5=:AQI=:", SHA_256]] {
            assert_eq!(check(&lines, BODY), Ok(()), "{lines:?}");
        }
        assert_eq!(make(BODY), SHA_256);
    }

    #[test]
    fn every_digest_must_be_right_and_one_must_be_known() {
        use ContentDigestError::{Malformed, Mismatch, Missing, Unsupported};
        assert_eq!(check(&[SHA_256], b"{}"), Err(Mismatch));
        assert_eq!(check(&[SHA_512, "sha-256=:AQI=:"], BODY), Err(Mismatch));
        assert_eq!(check(&[], BODY), Err(Missing));
        for lines in ["", "md5=:AQI=:"] {
            assert_eq!(check(&[lines], BODY), Err(Unsupported), "{lines}");
        }
        let without_padding = format!("sha-256={}:", SHA_256.replace("sha-256=", "").trim_end_matches("=:"));
        assert_eq!(check(&[&without_padding], BODY), Ok(()));
        let stray_bits = SHA_256.replace("PE=", "PF=");
        for line in ["sha-256=X48E", "sha-256", &stray_bits, &SHA_512.replace('+', "-")] {
            assert_ne!(check(&[line], BODY), Ok(()), "{line}");
        }
        assert_eq!(check(&[SHA_256, SHA_256], BODY), Err(Malformed), "twice is ambiguous");
    }

    proptest! {
        #[test]
        fn what_is_made_verifies_for_that_body_only(body: Vec<u8>, other: Vec<u8>) {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_DIGEST, make(&body));
            prop_assert_eq!(verify(&headers, &body), Ok(()));
            prop_assert_eq!(verify(&headers, &other).is_ok(), body == other);
        }

        #[test]
        fn any_header_is_read_or_refused(value: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.append(CONTENT_DIGEST, value);
                let _ = verify(&headers, b"");
            }
        }
    }
}
