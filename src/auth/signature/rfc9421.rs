//! The `rfc9421` profile: what an HTTP message signature must cover and say to be believed here.
//!
//! A request may carry several signatures, for instance one more that identifies a crawler by
//! `@authority` alone. Each one that names a key of the sender must verify, and one of them must do
//! all that the route demands. A signature that names no key of the sender is nobody's word: beside
//! one of the sender's it is ignored, alone it is refused.

use super::{Proof, SignatureError, SignedRequest, WINDOW};
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::auth::http_signature::{
    CONTENT_DIGEST, Component, Parameters, ReceivedSignature, content_digest, received,
};
use crate::auth::replay::ReplayCheck;
use crate::crypto::sign::VerifyingKey;
use crate::domain::clock::Timestamp;
use crate::registry::{AgentKey, KeyMaterial, Profile};

/// What a signature must cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Coverage {
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
pub(in crate::auth) fn verify(
    owner: &str,
    keys: &[AgentKey],
    request: &SignedRequest<'_>,
    coverage: Coverage,
    now: Timestamp,
) -> Result<Proof, SignatureError> {
    let signatures = received(request.message.headers)?;
    if signatures.is_empty() {
        return Err(SignatureError::Required);
    }
    let own = own(&signatures, keys)?;
    // Cheap refusals first: hashing the body and the curve come last.
    let (chosen, created) = choose(&own, request, coverage, now)?;
    if own.iter().any(|own| own.signature.covers(&Component::Field(CONTENT_DIGEST))) {
        content_digest::verify(request.message.headers, request.body)?;
    }
    for own in &own {
        let base = own.signature.base(&request.message)?;
        if !own.public.verifies(&base, &own.signature.signature) {
            return Err(SignatureError::Invalid);
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
    Ok(match coverage {
        Coverage::Any => Proof::BearerOnly { replay },
        Coverage::Request | Coverage::Money => {
            Proof::Signed { key: chosen.key.id.clone(), profile: Profile::Rfc9421, replay }
        }
    })
}

fn own<'a>(
    signatures: &'a [ReceivedSignature],
    keys: &'a [AgentKey],
) -> Result<Vec<Own<'a>>, SignatureError> {
    let mut own = Vec::with_capacity(signatures.len());
    for signature in signatures {
        let Some(keyid) = signature.parameters.keyid.as_deref() else { continue };
        let Some(key) = find(keys, keyid) else { continue };
        // Who verifies an HMAC could have made it: no proof towards anyone else.
        let KeyMaterial::Public(public) = &key.material else { return Err(SignatureError::WrongAlgorithm) };
        let named = signature.parameters.alg.as_deref();
        if named.is_some_and(|name| name != public.algorithm().http_name()) {
            return Err(SignatureError::WrongAlgorithm);
        }
        own.push(Own { signature, key, public });
    }
    if !own.is_empty() {
        return Ok(own);
    }
    let anonymous = signatures.iter().any(|signature| signature.parameters.keyid.is_none());
    Err(if anonymous { SignatureError::ParameterMissing } else { SignatureError::UnknownKey })
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
) -> Result<(&'a Own<'a>, Timestamp), SignatureError> {
    let mut first_refusal = SignatureError::UnknownKey;
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
) -> Result<Timestamp, SignatureError> {
    let covers = |component| signature.covers(&component);
    let place = covers(Component::TargetUri)
        || (covers(Component::Authority)
            && covers(Component::Path)
            && (request.message.query.is_none() || covers(Component::Query)));
    let digest = covers(Component::Field(CONTENT_DIGEST));
    let sufficient = match coverage {
        Coverage::Any => true,
        Coverage::Request => covers(Component::Method) && place && (digest || request.body.is_empty()),
        Coverage::Money => {
            covers(Component::Method) && place && digest && covers(Component::Field(IDEMPOTENCY_KEY))
        }
    };
    if !sufficient {
        return Err(SignatureError::CoverageInsufficient);
    }
    judge_times(&signature.parameters, coverage, now)
}

fn judge_times(
    parameters: &Parameters,
    coverage: Coverage,
    now: Timestamp,
) -> Result<Timestamp, SignatureError> {
    let created = parameters.created.ok_or(SignatureError::ParameterMissing)?;
    let created = Timestamp::from_unix_seconds(created);
    if now.distance(created) > WINDOW {
        return Err(SignatureError::OutsideWindow);
    }
    match parameters.expires.map(Timestamp::from_unix_seconds) {
        None if coverage == Coverage::Money => Err(SignatureError::ParameterMissing),
        None => Ok(created),
        Some(expires) if expires < created => Err(SignatureError::LifetimeNotAccepted),
        Some(expires) if coverage == Coverage::Money && expires > created.plus(WINDOW) => {
            Err(SignatureError::LifetimeNotAccepted)
        }
        Some(expires) if expires <= now => Err(SignatureError::Expired),
        Some(_) => Ok(created),
    }
}
