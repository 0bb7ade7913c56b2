//! Digests of what a configuration says, part by part, the contents of the files it names included.
//!
//! They tell what differs between two of them, however they are written, and which files to watch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::providers::credential_file;
use super::secrets::Sources;
use crate::crypto::digest::{Sha256, sha256, sha256_framed};
use crate::domain::id::{AgentId, MerchantId};

/// A table of the file that a running gateway cannot change, and what of it it can.
const FIXED: [(&str, &[&str]); 6] = [
    ("server", &["tls", "hosts"]),
    ("admin", &["operators", "tls", "client"]),
    ("health", &[]),
    ("store", &[]),
    ("reload", &[]),
    ("traces", &[]),
];

/// Digests of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Of each agent's entry.
    pub agents: BTreeMap<AgentId, Sha256>,
    /// Of each merchant's entry.
    pub merchants: BTreeMap<MerchantId, Sha256>,
    /// The merchants that take no new purchases.
    pub retired: BTreeSet<MerchantId>,
    /// Of what only a new process can change, by the table it stands in.
    pub fixed: BTreeMap<&'static str, Sha256>,
    /// Of the secret of each key of ours, by ring and id.
    pub keys: BTreeMap<(String, String), Sha256>,
    /// Of every table that is no list.
    pub tables: BTreeMap<String, Sha256>,
    /// The files it names.
    pub files: BTreeSet<PathBuf>,
}

impl Digests {
    /// What tells this configuration from others, in sixteen hexadecimal digits. Files' contents go in
    /// whole, so that it tells nothing of them.
    pub fn told(&self) -> String {
        let all = self.agents.values().chain(self.merchants.values()).chain(self.tables.values());
        let digest = framed(&all.copied().collect::<Vec<_>>());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of everything but agents and merchants, which are told of as they are read.
    pub(super) fn of(document: &DeTable<'_>, sources: &Sources<'_>) -> Self {
        let mut digests = Self::default();
        for (name, value) in document {
            let DeValue::Table(table) = value.get_ref() else { continue };
            let digest = digests.note(table, &[], sources);
            digests.tables.insert(name.get_ref().to_string(), digest);
        }
        if let Some(rings) = document.get("keys").and_then(|value| value.get_ref().as_table()) {
            digests.note_keys(rings, sources);
        }
        for (name, but) in FIXED {
            let table = document.get(name).and_then(|value| value.get_ref().as_table());
            let digest = table.map_or_else(|| sha256(&[]), |table| digests.note(table, but, sources));
            digests.fixed.insert(name, digest);
        }
        digests
    }

    /// The digest of a table but for some of its keys. Notes the files it names.
    pub(super) fn note(&mut self, table: &DeTable<'_>, but: &[&str], sources: &Sources<'_>) -> Sha256 {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| (key.get_ref(), value.get_ref())).collect();
        entries.retain(|(key, _)| !but.contains(&key.as_ref()));
        entries.sort_by_key(|(key, _)| *key);
        let mut parts = Vec::with_capacity(entries.len() * 2);
        for (key, value) in entries {
            parts.push(sha256(&[key.as_bytes()]));
            parts.push(self.note_value(key, value, sources));
        }
        framed(&parts)
    }

    fn note_keys(&mut self, rings: &DeTable<'_>, sources: &Sources<'_>) {
        for (ring, entries) in rings {
            for entry in entries.get_ref().as_array().into_iter().flatten() {
                let text = |name| entry.get_ref().as_table()?.get(name)?.get_ref().as_str();
                if let (Some(id), Some(secret)) = (text("id"), text("secret"))
                    && let Some(digest) = self.content("secret", secret, sources)
                {
                    self.keys.insert((ring.get_ref().to_string(), id.to_owned()), digest);
                }
            }
        }
    }

    fn note_value(&mut self, key: &str, value: &DeValue<'_>, sources: &Sources<'_>) -> Sha256 {
        match value {
            DeValue::String(text) => {
                let content = self.content(key, text, sources);
                let parts = [Some(sha256(&[b"text", text.as_bytes()])), content];
                framed(&parts.into_iter().flatten().collect::<Vec<_>>())
            }
            DeValue::Integer(integer) => sha256(&[
                b"integer",
                &[u8::try_from(integer.radix()).unwrap_or(0)],
                integer.as_str().as_bytes(),
            ]),
            DeValue::Float(float) => sha256(&[b"float", float.as_str().as_bytes()]),
            DeValue::Boolean(flag) => sha256(&[b"flag", &[u8::from(*flag)]]),
            DeValue::Datetime(instant) => sha256(&[b"instant", instant.to_string().as_bytes()]),
            DeValue::Array(elements) => {
                let parts: Vec<_> =
                    elements.iter().map(|element| self.note_value(key, element.get_ref(), sources)).collect();
                framed(&parts)
            }
            DeValue::Table(table) => self.note(table, &[], sources),
        }
    }

    /// The digest of what a value refers to, where it refers to something.
    fn content(&mut self, key: &str, text: &str, sources: &Sources<'_>) -> Option<Sha256> {
        if let Some(name) = text.strip_prefix("env:") {
            let value = Zeroizing::new((sources.environment)(name)?);
            return Some(sha256(&[value.as_bytes()]));
        }
        if let Some(id) = text.strip_prefix("exec:") {
            let printed = sources.programs.run(id, sources.base, sources.environment).ok()?;
            return Some(sha256(&[printed.expose().as_bytes()]));
        }
        let path = match text.strip_prefix("credential:") {
            Some(name) => credential_file(name, sources.environment).ok()?,
            None => {
                let path = text.strip_prefix("file:").or_else(|| key.ends_with("_file").then_some(text))?;
                sources.base.join(path)
            }
        };
        let digest = of_file(&path);
        self.files.insert(path);
        digest
    }
}

/// The digest of a file that can be read; what cannot is a mistake told elsewhere.
fn of_file(path: &Path) -> Option<Sha256> {
    // To open a named pipe would wait for its writer.
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let bytes = Zeroizing::new(is_file.then(|| std::fs::read(path).ok()).flatten()?);
    Some(sha256(&[&bytes]))
}

fn framed(parts: &[Sha256]) -> Sha256 {
    sha256_framed(&parts.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
}
