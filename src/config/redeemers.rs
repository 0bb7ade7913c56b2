//! Reads `[[merchants.redeemers]]`: each has a bearer credential and exactly one further proof.

use std::collections::HashMap;

use super::document::Section;
use super::keys::party_keys;
use super::parties::Parties;
use super::urls::network;
use super::values::{certificate_fingerprint, id};
use crate::crypto::digest::Sha256;
use crate::domain::id::is_path_id;
use crate::registry::{KeyMaterial, Redeemer, RedeemerProof};

/// Reads one redeemer. `credentials` are those of the merchant's other redeemers.
pub(super) fn redeemer(
    section: &mut Section<'_>,
    parties: &Parties<'_>,
    credentials: &mut HashMap<Sha256, usize>,
) -> Option<Redeemer> {
    let name = section.required("name", id(|text| is_path_id(text).then(|| text.to_owned())));
    let own = section.list("credentials", |value| parties.redeemer_credential(value, credentials));
    if section.lacks("credentials") {
        section.wrong("credentials", "at least one is needed, such as [\"sha256:…\"]");
    }
    let proof = proof(section, parties);
    Some(Redeemer { name: name?, credentials: own?, proof: proof? })
}

fn proof(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<RedeemerProof> {
    let keys = party_keys(section, parties.sources);
    let networks = section.list(
        "networks",
        network("this network is too wide: a bearer credential from anywhere cannot redeem"),
    );
    let certificates = section.list("certificates", certificate_fingerprint);
    let given: Vec<&str> =
        ["keys", "networks", "certificates"].into_iter().filter(|kind| section.has(kind)).collect();
    let [kind] = given.as_slice() else {
        section.wrong(
            "",
            "expected exactly one of `keys`, `networks` and `certificates` beside the credentials",
        );
        return None;
    };
    if section.has("certificates") && !parties.client_certificates {
        section.wrong(
            "certificates",
            "needs `server.tls.client_ca_file`: without it no client certificate is asked for",
        );
    }
    if keys.iter().any(|key| matches!(key.material, KeyMaterial::Shared(_))) {
        section.wrong("keys", "redeemers sign with \"rfc9421\", which takes public keys only");
    }
    if section.lacks(kind) {
        section.wrong(kind, "lists nothing");
    }
    match *kind {
        "keys" => Some(RedeemerProof::Keys(keys)),
        "networks" => networks.map(RedeemerProof::Networks),
        _ => certificates.map(RedeemerProof::Certificates),
    }
}
