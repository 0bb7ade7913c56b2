//! Which of a stranger's words may be told back: names in a refusal. A client that mixes up names and
//! values must find no card number, security code or credential in an error.

/// Longest name that is told.
const MAX_CHARS: usize = 64;
/// Digits a told name may have: fewer than a security code.
const MAX_DIGITS: usize = 2;

/// The name, if it may be told: letters, `_` and `-`, and not more digits than names have.
pub fn tellable(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    ((1..=MAX_CHARS).contains(&name.len()) && name.bytes().all(plain) && digits <= MAX_DIGITS).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_and_what_may_be_a_secret_is_not() {
        for name in ["cvv", "line_2", "x-request-id", "billingAddress", "max_amount"] {
            assert_eq!(tellable(name), Some(name));
        }
        let long = "x".repeat(65);
        for name in ["", "737", "cvc_737", "4242424242424242", "a b", "a\n", "é", "a.b", &long] {
            assert_eq!(tellable(name), None, "{name}");
        }
    }
}
