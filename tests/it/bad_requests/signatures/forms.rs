//! How the headers of a signature are written: one form for each, and what is not it is malformed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::bench::{Base, Bench, row};
use super::{changed, other_form, refusal, signature_of, with_stray_bit};
use crate::wire::Raw;

const BASE: Base = Base::Complete;

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_has_one_form() {
    let signature = |name: &'static str, bend: fn(&Raw) -> String, code: &'static str| {
        let spoil = move |raw: Raw, _: &Bench| {
            let bent = bend(&raw);
            raw.set("signature", format!("sig1={bent}"))
        };
        row(name, BASE, spoil, refusal(code))
    };
    let rows = vec![
        signature(
            "S + L",
            |raw| format!(":{}:", STANDARD.encode(other_form(&signature_of(raw)))),
            "signature_invalid",
        ),
        signature(
            "a stray bit",
            |raw| format!(":{}:", with_stray_bit(&STANDARD.encode(signature_of(raw)))),
            "signature_malformed",
        ),
        signature(
            "padding in its middle",
            |raw| {
                let mut text = STANDARD.encode(signature_of(raw));
                text.insert(8, '=');
                format!(":{text}:")
            },
            "signature_malformed",
        ),
        signature(
            "white space within",
            |raw| format!(":{} :", STANDARD.encode(signature_of(raw))),
            "signature_malformed",
        ),
        signature(
            "a byte too many",
            |raw| format!(":{}:", STANDARD.encode([&signature_of(raw)[..], &[0]].concat())),
            "signature_invalid",
        ),
        signature(
            "a byte too few",
            |raw| format!(":{}:", STANDARD.encode(&signature_of(raw)[..63])),
            "signature_invalid",
        ),
        signature("zeros", |_| format!(":{}:", STANDARD.encode([0; 64])), "signature_invalid"),
        signature(
            "the identity and zero",
            |_| {
                let mut weak = [0; 64];
                weak[0] = 1;
                format!(":{}:", STANDARD.encode(weak))
            },
            "signature_invalid",
        ),
        signature("nothing", |_| "::".into(), "signature_invalid"),
        signature("text", |_| "\"x\"".into(), "signature_malformed"),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_do_not_name_each_other_are_malformed() {
    let malformed = "signature_malformed";
    let input = |name: &'static str, value: &'static str, code: &'static str| {
        row(name, BASE, move |raw, _| raw.set("signature-input", value), refusal(code))
    };
    let rows = vec![
        changed(
            "not signed",
            |raw| raw.without("signature").without("signature-input"),
            "signature_required",
        ),
        changed("no signature to the input", |raw| raw.without("signature"), malformed),
        changed(
            "another label",
            |raw| {
                let other = raw.text("signature").replace("sig1", "sig2");
                raw.set("signature", other)
            },
            malformed,
        ),
        changed(
            "a label twice",
            |raw| {
                let twice = format!("{0}, {0}", raw.text("signature"));
                raw.set("signature", twice)
            },
            malformed,
        ),
        changed("an input twice", |raw| raw.twice("signature-input"), malformed),
        changed(
            "a label more",
            |raw| {
                let more = raw.text("signature") + ", sig2=:AA==:";
                raw.set("signature", more)
            },
            malformed,
        ),
        changed("an input that is not ASCII", |raw| raw.set("signature-input", b"sig1=()\xff"), malformed),
        changed(
            "an endless input",
            |raw| raw.set("signature-input", format!("sig1=({})", "\"a\" ".repeat(5000))),
            malformed,
        ),
        changed(
            "too many parts",
            |raw| {
                raw.set(
                    "signature-input",
                    format!("sig1=({})", (0..40).map(|n| format!("\"x-{n}\"")).collect::<Vec<_>>().join(" ")),
                )
            },
            malformed,
        ),
        changed(
            "too many signatures",
            |raw| {
                let all =
                    |value: &str| (0..9).map(|n| format!("s{n}={value}")).collect::<Vec<_>>().join(", ");
                raw.set("signature-input", all("();keyid=\"key-1\"")).set("signature", all(":AA==:"))
            },
            malformed,
        ),
        input("no input", "", malformed),
        input("an input that is none", "sig1", malformed),
        input("an input that is text", "sig1=\"@method\"", malformed),
        input("a part twice", "sig1=(\"@method\" \"@method\");created=1;keyid=\"key-1\"", malformed),
        input("a part in upper case", "sig1=(\"Content-Digest\");created=1;keyid=\"key-1\"", malformed),
        input("a status", "sig1=(\"@status\");created=1;keyid=\"key-1\"", "signature_component_unsupported"),
        input(
            "a parameter of the query",
            "sig1=(\"@query-param\";name=\"a\");created=1;keyid=\"key-1\"",
            "signature_component_unsupported",
        ),
        input(
            "a part of the request",
            "sig1=(\"@method\";req);created=1;keyid=\"key-1\"",
            "signature_component_unsupported",
        ),
        input(
            "a structured part",
            "sig1=(\"content-digest\";sf);created=1;keyid=\"key-1\"",
            "signature_component_unsupported",
        ),
        input(
            "an unknown part",
            "sig1=(\"@everything\");created=1;keyid=\"key-1\"",
            "signature_component_unsupported",
        ),
    ];
    Bench::start("").await.run(rows).await;
}
