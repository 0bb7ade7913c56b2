//! What an attacker may change about a signed request: nothing that counts.

use super::*;

/// The order of the Ed25519 group, little-endian (RFC 8032 §5.1).
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// The order of P-256, big-endian (SEC 2 §2.4.2).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn an_ed25519_scalar_beyond_the_group_order_is_refused() {
    let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    sender.agent.keys[1].material = KeyMaterial::Public(key.public().clone());
    let mut signature =
        sender.sign_acp(Profile::AcpBound, &NOW.to_rfc3339(), |bytes| key.sign(bytes).unwrap());
    assert!(sender.verify().is_ok());
    let mut carry = 0u16;
    for (byte, order) in signature[32..].iter_mut().zip(ED25519_ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        [*byte, _] = carry.to_le_bytes();
        carry >>= 8;
    }
    sender.set("signature", &URL_SAFE_NO_PAD.encode(&signature));
    assert_eq!(sender.verify(), Err(SignatureError::Invalid));
}

/// ECDSA has two signatures for each one, and both verify. It gains nobody a second use: the record
/// is named by what was signed.
#[test]
fn the_second_form_of_an_ecdsa_signature_has_the_same_replay_record() {
    let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
    let (key, _) = SigningKey::generate(Algorithm::EcdsaP256Sha256).unwrap();
    sender.agent.keys[2].material = KeyMaterial::Public(key.public().clone());
    let mut signature =
        sender.sign_acp(Profile::AcpBound, &NOW.to_rfc3339(), |bytes| key.sign(bytes).unwrap());
    let first = sender.verify().unwrap();
    let mut borrow = 0i16;
    for (byte, order) in signature[32..].iter_mut().zip(P256_ORDER).rev() {
        let difference = i16::from(order) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    sender.set("signature", &URL_SAFE_NO_PAD.encode(&signature));
    assert_eq!(sender.verify().unwrap(), first);
}

#[test]
fn encodings_that_could_be_changed_freely_are_refused() {
    let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
    let signature = sender
        .sign_acp(Profile::AcpBound, &NOW.to_rfc3339(), |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
    let good = URL_SAFE_NO_PAD.encode(signature);
    // 32 bytes end in a character of which two bits are unused.
    let last = good.chars().last().unwrap();
    let stray = char::from(u8::try_from(last).unwrap() + 1);
    let stray = format!("{}{stray}", good.strip_suffix(last).unwrap());
    for bad in [stray, format!("{good}=="), format!("{good} "), format!(" {good}"), format!("{good}.")] {
        sender.set("signature", &bad);
        assert!(sender.verify().is_err(), "{bad}");
    }
    sender.set("signature", &format!("{good}="));
    assert!(sender.verify().is_ok(), "padding is read, and not part of the replay record");
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Authority,
    Path,
    Body,
    Key,
    Header(&'static str),
}

fn change(sender: &mut Sender, part: Part, flip: usize) {
    let flipped = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        let at = flip % bytes.len();
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        String::from_utf8(bytes).unwrap()
    };
    match part {
        Part::Method => sender.method = flipped(&sender.method),
        Part::Authority => sender.authority = flipped(&sender.authority),
        Part::Path => sender.path = flipped(&sender.path),
        Part::Body => {
            // Another value, not another spelling: canonical JSON forgives the latter.
            sender.body = format!("{{\"a\":\"x\",\"b\":{}}}", flip + 2).into();
        }
        Part::Key => {
            let key = flipped(sender.key.as_deref().unwrap());
            sender.set("idempotency-key", &key);
            sender.key = Some(key);
        }
        Part::Header(name) => {
            let value = flipped(sender.headers[name].to_str().unwrap());
            sender.set(name, &value);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_signed_request_of_which_any_covered_part_changed_is_refused(
        flip in 0usize..400,
        profile in 0usize..3,
        part in 0usize..8,
    ) {
        let (profile, parts): (Profile, &[Part]) = match profile {
            0 => (Profile::Rfc9421, &[
                Part::Method, Part::Authority, Part::Path, Part::Body, Part::Key,
                Part::Header("content-digest"), Part::Header("signature-input"), Part::Header("signature"),
            ]),
            1 => (Profile::AcpBound, &[
                Part::Method, Part::Path, Part::Body, Part::Key, Part::Header("timestamp"), Part::Header("signature"),
            ]),
            _ => (Profile::Acp, &[Part::Body, Part::Header("timestamp"), Part::Header("signature")]),
        };
        let mut sender = sender(&[profile], SignatureRequired::Never);
        if profile == Profile::Rfc9421 {
            sender.sign_as("sig1", &MADE);
        } else {
            sender.sign_acp(profile, &NOW.to_rfc3339(), |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
        }
        prop_assert!(sender.verify().is_ok());
        let part = parts[part % parts.len()];
        change(&mut sender, part, flip);
        prop_assert!(sender.verify().is_err(), "{:?} {:?}", profile, part);
    }

    #[test]
    fn no_headers_make_it_panic(
        input in proptest::option::of("[ -~]{0,60}"),
        signature in "[ -~]{0,80}",
        timestamp in proptest::option::of("[0-9TZ:.+-]{0,30}"),
        body in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut sender = sender(&ALL, SignatureRequired::Never);
        sender.body = body.into();
        if let Some(input) = &input {
            sender.set("signature-input", input);
        }
        if let Some(timestamp) = &timestamp {
            sender.set("timestamp", timestamp);
        }
        sender.set("signature", &signature);
        let proof = sender.verify().map(|verified| verified.proof().clone());
        let is_none = matches!(proof, Ok(Proof::BearerOnly { .. }));
        prop_assert!(proof.is_err() || is_none);
    }
}
