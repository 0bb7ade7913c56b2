//! SHA-2 digests.

use ring::digest::{Context, SHA256, SHA512};

/// A SHA-256 digest.
pub type Sha256 = [u8; 32];

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' - 10 + value });
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0f));
    }
    text
}

/// SHA-256 over the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    // ring's SHA-256 output is always 32 bytes.
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// SHA-512 over the parts, one after the other.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().unwrap_or([0; 64])
}

/// SHA-256 over parts with each part's length before it, so that no two lists of parts collide.
pub fn sha256_framed(parts: &[&[u8]]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}
