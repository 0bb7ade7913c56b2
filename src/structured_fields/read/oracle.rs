//! Dictionaries against an independent reader of RFC 9651. Ours is stricter in two points, both on
//! purpose: a key that stands twice, and stray bits in a byte sequence.

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use sfv::{BareItem, Dictionary, Item as TheirItem, ListEntry, Parser};

use super::*;

/// A dictionary as text, so that two readings can be compared.
type Read = Result<Vec<String>, ()>;

fn bare(bare: &Bare<'_>) -> String {
    match bare {
        Bare::Integer(integer) => format!("integer {integer}"),
        Bare::String(text) => format!("string {text}"),
        Bare::Bytes(bytes) => format!("bytes {bytes:?}"),
        Bare::True => "true".to_owned(),
        Bare::Other => "other".to_owned(),
    }
}

fn their_bare(bare: &BareItem) -> String {
    match bare {
        BareItem::Integer(integer) => format!("integer {integer}"),
        BareItem::String(text) => format!("string {}", text.as_str()),
        BareItem::ByteSequence(bytes) => format!("bytes {bytes:?}"),
        BareItem::Boolean(true) => "true".to_owned(),
        _ => "other".to_owned(),
    }
}

fn ours(text: &str) -> Result<Vec<String>, Error> {
    let parameters = |parameters: &Parameters<'_>| -> String {
        parameters.iter().map(|(key, value)| format!(";{key}={}", bare(value))).collect()
    };
    let item = |item: &Item<'_>| format!("{}{}", bare(&item.bare), parameters(&item.parameters));
    let members = dictionary(text)?;
    let shown = members.iter().map(|member| {
        let value = match &member.value {
            Value::Bare(value) => bare(value),
            Value::InnerList(items) => format!("{:?}", items.iter().map(item).collect::<Vec<_>>()),
        };
        format!("{}={value}{}", member.key, parameters(&member.parameters))
    });
    Ok(shown.collect())
}

fn theirs(text: &str) -> Read {
    let parameters = |parameters: &sfv::Parameters| -> String {
        parameters.iter().map(|(key, value)| format!(";{}={}", key.as_str(), their_bare(value))).collect()
    };
    let item = |item: &TheirItem| format!("{}{}", their_bare(&item.bare_item), parameters(&item.params));
    let members: Dictionary = Parser::new(text).parse().map_err(drop)?;
    let shown = members.iter().map(|(key, entry)| match entry {
        ListEntry::Item(value) => format!("{}={}", key.as_str(), item(value)),
        ListEntry::InnerList(list) => {
            let items: Vec<_> = list.items.iter().map(item).collect();
            format!("{}={items:?}{}", key.as_str(), parameters(&list.params))
        }
    });
    Ok(shown.collect())
}

/// A bare item, mostly right.
fn any_bare() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,16}",
        "-?[0-9]{1,13}\\.[0-9]{0,4}",
        "\"([ -!#-\\[\\]-~]|\\\\\"|\\\\\\\\){0,6}\"",
        "[a-zA-Z*][a-zA-Z0-9!#$&'*+.^_`|~:/-]{0,5}",
        "\\?[012]",
        "@-?[0-9]{1,12}",
        proptest::collection::vec(any::<u8>(), 0..6)
            .prop_map(|bytes| format!(":{}:", STANDARD.encode(bytes))),
        proptest::collection::vec(any::<u8>(), 0..6)
            .prop_map(|bytes| format!(":{}:", STANDARD.encode(bytes).trim_end_matches('='))),
    ]
}

fn any_item() -> impl Strategy<Value = String> {
    (
        any_bare(),
        proptest::collection::vec(("[a-z*][a-z0-9_.*-]{0,3}", proptest::option::of(any_bare())), 0..3),
    )
        .prop_map(|(bare, parameters)| {
            let parameters = parameters.into_iter().map(|(key, value)| match value {
                Some(value) => format!("; {key}={value}"),
                None => format!(";{key}"),
            });
            bare + &parameters.collect::<String>()
        })
}

fn any_dictionary() -> impl Strategy<Value = String> {
    let list =
        proptest::collection::vec(any_item(), 0..4).prop_map(|items| format!("( {})", items.join("  ")));
    let member = ("[a-z*][a-z0-9_.*-]{0,4}", prop_oneof![any_item(), list])
        .prop_map(|(key, value)| format!("{key}={value}"));
    proptest::collection::vec(member, 0..5).prop_map(|members| members.join(" ,\t"))
}

proptest! {
    #[test]
    fn a_dictionary_is_read_as_an_independent_reader_reads_it(text in any_dictionary()) {
        match ours(&text) {
            Err(Error::Repeated) => {}
            read => prop_assert_eq!(read.map_err(drop), theirs(&text), "{}", text),
        }
    }

    #[test]
    fn what_is_nearly_a_dictionary_is_refused_as_by_an_independent_reader(
        text in "[ \t]{0,1}[a-cA*_1-]{0,2}=?[a-c\"\\\\()?;=@0-9. \t,-]{0,12}"
    ) {
        match ours(&text) {
            Err(Error::Repeated) => {}
            read => prop_assert_eq!(read.map_err(drop), theirs(&text), "{}", text),
        }
    }
}
