//! Headers that are missing, repeated, unreadable or not HTTP.

use super::bench::{Base, Bench, refused, row, signed, unreadable};

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_decides_stands_once_and_is_readable() {
    let invalid = || refused(400, "invalid_header");
    let no_key = || refused(400, "idempotency_key_required");
    let media = || refused(415, "unsupported_media_type");
    let version = || refused(400, "unsupported_api_version");
    let nobody = || refused(401, "unauthorized");
    let mut rows = vec![
        row("Authorization twice", Base::Create, |raw, _| raw.twice("authorization"), invalid()),
        row("API-Version twice", Base::Create, |raw, _| raw.twice("api-version"), invalid()),
        row(
            "Timestamp twice",
            Base::Create,
            |raw, _| raw.add("timestamp", "1").add("timestamp", "1"),
            invalid(),
        ),
        row("Signature twice", Base::Create, |raw, _| raw.twice("signature"), invalid()),
        row("Idempotency-Key twice", Base::Create, |raw, _| raw.twice("idempotency-key"), no_key()),
        row(
            "another Idempotency-Key in another case",
            Base::Create,
            |raw, _| raw.add("IDEMPOTENCY-KEY", "k"),
            no_key(),
        ),
        row("Content-Type twice", Base::Create, |raw, _| raw.twice("content-type"), media()),
        row("no Authorization", Base::Create, |raw, _| raw.without("authorization"), nobody()),
        row("another scheme", Base::Create, |raw, _| raw.set("authorization", "Basic YTpi"), nobody()),
        row(
            "a credential of nobody",
            Base::Create,
            |raw, _| raw.set("authorization", "Bearer abc"),
            nobody(),
        ),
        row("an empty credential", Base::Create, |raw, _| raw.set("authorization", "Bearer "), nobody()),
        row(
            "a credential and more",
            Base::Create,
            |raw, _| {
                let more = raw.text("authorization") + " x";
                raw.set("authorization", more)
            },
            nobody(),
        ),
        row(
            "a credential that is not ASCII",
            Base::Create,
            |raw, _| raw.set("authorization", b"Bearer \xff"),
            nobody(),
        ),
        row(
            "two credentials in a line",
            Base::Create,
            |raw, _| {
                let two = format!("{0},{0}", raw.text("authorization"));
                raw.set("authorization", two)
            },
            nobody(),
        ),
        row(
            "no API-Version",
            Base::Create,
            |raw, _| raw.without("api-version"),
            refused(400, "missing_api_version"),
        ),
        row(
            "no API-Version on a read",
            Base::Read,
            |raw, _| raw.without("api-version"),
            refused(400, "missing_api_version"),
        ),
        row(
            "no API-Version on a mint",
            Base::Mint,
            |raw, _| raw.without("api-version"),
            refused(400, "unsupported_api_version"),
        ),
        row("no Idempotency-Key", Base::Create, |raw, _| raw.without("idempotency-key"), no_key()),
        row("no Idempotency-Key on a mint", Base::Mint, |raw, _| raw.without("idempotency-key"), no_key()),
        row("no Content-Type", Base::Create, |raw, _| raw.without("content-type"), media()),
        row(
            "a Content-Encoding on a read",
            Base::Read,
            |raw, _| raw.add("content-encoding", "gzip"),
            media(),
        ),
        signed("a body on a read", Base::Read, "{}", refused(413, "body_too_large")),
    ];
    for value in ["2019-01-01", "", "latest", "2026-04-17, 2025-09-29", "2026-04-17\u{a0}", "2026-4-17"] {
        rows.push(row(
            format!("the version {value:?}"),
            Base::Create,
            move |raw, _| raw.set("api-version", value),
            version(),
        ));
    }
    for value in ["", " ", "a b", "a\tb", "é", &"k".repeat(256)] {
        let value = value.to_owned();
        rows.push(row(
            format!("the key {value:?}"),
            Base::Create,
            move |raw, _| raw.set("idempotency-key", &value),
            no_key(),
        ));
    }
    for value in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "application/json;a=",
        "application/jsonp",
        "\u{fe}",
    ] {
        rows.push(row(
            format!("the media type {value:?}"),
            Base::Create,
            move |raw, _| raw.set("content-type", value),
            media(),
        ));
    }
    for value in ["gzip", "identity", ""] {
        rows.push(row(
            format!("the encoding {value:?}"),
            Base::Create,
            move |raw, _| raw.set("content-encoding", value),
            media(),
        ));
    }
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_not_http_ends_the_connection() {
    let rows = vec![
        row("a NUL in a value", Base::Create, |raw, _| raw.add("x-a", b"a\0b"), unreadable(400)),
        row("a carriage return in a value", Base::Create, |raw, _| raw.add("x-a", b"a\rb"), unreadable(400)),
        row("a folded value", Base::Create, |raw, _| raw.add("x-a", b"a\r\n b"), unreadable(400)),
        row("a line without a colon", Base::Create, |raw, _| raw.add("x-a", b"a\r\nb"), unreadable(400)),
        row("a space before the colon", Base::Create, |raw, _| raw.add("x-a ", "a"), unreadable(400)),
        row("a name with a space", Base::Create, |raw, _| raw.add("x a", "a"), unreadable(400)),
        row("an empty name", Base::Create, |raw, _| raw.add("", "a"), unreadable(400)),
        row("a name that is not ASCII", Base::Create, |raw, _| raw.add("x-é", "a"), unreadable(400)),
        row(
            "a control character in a value",
            Base::Create,
            |raw, _| raw.add("x-a", b"a\x1bb"),
            unreadable(400),
        ),
        row("a head of 40 KiB", Base::Create, |raw, _| raw.add("x-a", "x".repeat(40 << 10)), unreadable(431)),
        row(
            "101 fields",
            Base::Create,
            |raw, _| (0..101).fold(raw, |raw, n| raw.add(&format!("x-{n}"), "1")),
            unreadable(431),
        ),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_header_is_only_another_header() {
    let rows = vec![
        // A line end in a value is the end of the line: what follows counts as what it is.
        row(
            "a key injected into a version",
            Base::Create,
            |raw, _| {
                let v = raw.text("api-version") + "\r\nIdempotency-Key: other";
                raw.set("api-version", v)
            },
            refused(400, "idempotency_key_required"),
        ),
        row(
            "a credential injected into a language",
            Base::Create,
            |raw, _| raw.add("accept-language", "de\r\nAuthorization: Bearer x"),
            refused(400, "invalid_header"),
        ),
    ];
    Bench::start("").await.run(rows).await;
}
