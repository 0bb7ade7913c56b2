//! What the reading of a request head accepts and refuses.

use proptest::prelude::*;

use super::*;

fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn a_plain_head_is_read_whole() {
    let headers = head(&[
        ("api-version", "2026-01-30"),
        ("idempotency-key", "k-1"),
        ("request-id", "r-1"),
        ("content-type", "application/json; charset=UTF-8"),
    ]);
    let read = RequestHead::read(&headers).unwrap();
    assert_eq!(read.version, Some(Version::V2026_01_30));
    assert_eq!(read.idempotency_key.unwrap().as_str(), "k-1");
    assert_eq!(read.request_id.unwrap().as_str(), "r-1");
    assert_eq!(read.content_type, ContentType::Json);
}

#[test]
fn headers_that_decide_may_stand_only_once() {
    for name in ["authorization", "api-version", "timestamp", "signature"] {
        let repeated = head(&[(name, "a"), (name, "a")]);
        assert!(matches!(RequestHead::read(&repeated), Err(HeaderError::Repeated(_))), "{name}");
    }
    let keys = head(&[("idempotency-key", "a"), ("idempotency-key", "a")]);
    assert_eq!(RequestHead::read(&keys), Err(HeaderError::InvalidIdempotencyKey));
}

#[test]
fn a_credential_is_bearer_and_visible() {
    let of = |value: &str| {
        credential(&head(&[("authorization", value)])).map(|c| c.map(|c| c.expose().to_owned()))
    };
    assert_eq!(of("Bearer abc.def-_~+/="), Ok(Some("abc.def-_~+/=".into())));
    assert_eq!(of("bearer abc"), Ok(Some("abc".into())));
    for bad in ["Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", ""] {
        assert_eq!(of(bad), Err(HeaderError::MalformedAuthorization), "{bad}");
    }
    assert!(credential(&HeaderMap::new()).unwrap().is_none());
}

#[test]
fn a_key_of_255_characters_passes_and_256_does_not() {
    let of = |key: &str| idempotency_key(&head(&[("idempotency-key", key)]));
    assert!(of(&"k".repeat(255)).unwrap().is_some());
    for bad in [&"k".repeat(256), "", "a b", "a\tb"] {
        assert_eq!(of(bad), Err(HeaderError::InvalidIdempotencyKey), "{bad}");
    }
}

#[test]
fn an_unusable_request_id_is_as_good_as_absent() {
    assert_eq!(request_id(&head(&[("request-id", "a b")])), None);
    assert_eq!(request_id(&head(&[("request-id", &"r".repeat(129))])), None);
    assert_eq!(request_id(&head(&[("request-id", "a"), ("request-id", "b")])), None);
}

#[test]
fn only_plain_utf8_json_is_a_body() {
    let of = |value: &str| content_type(&head(&[("content-type", value)]));
    for good in [
        "application/json",
        "Application/JSON;charset=\"utf-8\"",
        "application/json ; charset=utf-8",
        "application/json; q=1",
        "application/json; profile=\"https://a.example/;charset=latin1\"",
        "application/json; charset=\"UTF\\-8\"; q=1",
        "application/json;",
    ] {
        assert_eq!(of(good), Ok(ContentType::Json), "{good}");
    }
    for bad in [
        "text/json",
        "application/json; charset=latin1",
        "application/json; charset=\"utf-8",
        "application/json; charset=utf-8\"",
        "application/json; charset",
        "application/json; charset=",
        "application/json; q=1; charset=utf-16",
        "application/json; charset=utf-8; charset=latin1",
        "application/json, application/json",
        "application/jsonx",
        "",
    ] {
        assert_eq!(of(bad), Err(HeaderError::UnsupportedMediaType), "{bad}");
    }
    let encoded = head(&[("content-encoding", "identity")]);
    assert_eq!(RequestHead::read(&encoded), Err(HeaderError::UnsupportedEncoding));
}

#[test]
fn accept_language_goes_on_unchanged() {
    let of = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|value| ("accept-language", *value)).collect();
        accept_language(&head(&lines)).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(of(&["de-DE,de;q=0.9"]), Some("de-DE,de;q=0.9".into()));
    assert_eq!(of(&["de", "en"]), Some("de, en".into()));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["x".repeat(600).as_str()]), None);
}

proptest! {
    #[test]
    fn any_head_is_read_or_refused(
        lines in proptest::collection::vec((0usize..8, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)
    ) {
        let names = [AUTHORIZATION, API_VERSION, IDEMPOTENCY_KEY, REQUEST_ID, CONTENT_TYPE, ACCEPT_LANGUAGE, TIMESTAMP, SIGNATURE];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(&names[name], value);
            }
        }
        if let Ok(read) = RequestHead::read(&headers) {
            prop_assert!(read.idempotency_key.is_none_or(|key| key.as_str().len() <= 255));
        }
        let _ = (credential(&headers).is_ok(), accept_language(&headers));
    }
}
