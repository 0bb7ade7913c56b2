//! Signatures that are bent, borrowed, stale or made over too little. A refused one burns nothing:
//! the good request with the same key and token charges afterwards.

mod acp_header;
mod company;
mod culprits;
mod forms;
mod replays;
mod rfc9421;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::crypto::sign::SigningKey;

use super::bench::{Base, Bench, Expected, Row, refused, row};
use crate::wire::Raw;
use crate::world::GATEWAY;

fn refusal(code: &'static str) -> Expected {
    refused(401, code)
}

/// A good complete, changed.
fn changed(name: &'static str, change: fn(Raw) -> Raw, code: &'static str) -> Row {
    row(name, Base::Complete, move |raw, _| change(raw), refusal(code))
}

/// What money routes need.
const COVERED: [&str; 6] =
    ["@method", "@authority", "@path", "content-digest", "content-type", "idempotency-key"];

/// A signature as a test wants it.
struct Forged<'a> {
    label: &'a str,
    covered: &'a [&'a str],
    /// Seconds from now.
    created: Option<i64>,
    expires: Option<i64>,
    /// What stands behind them.
    more: String,
}

impl Forged<'_> {
    /// As an agent signs.
    fn good() -> Self {
        let more = ";keyid=\"key-1\"".to_owned();
        Self { label: "sig1", covered: &COVERED, created: Some(0), expires: Some(300), more }
    }

    /// Signed by RFC 9421 §2.5 as read by this test, not by the code under test: the values of the
    /// two headers.
    fn sign(&self, raw: &Raw, key: &SigningKey, now: i64) -> (String, String) {
        let names: Vec<_> = self.covered.iter().map(|name| format!("\"{name}\"")).collect();
        let mut parameters = format!("({})", names.join(" "));
        for (name, at) in [("created", self.created), ("expires", self.expires)] {
            parameters.extend(at.map(|at| format!(";{name}={}", now + at)));
        }
        parameters.push_str(&self.more);
        let mut base = String::new();
        for name in self.covered {
            let value = match *name {
                "@method" => String::from_utf8(raw.method.clone()).unwrap(),
                "@authority" => GATEWAY.to_owned(),
                "@path" => String::from_utf8(raw.target.clone()).unwrap(),
                "@target-uri" => format!("https://{GATEWAY}{}", String::from_utf8_lossy(&raw.target)),
                field => raw.text(field),
            };
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let signature = STANDARD.encode(key.sign(base.as_bytes()).unwrap());
        (format!("{}={parameters}", self.label), format!("{}=:{signature}:", self.label))
    }

    /// The request with this signature in place of its own.
    fn on(&self, raw: Raw, key: &SigningKey, bench: &Bench) -> Raw {
        let (input, signature) = self.sign(&raw, key, bench.world.clock.now().unix_seconds());
        raw.set("signature-input", input).set("signature", signature)
    }

    /// The same by alpha's own key.
    fn by_alpha(&self, raw: Raw, bench: &Bench) -> Raw {
        self.on(raw, &bench.alpha.settings().key, bench)
    }
}

/// The other form of an Ed25519 signature: `S + L` satisfies the curve's equation as `S` does, and
/// RFC 8032 §5.1.7 refuses it.
fn other_form(signature: &[u8]) -> Vec<u8> {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bent = signature.to_vec();
    let mut carry = 0;
    for (byte, add) in bent[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0, "S + L fits in 32 bytes");
    bent
}

/// The same bytes in base64, with a bit set that belongs to none of them.
fn with_stray_bit(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
    let (digits, padding) = text.split_at(text.trim_end_matches('=').len());
    let (kept, last) = digits.split_at(digits.len() - 1);
    let value = ALPHABET.iter().position(|byte| *byte == last.as_bytes()[0]).unwrap();
    assert_eq!(value % 2, 0, "the last bit is spare");
    format!("{kept}{}{padding}", char::from(ALPHABET[value + 1]))
}

/// The signature of a request in `Signature: sig1=:…:`.
fn signature_of(raw: &Raw) -> Vec<u8> {
    let text = raw.text("signature");
    STANDARD.decode(text.strip_prefix("sig1=:").unwrap().strip_suffix(':').unwrap()).unwrap()
}

/// The signature of a request in ACP's `Signature: …`.
fn acp_signature_of(raw: &Raw) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(raw.text("signature")).unwrap()
}
