//! The `rfc9421` profile: what an HTTP message signature must cover and say to be believed here.
//!
//! A request may carry several signatures, for instance one more that identifies a crawler by
//! `@authority` alone. Each one that names a key of the sender must verify, and one of them must do
//! all that the route demands. A signature that names no key of the sender is nobody's word: beside
//! one of the sender's it is ignored, alone it is refused.

use super::{Conditional, Proof, SignatureError, SignatureRefusal, SignedRequest, WINDOW};
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::auth::replay::ReplayCheck;
use crate::crypto::sign::{Algorithm, Checked, VerifyingKey};
use crate::domain::clock::Timestamp;
use crate::domain::told::tellable;
use crate::http_signature::{
    CONTENT_DIGEST, Component, HttpSignatureError, Parameters, ReceivedSignature, content_digest, received,
};
use crate::registry::{AgentKey, KeyMaterial, Profile};

/// Bytes of a signature by any public key (RFC 8032 §5.1.6, RFC 9421 §3.3.4).
const SIGNATURE_BYTES: usize = 64;

/// What a signature must cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Anything: it says who, not what, and so proves no request.
    Any,
    /// Method, authority, path, a query where there is one, and a body by its digest: this request.
    Request,
    /// The same, the digest in any case, and the idempotency key; and it must expire soon.
    Money,
}

/// A signature that names a key of the sender.
struct Own<'a> {
    signature: &'a ReceivedSignature,
    key: &'a AgentKey,
    public: &'a VerifyingKey,
}

/// Verifies the request's signatures by `owner`'s keys.
pub(crate) fn examine(
    owner: &str,
    keys: &[AgentKey],
    request: &SignedRequest<'_>,
    coverage: Coverage,
    now: Timestamp,
) -> Result<Conditional<Proof>, SignatureRefusal> {
    let signatures = received(request.message.headers)?;
    if signatures.is_empty() {
        return Err(SignatureError::Required.into());
    }
    let own = own(&signatures, keys)?;
    // Cheap refusals first: hashing the body and the curve come last.
    let (chosen, created) = choose(&own, request, coverage, now)?;
    if own.iter().any(|own| own.signature.covers(&Component::Field(CONTENT_DIGEST))) {
        content_digest::verify(request.message.headers, request.body)?;
    }
    let mut equation = None;
    let is_only = own.len() == 1;
    for own in &own {
        let base = own.signature.base(&request.message).map_err(|error| unbuilt(own, request, error))?;
        match own.public.check(&base, &own.signature.signature) {
            // Of several the first that is bad is told, whatever is wrong with the next.
            Checked::If(left) if is_only => equation = Some(left),
            checked if checked.verifies_alone() => {}
            _ => return Err(not_verified([own.public], &own.signature.signature)),
        }
    }
    // The path and the key are covered where money moves, so a signature without a nonce can only
    // repeat the request it was made for: a retry.
    let needs_record = chosen.signature.parameters.nonce.is_some();
    let replay = if needs_record {
        let base = chosen.signature.base(&request.message)?;
        Some(ReplayCheck::new(owner, &chosen.key.id, &base, created, WINDOW))
    } else {
        None
    };
    let proof = match coverage {
        Coverage::Any => Proof::BearerOnly { replay },
        Coverage::Request | Coverage::Money => {
            Proof::Signed { key: chosen.key.id.clone(), profile: Profile::Rfc9421, replay }
        }
    };
    Ok(Conditional::on(equation, proof))
}

fn own<'a>(
    signatures: &'a [ReceivedSignature],
    keys: &'a [AgentKey],
) -> Result<Vec<Own<'a>>, SignatureRefusal> {
    let mut own = Vec::with_capacity(signatures.len());
    for signature in signatures {
        let Some(keyid) = signature.parameters.keyid.as_deref() else { continue };
        let Some(key) = find(keys, keyid) else { continue };
        // Who verifies an HMAC could have made it: no proof towards anyone else.
        let KeyMaterial::Public(public) = &key.material else {
            let culprit = "keyid names a shared secret, which is only for ACP's own header";
            return Err(SignatureRefusal::by(SignatureError::WrongAlgorithm, culprit));
        };
        let named = signature.parameters.alg.as_deref();
        let algorithm = public.algorithm().http_name();
        if named.is_some_and(|name| name != algorithm) {
            let culprit = format!("alg must be {algorithm}, or absent");
            return Err(SignatureRefusal::by(SignatureError::WrongAlgorithm, culprit));
        }
        own.push(Own { signature, key, public });
    }
    if !own.is_empty() {
        return Ok(own);
    }
    let anonymous = signatures.iter().any(|signature| signature.parameters.keyid.is_none());
    Err(if anonymous { missing("keyid") } else { SignatureError::UnknownKey.into() })
}

fn missing(parameter: &'static str) -> SignatureRefusal {
    SignatureRefusal::by(SignatureError::ParameterMissing, parameter)
}

/// Why the bytes that were signed cannot be rebuilt: mostly a covered header that did not arrive.
fn unbuilt(own: &Own<'_>, request: &SignedRequest<'_>, error: HttpSignatureError) -> SignatureRefusal {
    let absent = own.signature.components.iter().find_map(|component| match component {
        Component::Field(name) | Component::Member { field: name, .. } => {
            (!request.message.headers.contains_key(name)).then(|| name.as_str())
        }
        _ => None,
    });
    match absent.and_then(tellable) {
        Some(name) => {
            let culprit = format!("the covered header {name} is not in the request");
            SignatureRefusal::by(error.into(), culprit)
        }
        None => error.into(),
    }
}

/// A signature that none of the keys made. What ECDSA libraries give by default is another form of it.
pub(super) fn not_verified<'a>(
    keys: impl IntoIterator<Item = &'a VerifyingKey>,
    signature: &[u8],
) -> SignatureRefusal {
    const DER_SEQUENCE: u8 = 0x30;
    let mut algorithms = keys.into_iter().map(VerifyingKey::algorithm);
    let length = signature.len();
    if length == SIGNATURE_BYTES {
        return SignatureError::Invalid.into();
    }
    let is_der = signature.first() == Some(&DER_SEQUENCE);
    let culprit = match (is_der, algorithms.any(|algorithm| algorithm == Algorithm::EcdsaP256Sha256)) {
        (true, true) => {
            format!(
                "it has {length} bytes and looks like DER; ECDSA P-256 is sent as the 64 bytes of r and s"
            )
        }
        (_, _) => format!("it has {length} bytes, where a signature by this key has 64"),
    };
    SignatureRefusal::by(SignatureError::Invalid, culprit)
}

/// The key that `keyid` names: by its configured id, or by its JWK thumbprint (RFC 7638).
fn find<'a>(keys: &'a [AgentKey], keyid: &str) -> Option<&'a AgentKey> {
    let by_thumbprint = |key: &&AgentKey| match &key.material {
        KeyMaterial::Public(public) => public.thumbprint() == keyid,
        KeyMaterial::Shared(_) => false,
    };
    keys.iter().find(|key| key.id.as_str() == keyid).or_else(|| keys.iter().find(by_thumbprint))
}

/// The first signature that does all that is demanded, and when it was made; otherwise what the
/// first one lacks.
fn choose<'a>(
    own: &'a [Own<'a>],
    request: &SignedRequest<'_>,
    coverage: Coverage,
    now: Timestamp,
) -> Result<(&'a Own<'a>, Timestamp), SignatureRefusal> {
    let mut first_refusal = SignatureError::UnknownKey.into();
    for (position, candidate) in own.iter().enumerate() {
        match judge(candidate.signature, request, coverage, now) {
            Ok(created) => return Ok((candidate, created)),
            Err(refusal) if position == 0 => first_refusal = refusal,
            Err(_) => {}
        }
    }
    Err(first_refusal)
}

fn judge(
    signature: &ReceivedSignature,
    request: &SignedRequest<'_>,
    coverage: Coverage,
    now: Timestamp,
) -> Result<Timestamp, SignatureRefusal> {
    let left_out: Vec<_> = demanded(request, coverage)
        .filter(|component| !signature.covers(component))
        // `@target-uri` is all of a request's place.
        .filter(|component| !(is_place(component) && signature.covers(&Component::TargetUri)))
        .collect();
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().map(Component::name).collect();
        return Err(SignatureRefusal::by(SignatureError::CoverageInsufficient, names.join(", ")));
    }
    judge_times(&signature.parameters, coverage, now)
}

/// What must be covered.
fn demanded(request: &SignedRequest<'_>, coverage: Coverage) -> impl Iterator<Item = Component> {
    let (some, money) = (coverage != Coverage::Any, coverage == Coverage::Money);
    let digest = money || !request.body.is_empty();
    let query = request.message.query.is_some();
    let parts = [
        (some, Component::Method),
        (some, Component::Authority),
        (some, Component::Path),
        (some && query, Component::Query),
        (some && digest, Component::Field(CONTENT_DIGEST)),
        (money, Component::Field(IDEMPOTENCY_KEY)),
    ];
    parts.into_iter().filter_map(|(wanted, component)| wanted.then_some(component))
}

const fn is_place(component: &Component) -> bool {
    matches!(component, Component::Authority | Component::Path | Component::Query)
}

fn judge_times(
    parameters: &Parameters,
    coverage: Coverage,
    now: Timestamp,
) -> Result<Timestamp, SignatureRefusal> {
    let created = parameters.created.ok_or_else(|| missing("created"))?;
    let created = Timestamp::from_unix_seconds(created);
    if now.distance(created) > WINDOW {
        return Err(SignatureRefusal::outside_window(created, now, WINDOW));
    }
    match parameters.expires.map(Timestamp::from_unix_seconds) {
        None if coverage == Coverage::Money => Err(missing("expires")),
        None => Ok(created),
        Some(expires) if expires < created => Err(SignatureRefusal::lifetime(created, expires, WINDOW)),
        Some(expires) if coverage == Coverage::Money && expires > created.plus(WINDOW) => {
            Err(SignatureRefusal::lifetime(created, expires, WINDOW))
        }
        Some(expires) if expires <= now => Err(SignatureRefusal::expired(expires, now)),
        Some(_) => Ok(created),
    }
}
