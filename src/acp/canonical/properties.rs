//! Properties of the canonical forms, judged by independent programs.
//!
//! An independent reader and an independent implementation of RFC 8785 are the judges.

use super::samples::{Speller, documents, shortest};
use super::tests::{canonical, exact, form};
use super::*;
use proptest::prelude::*;

/// What must hold for any bytes at all, accepted or refused.
fn judge(input: &[u8]) {
    use JsonError::*;
    let canonical = form(canonicalize, input);
    let exact = form(exact_form, input);
    assert_eq!(canonical.as_ref().err(), exact.as_ref().err());
    assert_eq!(check(input).err(), canonical.as_ref().err().copied());
    let peer = serde_json::from_slice::<serde_json::Value>(input);
    match canonical {
        Ok(canonical) => {
            let exact = exact.unwrap();
            assert_eq!(canonical, serde_json_canonicalizer::to_string(&peer.unwrap()).unwrap());
            assert_eq!(form(canonicalize, canonical.as_bytes()).unwrap(), canonical);
            assert_eq!(form(exact_form, exact.as_bytes()).unwrap(), exact);
            assert_eq!(form(canonicalize, exact.as_bytes()).unwrap(), canonical);
            assert!(canonical.len() < input.len() * 6 && exact.len() <= input.len() * 2);
        }
        Err(error) => {
            assert!(error.offset() <= input.len());
            match error {
                ByteOrderMark(_) | InvalidUtf8(_) | Syntax(_) | UnexpectedEnd(_) | TrailingBytes(_)
                | LoneSurrogate(_) => assert!(peer.is_err(), "{error}"),
                // Ours alone.
                TooDeep(_) | TooManyNodes(_) | NulInName(_) | DuplicateName(_) | TooManyDigits(_)
                | ExponentTooLarge(_) | InexactNumber(_) => {}
            }
        }
    }
}

/// Pieces that make nearly-JSON of every kind.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"a\":",
    "\"b\":",
    "\"\\u0061\":",
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "-",
    "1",
    "12",
    "1e20",
    "1.5",
    ".",
    "e",
    "E+",
    "-0",
    "1e-7",
    "9007199254740993",
    " ",
    "\n",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude02",
    "\\u0000",
    "é",
    "\u{feff}",
    "\t",
    "tru",
    "[[[[",
];

proptest! {
    #[test]
    fn any_spelling_of_a_document_gives_the_bytes_of_the_independent_implementation(
        document in documents(), seed: u64
    ) {
        let spelled = Speller::new(seed).spell(&document);
        let expected = serde_json_canonicalizer::to_string(&document.to_value()).unwrap();
        prop_assert_eq!(canonical(&spelled), Ok(expected), "{}", spelled);
    }

    #[test]
    fn exact_forms_are_equal_exactly_when_the_documents_are(
        document in documents(), first: u64, second: u64, place: usize, way: bool
    ) {
        let spelled = Speller::new(first).spell(&document);
        let again = Speller::new(second).spell(&document);
        prop_assert_eq!(exact(&spelled).unwrap(), exact(&again).unwrap(), "{} {}", spelled, again);
        let other = document.changed(place, way);
        prop_assert_ne!(&other, &document);
        let other = Speller::new(second).spell(&other);
        prop_assert_ne!(exact(&spelled).unwrap(), exact(&other).unwrap(), "{} {}", spelled, other);
        prop_assert_ne!(canonical(&spelled).unwrap(), canonical(&other).unwrap(), "{} {}", spelled, other);
    }

    #[test]
    fn a_decimal_is_accepted_exactly_when_it_is_the_shortest_of_its_double(
        digits: u64, unused_bits in 0..64, exponent in -345_i32..330
    ) {
        let digits: u64 = digits >> unused_bits;
        let text = format!("{digits}e{exponent}");
        let double: f64 = text.parse().unwrap();
        let trimmed = digits.to_string();
        let trimmed = if digits == 0 { "0" } else { trimmed.trim_end_matches('0') };
        let power = if digits == 0 { 0 } else { exponent + (digits.to_string().len() - trimmed.len()) as i32 };
        let is_shortest = double.is_finite() && shortest(double) == (trimmed.to_owned(), power);
        let expected = if is_shortest { Ok(()) } else { Err(JsonError::InexactNumber(0)) };
        prop_assert_eq!(check(text.as_bytes()), expected, "{}", text);
    }

    #[test]
    fn no_bytes_make_it_panic_or_disagree(input in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&input);
    }

    #[test]
    fn nearly_json_is_judged_as_the_independent_reader_judges_it(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12)
    ) {
        judge(pieces.concat().as_bytes());
    }

    #[test]
    fn a_document_with_one_byte_damaged_is_judged_as_the_independent_reader_judges_it(
        document in documents(), seed: u64, at: prop::sample::Index, byte: u8, way in 0..3
    ) {
        let mut input = Speller::new(seed).spell(&document).into_bytes();
        let at = at.index(input.len());
        match way {
            0 => input[at] = byte,
            1 => drop(input.remove(at)),
            _ => input.insert(at, byte),
        }
        judge(&input);
    }
}
