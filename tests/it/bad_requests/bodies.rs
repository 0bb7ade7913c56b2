//! JSON that two readers could read differently, and JSON that costs more than it says.

use super::bench::{Base, Bench, Row, refused, refused_at, signed};

fn invalid(name: &str, body: impl Into<bytes::Bytes>) -> Row {
    signed(name, Base::Create, body, refused_at(400, "invalid_json", "$"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_no_double_holds_is_refused_and_never_expanded() {
    let number = |number: &str| invalid(&format!("the number {number}"), format!(r#"{{"a":{number}}}"#));
    let rows = vec![
        number("1e400"),
        number("-1e400"),
        number("1e401"),
        number("1e-401"),
        number("1e999999999"),
        number("1e99999999999999999999"),
        number("9007199254740993"),
        number("0.1000000000000000055"),
        number("1234567890123456789"),
        number(&"1".repeat(33)),
        number(&format!("0.{}1", "0".repeat(40))),
        number("NaN"),
        number("Infinity"),
        number("01"),
        number("+1"),
        number("1."),
        number(".5"),
        number("0x1"),
        number("1e"),
        number("-"),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_with_two_readings_is_refused() {
    let rows = vec![
        invalid("a name twice", r#"{"a":1,"a":1}"#),
        invalid("a name twice, once escaped", r#"{"a":1,"\u0061":2}"#),
        invalid("a name twice, deep inside", r#"{"a":[{"b":{"c":1,"d":2,"c":3}}]}"#),
        invalid("a name twice, with an escaped slash", r#"{"a/b":1,"a\/b":2}"#),
        invalid("a lone high surrogate", r#"{"a":"\ud800"}"#),
        invalid("a lone low surrogate", r#"{"a":"\udc00"}"#),
        invalid("surrogates the wrong way round", r#"{"a":"\udc00\ud800"}"#),
        invalid("a lone surrogate in a name", r#"{"\ud800":1}"#),
        invalid("a byte order mark", "\u{feff}{}"),
        invalid("a NUL in a name", r#"{"a\u0000b":1}"#),
        invalid("a NUL in the text", b"{\"a\":\"\0\"}".to_vec()),
        invalid("a line feed in a string", "{\"a\":\"\n\"}"),
        invalid("an overlong UTF-8 sequence", b"{\"a\":\"\xc0\xaf\"}".to_vec()),
        invalid("a surrogate in UTF-8", b"{\"a\":\"\xed\xa0\x80\"}".to_vec()),
        invalid("a UTF-8 sequence cut off", b"{\"a\":\"\xf0\x9f\"}".to_vec()),
        invalid("a byte that is no UTF-8", b"{\"a\":\"\xff\"}".to_vec()),
        invalid("UTF-16", b"{\x00\"\x00a\x00\"\x00:\x001\x00}\x00".to_vec()),
        invalid("bytes behind", "{} x"),
        invalid("a document behind", "{}{}"),
        invalid("a NUL behind", b"{}\0".to_vec()),
        invalid("a comment", "{/**/}"),
        invalid("a comma behind", r#"{"a":1,}"#),
        invalid("single quotes", "{'a':1}"),
        invalid("an unknown escape", r#"{"a":"\x41"}"#),
        invalid("a literal in another case", r#"{"a":True}"#),
        invalid("an end inside", r#"{"a":"#),
        invalid("a name without quotes", "{a:1}"),
        invalid("no JSON at all", "hello"),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_costs_more_than_it_says_is_refused() {
    let nested = |open: &str, depth: usize, close: &str| {
        format!(r#"{{"a":{}1{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    let values = |count: usize| format!(r#"{{"a":[{}1]}}"#, "1,".repeat(count - 3));
    let rows = vec![
        invalid("33 levels of arrays", nested("[", 32, "]")),
        invalid("33 levels of objects", nested(r#"{"a":"#, 32, "}")),
        invalid("100,000 levels", nested("[", 100_000, "]")),
        invalid("100,000 levels never closed", "[".repeat(100_000)),
        invalid("10,001 values", values(10_001)),
        signed("a mint of 10,001 values", Base::Mint, values(10_001), refused(400, "invalid_card")),
        signed("a mint of 100,000 levels", Base::Mint, "[".repeat(100_000), refused(400, "invalid_card")),
    ];
    let bench = Bench::start("").await;
    bench.run(rows).await;
    for body in [nested("[", 31, "]"), values(10_000)] {
        let call = bench.alpha.post("/m/lamps/checkout_sessions", &serde_json::Value::Null).body(body);
        // The shop does not sell it; the gateway let it pass.
        assert_eq!(call.send().await.unwrap().code().as_deref(), Some("invalid"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_object_is_refused() {
    let mut rows = Vec::new();
    for body in ["[]", "[{}]", "1", "null", "true", r#""{}""#] {
        let object = || refused_at(400, "invalid_body", "$");
        rows.push(signed(format!("a create of {body}"), Base::Create, body, object()));
        rows.push(signed(format!("a complete of {body}"), Base::Complete, body, object()));
        rows.push(signed(
            format!("a mint of {body}"),
            Base::Mint,
            body,
            refused_at(400, "invalid_card", "$"),
        ));
    }
    rows.push(signed("a mint of nothing", Base::Mint, "", refused(400, "invalid_card")));
    rows.push(signed("a complete of nothing", Base::Complete, "", refused(400, "invalid_body")));
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_names_one_token_of_the_gateways() {
    let token = "vt_00000000000000000000000000000000";
    let other = token.replace('0', "1");
    let unknown = || refused(422, "token_unknown");
    let row = |name: &str, body: String, expected| signed(name, Base::Complete, body, expected);
    let rows = vec![
        row("no token", "{}".into(), refused(422, "token_required")),
        row("a null token", r#"{"payment_data":{"token":null}}"#.into(), refused(422, "token_required")),
        row("a token nobody minted", format!(r#"{{"payment_token":"{token}"}}"#), unknown()),
        row("a card number for a token", r#"{"payment_token":"4242424242424242"}"#.into(), unknown()),
        row("a token of a provider", r#"{"payment_token":"spt_123"}"#.into(), unknown()),
        row(
            "an empty token",
            r#"{"payment_token":""}"#.into(),
            refused_at(400, "invalid_body", "$.payment_token"),
        ),
        row(
            "a token that is a number",
            r#"{"payment_token":1}"#.into(),
            refused_at(400, "invalid_body", "$.payment_token"),
        ),
        row(
            "two tokens",
            format!(r#"{{"payment_token":"{token}","payment_data":{{"token":"{other}"}}}}"#),
            refused_at(400, "invalid_body", "$.payment_token"),
        ),
        row(
            "a token twice",
            format!(r#"{{"payment_token":"{token}","payment_token":"{other}"}}"#),
            refused(400, "invalid_body"),
        ),
        row(
            "a token that climbs",
            r#"{"payment_token":"vt_../../../../../../../../../../a"}"#.into(),
            unknown(),
        ),
        row(
            "a purchase order alone",
            r#"{"payment_data":{"purchase_order_number":"1"}}"#.into(),
            refused(403, "purchase_order_not_allowed"),
        ),
    ];
    Bench::start("").await.run(rows).await;
}
