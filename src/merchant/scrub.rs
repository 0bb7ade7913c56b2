//! Making a merchant's text fit to be seen: no control characters, no card numbers, not too long.
//! Debug pages and validators echo what was sent to them, and what was sent may have been a card.

/// Longest text that is kept, in characters.
const MAX_CHARS: usize = 512;
/// Digits of a card number (ISO/IEC 7812-1).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 12..=19;
/// Most characters between two digits of one card number: `4242 - 4242`.
const MAX_SEPARATORS: usize = 3;
/// Looked at beyond the cut, so that a card number across it is seen whole.
const LOOK_AHEAD: usize = 19 * (1 + MAX_SEPARATORS);
/// Words beside which three or four digits are a security code.
const CODE_WORDS: [&str; 7] = ["cvc", "cvv", "cvn", "csc", "cid", "security code", "verification"];

const MASK: char = '*';

/// The text without control and invisible characters, cut at 512 characters, with every digit of a
/// card number masked: each group of 12 to 19 digits that satisfies Luhn, alone or among other
/// digits, with up to three other signs between two digits. Beside the name of a security code,
/// three or four digits are masked too.
pub(super) fn scrub(text: &str) -> String {
    let mut chars: Vec<char> = text
        .chars()
        .filter(|c| !is_invisible(*c))
        // Digits of other scripts spell card numbers as well, and nothing here needs them.
        .map(|c| if c.is_numeric() && !c.is_ascii() { MASK } else { c })
        .take(MAX_CHARS + LOOK_AHEAD)
        .collect();
    let mut hidden = vec![];
    for run in digit_runs(&chars) {
        mark_cards(&run, &mut hidden);
    }
    if names_a_code(&chars) {
        mark_codes(&chars, &mut hidden);
    }
    for position in hidden {
        if let Some(c) = chars.get_mut(position) {
            *c = MASK;
        }
    }
    chars.into_iter().take(MAX_CHARS).collect()
}

/// Control characters, line separators, and what is drawn as nothing or turns text around.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

/// A digit and where it stands.
type Digit = (usize, u8);

/// The digits of the text in runs that could be read as one number.
fn digit_runs(chars: &[char]) -> Vec<Vec<Digit>> {
    let mut runs: Vec<Vec<Digit>> = vec![];
    let mut run: Vec<Digit> = vec![];
    let mut separators = 0;
    for (position, c) in chars.iter().enumerate() {
        match u8::try_from(*c) {
            Ok(byte) if byte.is_ascii_digit() => {
                run.push((position, byte));
                separators = 0;
                continue;
            }
            _ if c.is_alphabetic() => separators = MAX_SEPARATORS + 1,
            _ => separators += 1,
        }
        if separators > MAX_SEPARATORS {
            runs.push(std::mem::take(&mut run));
        }
    }
    runs.push(run);
    runs
}

fn mark_cards(run: &[Digit], hidden: &mut Vec<usize>) {
    for length in CARD_DIGITS {
        for window in run.windows(length) {
            if crate::domain::card::luhn(window.iter().map(|(_, digit)| *digit)) {
                hidden.extend(window.iter().map(|(position, _)| *position));
            }
        }
    }
}

fn names_a_code(chars: &[char]) -> bool {
    let text: String = chars.iter().map(char::to_ascii_lowercase).collect();
    CODE_WORDS.iter().any(|word| text.contains(word))
}

fn mark_codes(chars: &[char], hidden: &mut Vec<usize>) {
    let mut digits = vec![];
    // The last sign ends a run that reaches the end of the text.
    for (position, c) in chars.iter().chain(std::iter::once(&' ')).enumerate() {
        if c.is_ascii_digit() {
            digits.push(position);
        } else {
            if (3..=4).contains(&digits.len()) {
                hidden.extend(&digits);
            }
            digits.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn card_numbers_are_masked_however_they_are_grouped() {
        for text in [
            "4242424242424242",
            "4242 4242 4242 4242",
            "4242-4242-4242-4242",
            "4242 - 4242 - 4242 - 4242",
            "4242.4242/4242_4242",
            "4242\u{200b}4242\u{a0}4242\u{2011}4242",
            "4242\n4242\t4242\r\n4242",
            "424242424242",
            "6304000000000000000",
        ] {
            let clean = scrub(text);
            assert!(!clean.contains(|c: char| c.is_ascii_digit()), "{text} became {clean}");
        }
        assert_eq!(scrub("card 4242424242424242 declined"), "card **************** declined");
    }

    #[test]
    fn other_numbers_stay() {
        for text in ["item_42 costs 1999 on 2026-01-30", "ask +1 555 0100", "order 424242424241"] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn a_security_code_is_masked_beside_its_name() {
        assert_eq!(scrub("Invalid CVC: 123"), "Invalid CVC: ***");
        assert_eq!(scrub("security code 1234 for order 12345"), "security code **** for order 12345");
        assert_eq!(scrub("needs 123 items"), "needs 123 items");
    }

    #[test]
    fn text_is_cut_at_512_characters_and_control_characters_go() {
        assert_eq!(scrub(&"é".repeat(600)), "é".repeat(512));
        assert_eq!(scrub("a\u{0}b\r\nc\u{1b}[31md\u{202e}e\u{2028}f"), "abc[31mdef");
        let across = format!("{}4242424242424242", "x".repeat(505));
        assert_eq!(scrub(&across), format!("{}*******", "x".repeat(505)));
    }

    #[test]
    fn digits_of_other_scripts_are_masked() {
        assert_eq!(scrub("４２ ٤ ½"), "** * *");
    }

    /// A number of `length` digits whose last satisfies Luhn.
    fn card_number(length: usize, seed: &[u8]) -> String {
        let body: String = seed.iter().cycle().take(length - 1).map(|b| char::from(b'0' + b % 10)).collect();
        (0..10)
            .map(|check| format!("{body}{check}"))
            .find(|number| crate::domain::card::luhn(number.bytes()))
            .unwrap()
    }

    proptest! {
        #[test]
        fn no_card_number_passes_whatever_stands_around_and_within_it(
            before in ".{0,40}",
            after in ".{0,40}",
            length in 12usize..=19,
            seed in prop::collection::vec(any::<u8>(), 19),
            separators in prop::collection::vec("[ .,:;/_\u{a0}-]{0,3}", 19),
        ) {
            let number = card_number(length, &seed);
            let spelt: String =
                number.chars().zip(&separators).map(|(digit, separator)| format!("{digit}{separator}")).collect();
            let clean = scrub(&format!("{before}{spelt}{after}"));
            let digits: String = clean.chars().filter(char::is_ascii_digit).collect();
            prop_assert!(!digits.contains(&number), "{clean}");
        }

        #[test]
        fn any_text_becomes_short_and_visible(text in any::<String>()) {
            let clean = scrub(&text);
            prop_assert!(clean.chars().count() <= MAX_CHARS);
            prop_assert!(!clean.chars().any(char::is_control));
        }
    }
}
