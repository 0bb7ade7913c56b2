//! What a reload changes as JSON, as the listener writes it and the commands read it.

use serde::{Deserialize, Serialize};

use crate::config::{Changes, Entries};

/// Answer to `POST /config/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadAnswer {
    /// `applied`, `unchanged`, or `would_apply` where it was only tried out.
    pub outcome: String,
    /// Of `[[agents]]`.
    pub agents: EntryNames,
    /// Of `[[merchants]]`.
    pub merchants: EntryNames,
    /// Merchants that take no new purchases from now on.
    #[serde(default)]
    pub retired: Vec<String>,
    /// Tables that say something else, such as `limits`.
    pub tables: Vec<String>,
}

/// Entries that differ, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryNames {
    /// New.
    pub added: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
    /// Otherwise than before.
    pub changed: Vec<String>,
}

impl ReloadAnswer {
    /// Of what was changed, or would be.
    pub(crate) fn of(changes: Changes, try_out: bool) -> Self {
        let outcome = match (changes.is_empty(), try_out) {
            (true, _) => "unchanged",
            (false, true) => "would_apply",
            (false, false) => "applied",
        };
        Self {
            outcome: outcome.to_owned(),
            agents: changes.agents.into(),
            merchants: changes.merchants.into(),
            retired: changes.retired,
            tables: changes.tables,
        }
    }
}

impl From<Entries> for EntryNames {
    fn from(entries: Entries) -> Self {
        let Entries { added, removed, changed } = entries;
        Self { added, removed, changed }
    }
}
