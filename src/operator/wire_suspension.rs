//! What is stopped as JSON, as the listener writes it and the commands read it.

use serde::{Deserialize, Serialize};

use crate::records::suspensions::{History, Subject, Suspension, Suspensions};

/// Body of `POST /suspensions` and `POST /suspensions/resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuspendRequest {
    /// `agent`, `merchant`, `key`, `credential`, `card` or `all`.
    pub kind: String,
    /// Which: an id, for a credential `sha256:` and its digest, for a card a token that holds it or nothing
    /// beside its claim; nothing for all.
    #[serde(default)]
    pub id: Option<String>,
    /// Whose, of a key.
    #[serde(default)]
    pub agent: Option<String>,
    /// A claim that was begun with the card.
    #[serde(default)]
    pub claim: Option<String>,
    /// It is meant, although the configuration has nothing of that name.
    #[serde(default)]
    pub not_configured: bool,
    /// Its live tokens are withdrawn as well, once every replica knows that it is stopped.
    #[serde(default)]
    pub revoke: bool,
    /// Why: kept, and never told to agents.
    pub why: String,
}

/// Answer to both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuspendAnswer {
    /// False when it was so before.
    pub changed: bool,
    /// What became of its live tokens, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensWithdrawn>,
}

/// What became of live tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokensWithdrawn {
    /// Withdrawn.
    pub revoked: u64,
    /// Held by a claim: withdrawn when that ends, if it does not charge.
    pub at_end_of_claim: u64,
    /// Their cards are at the merchant: their claims decide.
    pub in_use: u64,
}

/// Answer to `GET /suspensions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuspensionList {
    /// What is stopped.
    pub standing: Vec<SuspensionItem>,
    /// What was done, the latest first.
    pub acts: Vec<SuspensionItem>,
}

/// What is or was stopped, or goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuspensionItem {
    /// `suspended` or `resumed`.
    pub what: String,
    /// As it was asked for.
    pub kind: String,
    /// As it was asked for.
    pub id: Option<String>,
    /// Whose, of a key.
    pub agent: Option<String>,
    /// Why.
    pub why: String,
    /// The operator.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
}

impl From<(Suspensions, History)> for SuspensionList {
    fn from((list, history): (Suspensions, History)) -> Self {
        let item = |subject: &Subject, resumed: bool, why: &str, by: &str, at: String| {
            let (kind, id, agent) = named(subject);
            let what = if resumed { "resumed" } else { "suspended" };
            SuspensionItem {
                what: what.to_owned(),
                kind: kind.to_owned(),
                id,
                agent,
                why: why.to_owned(),
                by: by.to_owned(),
                at,
            }
        };
        let standing = list.standing.iter();
        let standing = standing
            .map(|Suspension { subject, why, by, at }| item(subject, false, why, by, at.to_rfc3339()));
        let acts = history.acts.iter().rev();
        let acts = acts.map(|act| item(&act.subject, act.resumed, &act.why, &act.by, act.at.to_rfc3339()));
        Self { standing: standing.collect(), acts: acts.collect() }
    }
}

/// How something that is stopped is named.
pub(crate) fn named(subject: &Subject) -> (&'static str, Option<String>, Option<String>) {
    match subject {
        Subject::Agent { id } => ("agent", Some(id.to_string()), None),
        Subject::Merchant { id } => ("merchant", Some(id.to_string()), None),
        Subject::Key { agent, id } => ("key", Some(id.to_string()), Some(agent.to_string())),
        Subject::Credential { digest } => {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            ("credential", Some(format!("sha256:{hex}")), None)
        }
        Subject::Card { token, .. } => ("card", Some(token.to_string()), None),
        Subject::All => ("all", None, None),
    }
}
