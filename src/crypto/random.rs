//! Randomness from the operating system.

use ring::rand::{SecureRandom, SystemRandom};

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomUnavailable;

/// `N` random bytes.
///
/// # Errors
/// When the operating system has none to give.
pub fn bytes<const N: usize>() -> Result<[u8; N], RandomUnavailable> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// Random bytes in place of these.
///
/// # Errors
/// When the operating system has none to give.
pub fn fill(out: &mut [u8]) -> Result<(), RandomUnavailable> {
    SystemRandom::new().fill(out).map_err(|_| RandomUnavailable)
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `count` uniformly random characters of `[0-9A-Za-z]`.
///
/// # Errors
/// When the operating system has no random bytes to give.
pub fn base62(count: usize) -> Result<String, RandomUnavailable> {
    let mut out = String::with_capacity(count);
    while out.len() < count {
        for byte in bytes::<32>()? {
            // 248 is the largest multiple of 62 in a byte: rejecting the rest keeps it uniform.
            if byte < 248 && out.len() < count {
                out.push(char::from(base62_digit(byte % 62)));
            }
        }
    }
    Ok(out)
}

/// As many base62 characters that stand for `bytes`, deterministically; used for tags, where a bias of
/// 2^-2 per character does no harm but a length mismatch would.
pub fn base62_of<const COUNT: usize>(bytes: &[u8]) -> [u8; COUNT] {
    let mut digits = bytes.iter().map(|byte| base62_digit(byte % 62));
    std::array::from_fn(|_| digits.next().unwrap_or(b'0'))
}

fn base62_digit(value: u8) -> u8 {
    BASE62.get(usize::from(value)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_has_the_length_asked_for_and_never_repeats() {
        let first = base62(22).unwrap();
        assert_eq!(first.len(), 22);
        assert!(first.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(first, base62(22).unwrap());
    }
}
