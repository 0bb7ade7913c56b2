//! Key material of every kind: the gateway's own rings, and the keys agents and redeemers sign with.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::document::Section;
use super::secrets::{SecretEncoding, Sources, key_of_32_bytes, warn_of_blanks};
use super::values::{choice, file, flag, id, unreadable};
use crate::crypto::aead::SealingKey;
use crate::crypto::digest::{Sha256, sha256};
use crate::crypto::keyset::Ring;
use crate::crypto::mac::MacKey;
use crate::crypto::rings::KeyRings;
use crate::crypto::sign::{KeyRejected, SigningKey, VerifyingKey};
use crate::domain::id::KeyId;
use crate::domain::secret::SecretString;
use crate::registry::{AgentKey, KeyMaterial};

/// Shared secrets below this are refused: they can be guessed.
const SHARED_SECRET_LEAST: usize = 16;
/// Shared secrets below the digest's size are weaker than it (RFC 2104 §3).
const SHARED_SECRET_ADVISED: usize = 32;
/// Keys whose private halves stand in a published text: RFC 9421 B.1.3 and B.1.4, RFC 8037 A.1.
const PUBLISHED_KEYS: [&str; 3] = [
    "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U",
    "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    "ydQXMtvbsOsZyFir-Y7A8t7fKEM1gbKPvyFkdpu4fvI",
];

/// Reads `[keys]`: five rings, each a list of `{ id, secret }`, current
/// the first, unless `current` says otherwise.
pub(super) fn rings(section: &mut Section<'_>, sources: &Sources<'_>) -> Option<KeyRings> {
    let mut used = HashMap::new();
    let signing = ring(section, "signing", sources, &mut used, |secret| {
        SigningKey::from_pkcs8_pem(secret.expose())
            .map_err(|_| "expected a private key in PKCS#8 PEM, Ed25519 or P-256")
    });
    let sealing = ring(section, "sealing", sources, &mut used, |secret| {
        key_of_32_bytes(secret).and_then(|key| SealingKey::new(key.expose())).ok_or(EXPECTED_32_BYTES)
    });
    let mut mac_ring = |key| {
        ring(section, key, sources, &mut used, |secret| {
            key_of_32_bytes(secret).map(|key| MacKey::new(key.expose())).ok_or(EXPECTED_32_BYTES)
        })
    };
    let fingerprint = mac_ring("fingerprint");
    let card_fingerprint = mac_ring("card_fingerprint");
    let derivation = mac_ring("derivation");
    Some(KeyRings {
        signing: signing?,
        sealing: sealing?,
        fingerprint: fingerprint?,
        card_fingerprint: card_fingerprint?,
        derivation: derivation?,
    })
}

const EXPECTED_32_BYTES: &str = "expected 32 bytes in base64 or hexadecimal (`openssl rand -base64 32`)";

struct RingEntry<K> {
    id: KeyId,
    key: K,
    /// What the entry says of itself, if anything.
    current: Option<bool>,
}

fn ring<K>(
    section: &mut Section<'_>,
    name: &'static str,
    sources: &Sources<'_>,
    used: &mut HashMap<Sha256, usize>,
    read: impl Fn(&SecretString) -> Result<K, &'static str>,
) -> Option<Ring<K>> {
    let mut ids = HashMap::new();
    let mut entries = section.tables(name, |entry| {
        let id = entry.required("id", id(KeyId::parse));
        let secret = sources.required(entry, "secret");
        let current = entry.optional("current", flag);
        if let Some(id) = &id
            && let Err(line) = first_use(&mut ids, id.clone(), entry.line_of("id"))
        {
            entry.wrong("id", format!("the id is already used on line {line}"));
        }
        let secret = secret?;
        // No key serves two purposes, and a rotated key differs from the one before it.
        let fingerprint = sha256(&[secret.expose().trim().as_bytes()]);
        if let Err(line) = first_use(used, fingerprint, entry.line_of("secret")) {
            entry.wrong(
                "secret",
                format!("the same secret is already used on line {line}: each key needs its own"),
            );
        }
        let key = read(&secret).map_err(|message| entry.wrong("secret", message)).ok();
        Some(RingEntry { id: id?, key: key?, current })
    });
    if entries.iter().filter(|entry| entry.current == Some(true)).count() > 1 {
        section.wrong(name, "only one key of a ring can be current");
    }
    if !entries.is_empty() && entries.iter().all(|entry| entry.current == Some(false)) {
        section.wrong(name, "no key of the ring is current: leave `current = false` out of one");
    }
    if section.lacks(name) {
        section.wrong(name, "at least one key is needed, such as { id = \"2026-01\", secret = \"file:…\" }");
    }
    // The one marked current; else the first that is not merely announced.
    entries.sort_by_key(|entry| match entry.current {
        Some(true) => 0,
        None => 1,
        Some(false) => 2,
    });
    Ring::new(entries.into_iter().map(|entry| (entry.id, entry.key)).collect())
}

/// Records where something is used; the line of its first use when it was used before.
pub(super) fn first_use<T: std::hash::Hash + Eq>(
    used: &mut HashMap<T, usize>,
    what: T,
    line: usize,
) -> Result<(), usize> {
    match used.entry(what) {
        Entry::Occupied(first) => Err(*first.get()),
        Entry::Vacant(free) => {
            free.insert(line);
            Ok(())
        }
    }
}

/// Reads the `keys` of an agent or a redeemer; ids are unique among them.
pub(super) fn party_keys(section: &mut Section<'_>, sources: &Sources<'_>) -> Vec<AgentKey> {
    let mut ids = HashMap::new();
    section.tables("keys", |entry| {
        let key = party_key(entry, sources)?;
        if let Err(line) = first_use(&mut ids, key.id.clone(), entry.line_of("id")) {
            entry.wrong("id", format!("the id is already used on line {line}"));
        }
        Some(key)
    })
}

/// One key: a public one (its id is its JWK thumbprint unless given) or a shared secret.
fn party_key(entry: &mut Section<'_>, sources: &Sources<'_>) -> Option<AgentKey> {
    let given_id = entry.optional("id", id(KeyId::parse));
    let public = [public_jwk(entry), public_file(entry, sources)];
    let secret = shared_secret(entry, sources);
    let kinds = ["jwk", "public_key_file", "secret"].into_iter().filter(|kind| entry.has(kind)).count();
    if kinds != 1 {
        entry.wrong("", "expected exactly one of `jwk`, `public_key_file` and `secret`");
        return None;
    }
    if let Some(key) = public.into_iter().flatten().next() {
        if PUBLISHED_KEYS.contains(&key.thumbprint().as_str()) {
            entry.wrong("", "this is a published test key: its private half is known to everybody");
        }
        let id = given_id.or_else(|| KeyId::parse(&key.thumbprint()))?;
        return Some(AgentKey { id, material: KeyMaterial::Public(key) });
    }
    if entry.has("secret") && !entry.has("id") {
        entry.wrong("id", "missing: a shared secret needs the id that signatures call it by");
    }
    Some(AgentKey { id: given_id?, material: KeyMaterial::Shared(secret?) })
}

fn public_jwk(entry: &mut Section<'_>) -> Option<VerifyingKey> {
    let members = entry.optional_table("jwk", |jwk| {
        let member = |jwk: &mut Section<'_>, key| jwk.optional(key, super::values::text);
        // What a JWK may say besides the key (RFC 7517 §4) is allowed and not needed.
        for ignored in ["kid", "alg", "use"] {
            member(jwk, ignored);
        }
        if jwk.has("d") {
            let _ = jwk.optional("d", |_| Ok(()));
            jwk.wrong("d", "this is a private key: only its public half belongs here");
        }
        let names = ["kty", "crv", "x", "y"];
        names
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), member(jwk, name)?.into())))
            .collect::<serde_json::Map<String, serde_json::Value>>()
    })?;
    let json = serde_json::Value::Object(members).to_string();
    VerifyingKey::from_jwk(&json)
        .map_err(|_| entry.wrong("jwk", "expected a public JWK: OKP with Ed25519, or EC with P-256"))
        .ok()
}

fn public_file(entry: &mut Section<'_>, sources: &Sources<'_>) -> Option<VerifyingKey> {
    entry.optional("public_key_file", |value| {
        let path = file(sources.base)(value)?;
        let pem = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        if pem.contains("PRIVATE KEY") {
            return Err("this file holds a private key: only its public half belongs here".into());
        }
        VerifyingKey::from_spki_pem(&pem).map_err(|KeyRejected| {
            "expected a public key in PEM (SubjectPublicKeyInfo), Ed25519 or P-256".into()
        })
    })
}

fn shared_secret(entry: &mut Section<'_>, sources: &Sources<'_>) -> Option<MacKey> {
    let secret = sources.optional(entry, "secret");
    let encoding = entry.or("secret_encoding", SecretEncoding::Text, choice(&SecretEncoding::CHOICES));
    if entry.has("secret_encoding") && !entry.has("secret") {
        entry.wrong("secret_encoding", "has no effect without `secret`");
    }
    mac_key(entry, "secret", &secret?, encoding)
}

/// A secret shared with another party, for HMAC-SHA256.
pub(super) fn mac_key(
    entry: &Section<'_>,
    key: &str,
    secret: &SecretString,
    encoding: SecretEncoding,
) -> Option<MacKey> {
    let Some(bytes) = encoding.decode(secret) else {
        entry.wrong(key, "the secret is not written in the encoding that is named");
        return None;
    };
    if matches!(encoding, SecretEncoding::Text) {
        warn_of_blanks(entry, key, secret);
    }
    let length = bytes.expose().len();
    if length < SHARED_SECRET_LEAST {
        entry.wrong(key, format!("a shared secret needs at least {SHARED_SECRET_LEAST} bytes"));
        return None;
    }
    if length < SHARED_SECRET_ADVISED {
        entry.warn(key, format!("shared secrets should have at least {SHARED_SECRET_ADVISED} bytes"));
    }
    Some(MacKey::new(bytes.expose()))
}
