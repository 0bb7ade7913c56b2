//! Ed25519 verification (RFC 8032, section 5.1.7): one equation, for one signature and for several at once.
//!
//! It is the equation with the cofactor, `[8][s]B = [8]R + [8][k]A`, over encodings as ZIP 215 reads
//! them: `s` below the group's order, `R` and `A` any point, canonically encoded or not. Without the
//! cofactor whether a batch holds would depend on chance for signatures made with points of small
//! order, and on who else is in it; with it a batch of good ones always holds, and one with a bad one
//! never does, but for one chance in 2^128 that nobody can steer.
//!
//! Written on the curve, not taken from a library of signatures: keys are decompressed once, when they
//! are read, which is what makes a batch of two worth its while.

use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint, VartimeEdwardsPrecomputation};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimePrecomputedMultiscalarMul as _};
use ring::digest::{Context, SHA512};

use super::random;

/// Signatures that one multiplication takes: from here on more of them save little, and whoever
/// computes it is busy for long (at 16 some 230 µs).
pub const MOST_TOGETHER: usize = 16;

/// Bytes of a coefficient: 128 bits.
const COEFFICIENT_BYTES: usize = 16;

/// The multiples of the base point that every batch needs.
static BASE: LazyLock<VartimeEdwardsPrecomputation> =
    LazyLock::new(|| VartimeEdwardsPrecomputation::new([ED25519_BASEPOINT_POINT]));

/// The point of a key: of no small order, under which anybody could sign.
pub(super) fn point_of(encoding: &[u8]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(encoding.try_into().ok()?).decompress()?;
    (!point.is_small_order()).then_some(point)
}

/// What is left to do of a verification when all is done that one signature costs by itself: it is the
/// key's over its message where this holds.
#[derive(Clone)]
pub struct Equation {
    /// As in the signature.
    s: Scalar,
    /// The digest of `R`, key and message.
    k: Scalar,
    r: EdwardsPoint,
    key: EdwardsPoint,
    /// Tells keys apart.
    encoding: [u8; 32],
}

impl Equation {
    /// The equation of a signature; `None` where these bytes are none, or its scalar is not reduced.
    pub(super) fn of(
        key: &EdwardsPoint,
        encoding: [u8; 32],
        message: &[u8],
        signature: &[u8],
    ) -> Option<Self> {
        let signature: &[u8; 64] = signature.try_into().ok()?;
        let (r_bytes, s_bytes) = signature.split_first_chunk::<32>()?;
        let s = Option::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
        let r = CompressedEdwardsY(*r_bytes).decompress()?;
        let mut digest = Context::new(&SHA512);
        digest.update(r_bytes);
        digest.update(&encoding);
        digest.update(message);
        let k = Scalar::from_bytes_mod_order_wide(digest.finish().as_ref().try_into().ok()?);
        Some(Self { s, k, r, key: *key, encoding })
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        let computed = EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &-self.key, &self.s);
        (computed - self.r).mul_by_cofactor().is_identity()
    }
}

/// Which of these hold. Those that stand together are computed together, at most [`MOST_TOGETHER`] at
/// once; where they do not hold together each is computed again, alone. Halving instead would cost the
/// same for one bad one among sixteen, and more for two.
pub fn which_hold(equations: &[Equation]) -> Vec<bool> {
    let judged = equations.chunks(MOST_TOGETHER).flat_map(|together| {
        let held = hold_together(together);
        together.iter().map(move |equation| held || equation.holds())
    });
    judged.collect()
}

/// Whether all of them hold: a sum of them does, each multiplied by a number that who made the
/// signatures cannot know. `false` proves nothing where one is alone or there is no randomness.
fn hold_together(equations: &[Equation]) -> bool {
    let mut random = [0; MOST_TOGETHER * COEFFICIENT_BYTES];
    if equations.len() < 2 || random::fill(&mut random).is_err() {
        return false;
    }
    let mut base = Scalar::ZERO;
    let (mut scalars, mut points) = (Vec::with_capacity(32), Vec::with_capacity(32));
    // One agent's signatures share its point: a sum of scalars in place of a multiplication each.
    let mut keys: Vec<(&[u8; 32], Scalar, &EdwardsPoint)> = Vec::with_capacity(equations.len());
    let (coefficients, _) = random.as_chunks::<COEFFICIENT_BYTES>();
    for (position, (equation, coefficient)) in equations.iter().zip(coefficients).enumerate() {
        // The first may stand as it is: only the others' shares must not be foreseen.
        let z = if position == 0 { Scalar::ONE } else { Scalar::from(u128::from_le_bytes(*coefficient)) };
        base -= z * equation.s;
        scalars.push(z);
        points.push(equation.r);
        let share = z * equation.k;
        match keys.iter_mut().find(|(encoding, _, _)| **encoding == equation.encoding) {
            Some((_, sum, _)) => *sum += share,
            None => keys.push((&equation.encoding, share, &equation.key)),
        }
    }
    for (_, scalar, point) in keys {
        scalars.push(scalar);
        points.push(*point);
    }
    BASE.vartime_mixed_multiscalar_mul([base], scalars, points).mul_by_cofactor().is_identity()
}

#[cfg(test)]
mod tests;
