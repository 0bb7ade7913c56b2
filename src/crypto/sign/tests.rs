//! What is signed, what verifies, and what is refused.

use super::*;

#[test]
fn each_algorithm_signs_what_it_verifies_and_nothing_else() {
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
        let (key, pem) = SigningKey::generate(algorithm).unwrap();
        let signature = SigningKey::from_pkcs8_pem(&pem).unwrap().sign(b"message").unwrap();
        assert_eq!(signature.len(), 64);
        assert!(key.public().verifies(b"message", &signature));
        assert!(!key.public().verifies(b"massage", &signature));
        let read_back = VerifyingKey::from_jwk(&key.public().to_jwk().to_string()).unwrap();
        assert!(read_back == *key.public());
        let read_back = VerifyingKey::from_spki_pem(&key.public().to_spki_pem()).unwrap();
        assert!(read_back == *key.public());
    }
}

/// ring as the judge of what dalek and AWS-LC do.
fn ring_verifies(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ring::signature::ED25519, key).verify(message, signature).is_ok()
}

#[test]
fn ed25519_signatures_are_those_of_rfc8032_whoever_makes_them() {
    // RFC 8032 section 7.1, test 2.
    let seed: Vec<u8> = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let der = [ED25519_PKCS8.as_slice(), &seed].concat();
    let key = SigningKey::from_pkcs8_der(&der).unwrap();
    let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    assert_eq!(key.public().as_bytes(), public);
    let expected = hex(concat!(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    ));
    assert_eq!(key.sign(&[0x72]).unwrap(), expected);
    assert!(key.public().verifies(&[0x72], &expected));
}

#[test]
fn verification_agrees_with_ring_on_every_changed_bit() {
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let signature = key.sign(b"message").unwrap();
    assert!(ring_verifies(key.public().as_bytes(), b"message", &signature));
    for bit in 0..512 {
        let mut changed = signature.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verifies(b"message", &changed), "bit {bit}");
        assert!(!ring_verifies(key.public().as_bytes(), b"message", &changed), "bit {bit}");
    }
    for length in [0, 63, 65] {
        assert!(!key.public().verifies(b"message", &vec![1; length]));
    }
}

#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    // s + L: the same signature to who does not look (RFC 8032 section 5.1.7).
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let mut signature = key.sign(b"message").unwrap();
    let mut carry = 0;
    for (byte, added) in signature[32..].iter_mut().zip(hex(ORDER)) {
        let sum = u16::from(*byte) + u16::from(added) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert!(!key.public().verifies(b"message", &signature));
    assert!(!ring_verifies(key.public().as_bytes(), b"message", &signature));
}

#[test]
fn keys_under_which_anybody_can_sign_are_refused() {
    // The identity, and a point of order 8.
    let order_8 = hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let mut identity = vec![0; 32];
    identity[0] = 1;
    for weak in [identity, order_8] {
        assert!(VerifyingKey::from_raw(Algorithm::Ed25519, &weak).is_err());
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn an_ed25519_key_is_written_as_rfc8410_section_10_3_writes_its_first() {
    let (_, pem) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let example = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
    let written = pem.lines().nth(1).unwrap();
    assert_eq!(written.len(), example.len());
    assert_eq!(written.get(..21), example.get(..21));
}

#[test]
fn the_thumbprint_is_that_of_rfc8037_appendix_a3() {
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(
        VerifyingKey::from_jwk(jwk).unwrap().thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}
