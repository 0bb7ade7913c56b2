//! ACP's own `Signature` header: the profiles `acp-bound` and `acp`.
//!
//! ACP names neither the signed bytes nor the algorithm nor the encoding, and its header names no key
//! (`src/acp/README.md`, "Signature"). So the profiles an agent may use say what is signed, and its
//! few keys are tried in order.
//!
//! Where a variant does not cover the timestamp ([`SignedParts::Body`]), whoever holds a copy of a
//! request can give it a fresh one: only the replay record stands against that, while it lives.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::rfc9421::not_verified;
use super::{Conditional, Proof, SignatureError, SignatureRefusal, SignedRequest, WINDOW};
use crate::acp::canonical::canonicalize;
use crate::acp::header::{SIGNATURE, TIMESTAMP};
use crate::auth::replay::ReplayCheck;
use crate::crypto::digest::hexadecimal;
use crate::crypto::sign::Checked;
use crate::domain::clock::Timestamp;
use crate::registry::{
    AcpVariant, Agent, AgentKey, BodyForm, Encoding, KeyMaterial, Profile, SignedParts, TimestampForm,
};

/// Keys tried on one signature: enough for a rotation of each algorithm.
const MAX_KEYS_TRIED: usize = 8;
/// Longest `Signature` or `Timestamp` read, in bytes.
const MAX_HEADER_BYTES: usize = 256;

/// base64url with or without padding, and without stray bits.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Verifies ACP's header. `None` for an `acp` signature over an empty body: it must verify as any
/// other, but binds next to nothing, so it counts as none.
pub(super) fn examine_allowed(
    agent: &Agent,
    request: &SignedRequest<'_>,
    now: Timestamp,
) -> Result<Conditional<Option<Proof>>, SignatureRefusal> {
    let allowed = |profile| agent.signature.profiles.contains(&profile);
    let examine = |scheme| examine(scheme, agent.id.as_str(), &agent.keys, request, now);
    let mut refusal = not_allowed(agent);
    if allowed(Profile::AcpBound) {
        let bound = examine(Scheme::Bound);
        if !allowed(Profile::Acp) {
            return Ok(bound?.map(Some));
        }
        // It may be meant as the other, so a bad one is no surprise, and no company.
        match bound.and_then(Conditional::alone) {
            Ok(proof) => return Ok(Conditional::on(None, Some(proof))),
            Err(error) => refusal = error,
        }
    }
    if !allowed(Profile::Acp) {
        return Err(refusal);
    }
    let proof = examine(Scheme::Acp(agent.signature.acp))?;
    Ok(proof.map(|proof| Some(proof).filter(|_| !request.body.is_empty())))
}

/// The signature is of another profile than the agent's.
pub(super) fn not_allowed(agent: &Agent) -> SignatureRefusal {
    let names: Vec<_> = agent.signature.profiles.iter().map(|profile| profile.as_str()).collect();
    SignatureRefusal::by(SignatureError::ProfileNotAllowed, format!("accepted are {}", names.join(", ")))
}

/// Verifies the request's signature by one of `owner`'s keys.
pub(crate) fn examine(
    scheme: Scheme,
    owner: &str,
    keys: &[AgentKey],
    request: &SignedRequest<'_>,
    now: Timestamp,
) -> Result<Conditional<Proof>, SignatureRefusal> {
    let variant = scheme.variant();
    let signature = header(request, &SIGNATURE)?.ok_or(SignatureError::Required)?;
    let timestamp = header(request, &TIMESTAMP)?
        .ok_or_else(|| SignatureRefusal::by(SignatureError::ParameterMissing, "the Timestamp header"))?;
    let signature =
        decode(variant.encoding, signature).ok_or_else(|| malformed(not_encoded(variant.encoding)))?;
    let made =
        instant(variant.timestamp, timestamp).ok_or_else(|| malformed(not_an_instant(variant.timestamp)))?;
    if now.distance(made) > WINDOW {
        return Err(SignatureRefusal::outside_window(made, now, WINDOW));
    }
    let bytes = scheme.signed_bytes(request, timestamp)?;
    let (key, equation) = match keys {
        [only] => match check(only, &bytes, &signature) {
            Checked::Decided(verifies) => (verifies.then_some(only), None),
            Checked::If(equation) => (Some(only), Some(equation)),
        },
        // Of several one is enough, and the others are expected not to verify: no company.
        several => {
            let verifies = |key: &&AgentKey| check(key, &bytes, &signature).verifies_alone();
            (several.iter().take(MAX_KEYS_TRIED).find(verifies), None)
        }
    };
    let public = keys.iter().filter_map(|key| match &key.material {
        KeyMaterial::Public(public) => Some(public),
        KeyMaterial::Shared(_) => None,
    });
    let key =
        key.ok_or_else(|| match keys.iter().any(|key| matches!(key.material, KeyMaterial::Shared(_))) {
            // The length tells nothing where a shared secret might have made it.
            true => SignatureError::Invalid.into(),
            false => not_verified(public, &signature),
        })?;
    // Neither scheme covers the authority, and `acp` not even the path.
    let replay = request.money_route.then(|| ReplayCheck::new(owner, &key.id, &bytes, made, WINDOW));
    let proof = Proof::Signed { key: key.id.clone(), profile: scheme.profile(), replay };
    Ok(Conditional::on(equation, proof))
}

fn check(key: &AgentKey, bytes: &[u8], signature: &[u8]) -> Checked {
    match &key.material {
        KeyMaterial::Public(public) => public.check(bytes, signature),
        KeyMaterial::Shared(shared) => Checked::Decided(shared.verifies(bytes, signature)),
    }
}

/// What ACP's header is a signature over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `acp-bound`.
    Bound,
    /// `acp`, in one of the variants met in the field.
    Acp(AcpVariant),
}

impl Scheme {
    /// The profile's name.
    pub const fn profile(self) -> Profile {
        match self {
            Self::Bound => Profile::AcpBound,
            Self::Acp(_) => Profile::Acp,
        }
    }

    /// How signature and timestamp are written. `acp-bound` is ours to define: the defaults.
    pub fn variant(self) -> AcpVariant {
        match self {
            Self::Bound => AcpVariant::default(),
            Self::Acp(variant) => variant,
        }
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`SignatureError::BodyNotCanonical`]; [`SignatureError::Ambiguous`] for `acp-bound` and a key
    /// with a full stop, with which the same bytes could mean another path and key.
    pub fn signed_bytes(
        self,
        request: &SignedRequest<'_>,
        timestamp: &str,
    ) -> Result<Vec<u8>, SignatureRefusal> {
        let timestamp = timestamp.as_bytes();
        let (method, path) = (request.message.method.as_bytes(), request.message.path.as_bytes());
        let Self::Acp(variant) = self else {
            let key = request.idempotency_key.unwrap_or("");
            if key.contains('.') {
                let culprit = "it has a full stop";
                return Err(SignatureRefusal::by(SignatureError::Ambiguous, culprit));
            }
            let body = body(BodyForm::Canonical, request.body)?;
            return Ok([timestamp, method, path, key.as_bytes(), &body].join(&b'.'));
        };
        let body = body(variant.body, request.body)?;
        Ok(match variant.signed {
            SignedParts::TimestampBody => [timestamp, &body].join(&b'.'),
            SignedParts::Body => body.into_owned(),
            SignedParts::TimestampMethodPathBody => [timestamp, method, path, &body].concat(),
        })
    }
}

/// Writes a signature as a header value.
pub(crate) fn encode(encoding: Encoding, signature: &[u8]) -> String {
    match encoding {
        Encoding::Base64 => STANDARD.encode(signature),
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(signature),
        Encoding::Hex => hexadecimal(signature),
    }
}

fn body(form: BodyForm, body: &[u8]) -> Result<Cow<'_, [u8]>, SignatureRefusal> {
    if form == BodyForm::Raw || body.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    let mut canonical = Vec::with_capacity(body.len());
    canonicalize(body, &mut canonical)
        .map_err(|error| SignatureRefusal::by(SignatureError::BodyNotCanonical, error.to_string()))?;
    Ok(Cow::Owned(canonical))
}

fn header<'a>(
    request: &SignedRequest<'a>,
    name: &http::HeaderName,
) -> Result<Option<&'a str>, SignatureRefusal> {
    let mut lines = request.message.headers.get_all(name).iter();
    let (first, second) = (lines.next(), lines.next());
    let not_text = || malformed("Signature or Timestamp is not visible ASCII");
    let text = first.map(|line| line.to_str().map_err(|_| not_text())).transpose()?;
    let too_long = text.is_some_and(|text| text.len() > MAX_HEADER_BYTES);
    match (second.is_some(), too_long) {
        (true, _) => Err(malformed("Signature and Timestamp may each stand only once")),
        (false, true) => Err(malformed("Signature or Timestamp is too long")),
        (false, false) => Ok(text),
    }
}

fn malformed(culprit: &'static str) -> SignatureRefusal {
    SignatureRefusal::by(SignatureError::Malformed, culprit)
}

const fn not_encoded(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Base64 => "Signature is not base64 with padding",
        Encoding::Base64Url => "Signature is not base64url",
        Encoding::Hex => "Signature is not lower-case hexadecimal",
    }
}

const fn not_an_instant(form: TimestampForm) -> &'static str {
    match form {
        TimestampForm::Rfc3339 => "Timestamp is no RFC 3339 date and time",
        TimestampForm::UnixSeconds => "Timestamp is no number of Unix seconds",
    }
}

/// One spelling a value: no stray bits, no upper-case hexadecimal. Padding of base64url is the
/// exception, because clients differ and replay records do not look at it.
pub(crate) fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => STANDARD.decode(text).ok(),
        Encoding::Base64Url => BASE64URL.decode(text).ok(),
        Encoding::Hex => decode_hex(text),
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn instant(form: TimestampForm, text: &str) -> Option<Timestamp> {
    match form {
        TimestampForm::Rfc3339 => Timestamp::parse_rfc3339(text),
        TimestampForm::UnixSeconds => {
            let plain = (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| plain).map(Timestamp::from_unix_seconds)
        }
    }
}
