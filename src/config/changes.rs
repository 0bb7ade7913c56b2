//! What differs between two configurations, by name and never by value.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Digests;
use crate::crypto::digest::Sha256;

/// Entries that differ, each list in the order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// There were none of these names.
    pub added: Vec<String>,
    /// There are none of these names any more.
    pub removed: Vec<String>,
    /// Something is said otherwise, or a file that is named has other contents.
    pub changed: Vec<String>,
}

impl Entries {
    /// Whether none differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a new configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of `[[agents]]`.
    pub agents: Entries,
    /// Of `[[merchants]]`.
    pub merchants: Entries,
    /// Merchants that take no new purchases from now on.
    pub retired: Vec<String>,
    /// Tables that say something else, such as `limits`.
    pub tables: Vec<String>,
    /// Of those, what no running gateway can change: the tables that say it.
    pub fixed: Vec<&'static str>,
    /// Keys of ours, by ring and id, that have another secret than before.
    pub other_secrets: Vec<(String, String)>,
}

impl Changes {
    /// What `after` changes of `before`.
    pub fn between(before: &Digests, after: &Digests) -> Self {
        let tables = entries(&before.tables, &after.tables);
        let mut names: Vec<String> = [tables.added, tables.removed, tables.changed].concat();
        names.sort();
        let differs = |name: &&&'static str| before.fixed.get(**name) != after.fixed.get(**name);
        Self {
            agents: entries(&before.agents, &after.agents),
            merchants: entries(&before.merchants, &after.merchants),
            retired: after.retired.difference(&before.retired).map(ToString::to_string).collect(),
            tables: names,
            other_secrets: after
                .keys
                .iter()
                .filter(|(key, digest)| before.keys.get(*key).is_some_and(|before| before != *digest))
                .map(|(key, _)| key.clone())
                .collect(),
            fixed: after.fixed.keys().filter(differs).copied().collect(),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn entries<N: Ord + Display>(before: &BTreeMap<N, Sha256>, after: &BTreeMap<N, Sha256>) -> Entries {
    let names = |one: &BTreeMap<N, Sha256>, is_wanted: &dyn Fn(&N, &Sha256) -> bool| {
        let wanted = one.iter().filter(|(name, digest)| is_wanted(name, digest));
        wanted.map(|(name, _)| name.to_string()).collect()
    };
    Entries {
        added: names(after, &|name, _| !before.contains_key(name)),
        removed: names(before, &|name, _| !after.contains_key(name)),
        changed: names(after, &|name, digest| before.get(name).is_some_and(|before| before != digest)),
    }
}
