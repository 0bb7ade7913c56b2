//! Documents for tests: made at random, spelled at random, and changed by little.

use proptest::prelude::*;
use std::collections::BTreeMap;

/// A document by its meaning: equal when no reader could tell the two apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

/// Documents of a few dozen values, with numbers and characters from the corners.
pub(super) fn documents() -> impl Strategy<Value = Document> {
    let leaf = prop_oneof![
        Just(Document::Null),
        any::<bool>().prop_map(Document::Bool),
        numbers().prop_map(Document::Number),
        texts().prop_map(Document::Text),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Document::Array),
            prop::collection::btree_map(names(), inner, 0..8).prop_map(Document::Object),
        ]
    })
}

/// Finite doubles: amounts, prices, whole numbers around 2^53, and any bits at all.
fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-20_000_i32..20_000).prop_map(f64::from),
        (-20_000_i32..20_000).prop_map(|cents| f64::from(cents) / 100.0),
        (1_u64 << 52..1 << 54).prop_map(|whole| whole as f64),
        // Here two shortest decimals are often equally close.
        (1_u64 << 52..1 << 54).prop_map(|eighths| eighths as f64 / 8.0),
        ((0_u64..1000), (-330_i32..310)).prop_map(|(digits, e)| format!("{digits}e{e}").parse().unwrap()),
        any::<u64>().prop_map(f64::from_bits),
    ]
    .prop_filter("finite", |number| number.is_finite())
}

/// The shortest decimal of a finite double as ECMAScript picks it: digits without leading or trailing
/// zeros (for zero, one zero), and the power of ten they are multiplied with.
pub(super) fn shortest(number: f64) -> (String, i32) {
    let printed = serde_json_canonicalizer::to_string(&number.abs()).unwrap();
    let (mantissa, power) = printed.split_once('e').unwrap_or((&printed, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() {
        return ("0".into(), 0);
    }
    let zeros = digits.len() - trimmed.len();
    let power = power.parse::<i32>().unwrap() + zeros as i32 - fraction.len() as i32;
    (trimmed.trim_start_matches('0').into(), power)
}

fn characters() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => proptest::char::range('a', 'e'),
        1 => proptest::sample::select(vec!['"', '\\', '/', '\n', '\u{8}', '\u{1f}', '\u{7f}', 'é', '\u{301}']),
        1 => proptest::char::range('\u{d7f0}', '\u{e010}'),
        1 => proptest::sample::select(vec!['\u{fb33}', '\u{ffff}', '\u{10000}', '😂', '\u{10ffff}']),
        1 => any::<char>(),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(characters(), 0..20).prop_map(String::from_iter)
}

fn names() -> impl Strategy<Value = String> {
    prop::collection::vec(characters().prop_filter("no NUL", |c| *c != '\0'), 0..6)
        .prop_map(String::from_iter)
}

impl Document {
    /// The same document for serde's writers.
    pub(super) fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(truth) => (*truth).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Array(values) => values.iter().map(Self::to_value).collect(),
            Self::Object(members) => members.iter().map(|(n, v)| (n.clone(), v.to_value())).collect(),
        }
    }

    /// A document that differs in one place: the `place`-th value, counted around the document.
    pub(super) fn changed(&self, place: usize, way: bool) -> Self {
        let mut changed = self.clone();
        let mut countdown = place % self.size();
        changed.change(&mut countdown, way);
        changed
    }

    fn size(&self) -> usize {
        1 + match self {
            Self::Array(values) => values.iter().map(Self::size).sum(),
            Self::Object(members) => members.values().map(Self::size).sum(),
            _ => 0,
        }
    }

    fn change(&mut self, countdown: &mut usize, way: bool) -> bool {
        if *countdown > 0 {
            *countdown -= 1;
            return match self {
                Self::Array(values) => values.iter_mut().any(|value| value.change(countdown, way)),
                Self::Object(members) => members.values_mut().any(|value| value.change(countdown, way)),
                _ => false,
            };
        }
        match self {
            Self::Null => *self = Self::Text("null".into()),
            Self::Bool(truth) => *truth = !*truth,
            // The neighbouring double, or the opposite one.
            Self::Number(number) if way || *number == 0.0 => *number = f64::from_bits(number.to_bits() ^ 1),
            Self::Number(number) => *number = -*number,
            Self::Text(text) if way => text.push('\u{301}'),
            Self::Text(text) => *self = Self::Array(vec![Self::Text(std::mem::take(text))]),
            Self::Array(values) if way && values.first() != values.last() => {
                let last = values.len() - 1;
                values.swap(0, last);
            }
            Self::Array(values) => values.push(Self::Null),
            Self::Object(members) if way && !members.is_empty() => {
                let (name, value) = members.pop_first().unwrap();
                members.insert(name + "x", value);
            }
            Self::Object(members) => {
                members.insert("an absent name".into(), Self::Null);
            }
        }
        true
    }
}

/// Writes documents, choosing white space, escapes, order and spelling of numbers by a seed.
pub(super) struct Speller(u64);

impl Speller {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn spell(&mut self, document: &Document) -> String {
        let mut out = String::new();
        self.write(document, &mut out);
        out
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % end
    }

    fn write(&mut self, document: &Document, out: &mut String) {
        self.space(out);
        match document {
            Document::Null => out.push_str("null"),
            Document::Bool(truth) => out.push_str(&truth.to_string()),
            Document::Number(number) => self.number(*number, out),
            Document::Text(text) => self.text(text, out),
            Document::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(value, out);
                }
                self.space(out);
                out.push(']');
            }
            Document::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for index in 1..members.len() {
                    let other = self.below(index + 1);
                    members.swap(index, other);
                }
                out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.space(out);
                    self.text(name, out);
                    self.space(out);
                    out.push(':');
                    self.write(value, out);
                }
                self.space(out);
                out.push('}');
            }
        }
        self.space(out);
    }

    fn space(&mut self, out: &mut String) {
        while self.below(3) == 0 {
            out.push([' ', '\n', '\t', '\r'][self.below(4)]);
        }
    }

    fn text(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            let must = character < ' ' || character == '"' || character == '\\';
            match (character, self.below(3)) {
                ('"' | '\\' | '/', 0) => out.extend(['\\', character]),
                ('\u{8}', 0) => out.push_str("\\b"),
                ('\u{c}', 0) => out.push_str("\\f"),
                ('\n', 0) => out.push_str("\\n"),
                ('\r', 0) => out.push_str("\\r"),
                ('\t', 0) => out.push_str("\\t"),
                (_, 1) => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                    out.push_str(&if self.below(2) == 0 {
                        format!("\\u{unit:04x}")
                    } else {
                        format!("\\u{unit:04X}")
                    });
                }),
                _ if must => out.push_str(&format!("\\u{:04x}", u32::from(character))),
                _ => out.push(character),
            }
        }
        out.push('"');
    }

    /// The shortest digits of the number, padded, with the point and the exponent anywhere.
    fn number(&mut self, number: f64, out: &mut String) {
        let (mut digits, mut exponent) = shortest(number);
        exponent += digits.len() as i32;
        if number < 0.0 || (number == 0.0 && self.below(2) == 0) {
            out.push('-');
        }
        digits.push_str(&"0".repeat(self.below(4)));
        let whole = self.below(digits.len().min(if number == 0.0 { 1 } else { 20 }) + 1);
        exponent -= whole as i32;
        let (whole, fraction) = digits.split_at(whole);
        out.push_str(if whole.is_empty() { "0" } else { whole });
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
        if exponent != 0 || self.below(2) == 0 {
            out.push(if self.below(2) == 0 { 'e' } else { 'E' });
            out.push_str(if exponent < 0 {
                "-"
            } else if self.below(2) == 0 {
                "+"
            } else {
                ""
            });
            out.push_str(&"0".repeat(self.below(3)));
            out.push_str(&exponent.abs().to_string());
        }
    }
}
