//! What holds alone holds together with others, and nothing else does.
//!
//! Above all on what libraries differ on ("Taming the many EdDSAs", Chalkias, Garillot and Nikolaenko,
//! 2020), made here anew.

use curve25519_dalek::constants::EIGHT_TORSION;
use proptest::prelude::*;

use super::super::digest::sha256;
use super::super::sign::{Algorithm, Checked, SigningKey, VerifyingKey};
use super::*;

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// How often each special vector is judged, each way.
const ROUNDS: usize = 1_000;

struct Vector {
    name: String,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    /// Whether it is to verify.
    good: bool,
}

impl Vector {
    fn key(&self) -> VerifyingKey {
        VerifyingKey::from_raw(Algorithm::Ed25519, &self.key).unwrap()
    }

    fn check(&self) -> Checked {
        self.key().check(&self.message, &self.signature)
    }

    fn equation(&self) -> Option<Equation> {
        match self.check() {
            Checked::Decided(verdict) => {
                assert!(!verdict, "{}", self.name);
                None
            }
            Checked::If(equation) => Some(equation),
        }
    }

    /// By an independent implementation of ZIP 215.
    fn zebra_verifies(&self) -> bool {
        let key = ed25519_zebra::VerificationKey::try_from(self.key.as_slice()).unwrap();
        let signature = ed25519_zebra::Signature::from_bytes(self.signature.as_slice().try_into().unwrap());
        key.verify(&signature, &self.message).is_ok()
    }
}

fn scalar(seed: &str) -> Scalar {
    Scalar::from_bytes_mod_order(sha256(&[seed.as_bytes()]))
}

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut digest = Context::new(&SHA512);
    for part in [r.as_slice(), key, message] {
        digest.update(part);
    }
    Scalar::from_bytes_mod_order_wide(digest.finish().as_ref().try_into().unwrap())
}

/// A signature by `secret` over a message, with these bytes as key and as `R`, whose discrete logarithm
/// beside a point of small order is `nonce`.
fn signed(name: String, secret: Scalar, key: [u8; 32], nonce: Scalar, r: [u8; 32], good: bool) -> Vector {
    let message = name.clone().into_bytes();
    let s = nonce + challenge(&r, &key, &message) * secret;
    let signature = [r, s.to_bytes()].concat();
    Vector { name, key: key.to_vec(), message, signature, good }
}

/// Plus so many times the order.
fn unreduced(s: &[u8], times: usize) -> [u8; 32] {
    let mut sum: [u8; 32] = s.try_into().unwrap();
    for _ in 0..times {
        let mut carry = 0;
        for (byte, added) in sum.iter_mut().zip(ORDER) {
            let total = u16::from(*byte) + u16::from(added) + carry;
            *byte = u8::try_from(total & 0xff).unwrap();
            carry = total >> 8;
        }
    }
    sum
}

/// Every encoding of the points of small order: canonical, of `y + p`, and with the sign of a zero.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut all: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    for canonical in all.clone() {
        let mut signed = canonical;
        signed[31] ^= 0x80;
        all.push(signed);
        // 19 more than y, were it below 19, is y + p without its highest bit.
        if canonical[1..31] == [0; 30] && canonical[31] & 0x7f == 0 && canonical[0] < 19 {
            let mut raised = [0xff; 32];
            raised[0] = 0xed + canonical[0];
            for sign in [0x7f, 0xff] {
                raised[31] = sign;
                all.push(raised);
            }
        }
    }
    all.retain(|bytes| CompressedEdwardsY(*bytes).decompress().is_some_and(|point| point.is_small_order()));
    all.sort_unstable();
    all.dedup();
    all
}

/// What libraries differ on, under keys that are not weak: good ones by the equation with the cofactor.
fn special() -> Vec<Vector> {
    let (secret, nonce) = (scalar("secret"), scalar("nonce"));
    let key =
        |torsion: usize| (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[torsion]).compress().to_bytes();
    let r = |torsion: usize| (EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[torsion]).compress().to_bytes();
    let mut all = Vec::new();
    for (a, b) in [(0, 0), (1, 0), (0, 1), (4, 0), (0, 4), (1, 7), (3, 5), (2, 2), (4, 4), (6, 1)] {
        let name = format!("key of torsion {a}, R of torsion {b}");
        all.push(signed(name, secret, key(a), nonce, r(b), true));
    }
    for (number, encoding) in small_order_encodings().into_iter().enumerate() {
        let torsion = number % 8;
        let name = format!("R of small order, encoding {number}, key of torsion {torsion}");
        all.push(signed(name, secret, key(torsion), Scalar::ZERO, encoding, true));
    }
    for times in [1, 2, 7, 14] {
        let mut vector = signed(format!("s and {times} orders"), secret, key(0), nonce, r(0), false);
        let s = unreduced(&vector.signature[32..], times);
        vector.signature[32..].copy_from_slice(&s);
        all.push(vector);
    }
    for (name, s) in [("s of the order", ORDER), ("s of all ones", [0xff; 32]), ("s of zero", [0; 32])] {
        let mut vector = signed(name.into(), secret, key(0), nonce, r(0), false);
        vector.signature[32..].copy_from_slice(&s);
        all.push(vector);
    }
    // Some are no point, the others a point that has nothing to do with the signature.
    for y in 2..12_u8 {
        let mut encoding = [0; 32];
        encoding[0] = y;
        all.push(signed(format!("R of y = {y}"), secret, key(0), nonce, encoding, false));
    }
    for (name, torsion) in [("another nonce", 0), ("another nonce, R of mixed order", 3)] {
        all.push(signed(name.into(), secret, key(0), scalar("other"), r(torsion), false));
    }
    for (name, torsion) in [("another key", 0), ("another key of mixed order", 1)] {
        all.push(signed(name.into(), scalar("other"), key(torsion), nonce, r(0), false));
    }
    // A point whose y is not canonical and whose order is not small: nobody knows its logarithm.
    let mut odd = [0xff; 32];
    odd[31] = 0x7f;
    let odd = (0xf0..=0xff).map(|low| {
        odd[0] = low;
        odd
    });
    let odd = odd.filter(|bytes| point_of(bytes).is_some()).take(2);
    all.extend(odd.map(|encoding| {
        signed(format!("a key encoded as {:x}", encoding[0]), secret, encoding, nonce, r(0), false)
    }));
    let mut vector = signed("another message".into(), secret, key(0), nonce, r(0), false);
    vector.message.push(b'!');
    all.push(vector);
    all
}

fn good_ones() -> Vec<Equation> {
    let one = |number: usize| {
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let message = number.to_be_bytes();
        match key.public().check(&message, &key.sign(&message).unwrap()) {
            Checked::If(equation) => equation,
            Checked::Decided(_) => panic!("not decided by the curve"),
        }
    };
    (0..MOST_TOGETHER).map(one).collect()
}

#[test]
fn every_encoding_of_a_weak_key_is_refused_when_it_is_read() {
    let encodings = small_order_encodings();
    assert!(encodings.len() > EIGHT_TORSION.len(), "non-canonical ones too: {}", encodings.len());
    for encoding in encodings {
        assert!(VerifyingKey::from_raw(Algorithm::Ed25519, &encoding).is_err(), "{encoding:x?}");
    }
}

#[test]
fn special_vectors_are_judged_as_zip215_says_alone() {
    for vector in special() {
        assert_eq!(vector.zebra_verifies(), vector.good, "{}", vector.name);
        let key = vector.key();
        for _ in 0..ROUNDS {
            assert_eq!(key.verifies(&vector.message, &vector.signature), vector.good, "{}", vector.name);
        }
    }
}

#[test]
fn good_special_vectors_hold_together_with_each_other_and_with_good_ones() {
    let (special, good) = (special(), good_ones());
    let accepted: Vec<_> = special.iter().filter(|vector| vector.good).collect();
    assert!(accepted.len() > 20, "{}", accepted.len());
    let equations: Vec<_> = accepted.iter().map(|vector| vector.equation().unwrap()).collect();
    for round in 0..ROUNDS {
        // Each once a round, in groups and at places that differ, beside one good one and more.
        let mut turned = equations.clone();
        turned.rotate_left(round % equations.len());
        for group in turned.chunks(4 + round % (MOST_TOGETHER - 4)) {
            let beside = 1 + round % (MOST_TOGETHER - group.len());
            let place = round % (beside + 1);
            let together = [&good[..place], group, &good[place..beside]].concat();
            assert!(hold_together(&together), "round {round}");
        }
    }
}

#[test]
fn a_bad_special_vector_never_holds_together_with_good_ones_and_is_the_only_one_refused() {
    let (special, good) = (special(), good_ones());
    let mut judged = 0;
    for vector in special.iter().filter(|vector| !vector.good) {
        // Without an equation it is refused before there is company.
        let Some(equation) = vector.equation() else { continue };
        judged += 1;
        for round in 0..ROUNDS {
            let beside = 1 + round % 3;
            let place = round % (beside + 1);
            let mut together = good[..beside].to_vec();
            together.insert(place, equation.clone());
            assert!(!hold_together(&together), "{}", vector.name);
        }
        let mut together = good[1..].to_vec();
        together.insert(5, equation);
        let verdicts: Vec<_> = (0..MOST_TOGETHER).map(|place| place != 5).collect();
        assert_eq!(which_hold(&together), verdicts, "{}", vector.name);
    }
    assert!(judged > 5, "{judged}");
}

#[test]
fn two_bad_ones_that_cancel_out_do_not_hold_together() {
    // Their sum holds where both are multiplied by the same number.
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let mut pair: Vec<_> = [b"one", b"two"]
        .iter()
        .map(|message| match key.public().check(*message, &key.sign(*message).unwrap()) {
            Checked::If(equation) => equation,
            Checked::Decided(_) => panic!("not decided by the curve"),
        })
        .collect();
    pair[0].s += Scalar::ONE;
    pair[1].s -= Scalar::ONE;
    for _ in 0..ROUNDS {
        assert!(!hold_together(&pair));
    }
    assert_eq!(which_hold(&pair), [false, false]);
}

proptest! {
    #[test]
    fn together_each_is_judged_as_alone(bad in proptest::collection::vec(0..4_u8, 0..40), agents in 1..5_usize) {
        let keys: Vec<_> =
            (0..agents).map(|_| SigningKey::generate(Algorithm::Ed25519).unwrap().0).collect();
        let equations: Vec<_> = bad.iter().enumerate().map(|(number, kind)| {
            let key = &keys[number % agents];
            let mut signature = key.sign(&number.to_be_bytes()).unwrap();
            if *kind == 0 {
                signature = key.sign(b"something else").unwrap();
            }
            match key.public().check(&number.to_be_bytes(), &signature) {
                Checked::If(equation) => equation,
                Checked::Decided(_) => panic!("not decided by the curve"),
            }
        }).collect();
        let alone: Vec<_> = equations.iter().map(Equation::holds).collect();
        prop_assert_eq!(&alone, &bad.iter().map(|kind| *kind != 0).collect::<Vec<_>>());
        prop_assert_eq!(which_hold(&equations), alone);
    }
}
