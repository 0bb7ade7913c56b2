//! The operator's API as JSON, as the listener writes it and the commands read it.

use serde::{Deserialize, Serialize};

use crate::domain::clock::Timestamp;
use crate::domain::session::{ClaimStanding, Evidence, Fruitless};
use crate::gateway::claims::{OpenClaim, OpenClaims};
use crate::records::formats::Formats;
use crate::records::replicas::{Registry, Replica};

/// Answer to `GET /claims`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimList {
    /// The longest open first.
    pub claims: Vec<ClaimItem>,
    /// Whether there are more than `limit`.
    pub more: bool,
}

/// An open claim. Nothing of a card is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimItem {
    /// The merchant, as in `/m/{merchant}/`.
    pub merchant: String,
    /// The merchant's id of the session.
    pub checkout_session_id: String,
    /// The claim: the `Idempotency-Key` the merchant received.
    pub claim: String,
    /// The token it holds; null for a purchase order.
    pub token: Option<String>,
    /// Whose session it is.
    pub agent: String,
    /// The most the merchant may charge, in minor units.
    pub amount: u64,
    /// Of what.
    pub currency: String,
    /// `in_doubt`, `pending` or `under_way`.
    pub state: String,
    /// Why it is held, for people.
    pub why: String,
    /// Whether an attempt was ever in doubt, or attempts overlapped.
    pub contested: bool,
    /// Whether the merchant said that it is still working on it.
    pub pending: bool,
    /// Whether the card has left in this claim.
    pub redeemed: bool,
    /// Sendings of the complete.
    pub attempts: u32,
    /// Until when the answer to one of them is still awaited; it cannot be resolved before.
    pub awaited_until: Option<String>,
    /// When it was opened.
    pub opened_at: String,
    /// For how long it has been open, in seconds.
    pub age_seconds: u64,
    /// How often the session was read to resolve it.
    pub checks: u32,
    /// When it is read next.
    pub next_check_at: String,
}

/// Body of `POST /claims/resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveRequest {
    /// The merchant.
    pub merchant: String,
    /// Its session.
    pub checkout_session_id: String,
    /// The claim, which must be the open one.
    pub claim: String,
    /// What the operator knows.
    pub evidence: EvidenceWord,
}

/// What an operator knows of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceWord {
    /// The merchant charged.
    Charged,
    /// It did not and will not.
    NotCharged,
}

/// Answer to `POST /claims/resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolveAnswer {
    /// The claim.
    pub claim: String,
    /// What it was ended with.
    pub evidence: EvidenceWord,
    /// False when it had ended so before.
    pub resolved_now: bool,
    /// How its token stands; null where there is none, or none is at stake any more.
    pub token_status: Option<String>,
}

/// Body of `POST /store/backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// An absolute path on the gateway's machine where nothing is yet.
    pub directory: String,
}

/// Answer to `POST /store/backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupAnswer {
    /// Where the copy is.
    pub directory: String,
    /// Records in it, expired ones included.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// An error, flat as ACP's are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ErrorAnswer {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<EvidenceWord> for Evidence {
    fn from(word: EvidenceWord) -> Self {
        match word {
            EvidenceWord::Charged => Self::Charged,
            EvidenceWord::NotCharged => Self::NotCharged,
        }
    }
}

impl From<OpenClaims> for ClaimList {
    fn from(found: OpenClaims) -> Self {
        let item = |open: &OpenClaim| ClaimItem::of(open, found.at);
        Self { claims: found.claims.iter().map(item).collect(), more: found.more }
    }
}

impl ClaimItem {
    /// An open claim, as it stands `now`.
    pub(super) fn of(open: &OpenClaim, now: Timestamp) -> Self {
        let (session, claim) = (&open.session, &open.claim);
        Self {
            merchant: session.merchant.to_string(),
            checkout_session_id: session.id.to_string(),
            claim: claim.id.to_string(),
            token: claim.token.as_ref().map(ToString::to_string),
            agent: session.owner.to_string(),
            amount: claim.checked.amount.get(),
            currency: claim.checked.currency.as_str().to_owned(),
            state: open.standing.as_str().to_owned(),
            why: why(open),
            contested: claim.contested,
            pending: claim.pending,
            redeemed: claim.redeemed_at.is_some(),
            attempts: claim.last_attempt,
            awaited_until: open.awaited_until.map(Timestamp::to_rfc3339),
            opened_at: claim.opened_at.to_rfc3339(),
            age_seconds: now.since(claim.opened_at).as_secs(),
            checks: claim.checks,
            next_check_at: open.next_check.to_rfc3339(),
        }
    }
}

fn why(open: &OpenClaim) -> String {
    let held = match (open.standing, open.awaited_until) {
        (ClaimStanding::UnderWay, _) => "the merchant's answer is awaited",
        (_, Some(_)) => "it was sent again, and that answer is awaited",
        (ClaimStanding::Pending, None) => "the merchant said that it is still working on it",
        (ClaimStanding::InDoubt, None) if open.claim.attempts.is_empty() => {
            &of_complete(open.session.troubles.complete)
        }
        (ClaimStanding::InDoubt, None) => {
            "nobody waits for the answer any more: its process or its time ended"
        }
    };
    let read = if !open.merchant_known {
        "the merchant is not configured, so that its session cannot be read".to_owned()
    } else if open.standing == ClaimStanding::UnderWay || open.awaited_until.is_some() {
        return held.to_owned();
    } else {
        of_read(open.session.troubles.read)
    };
    format!("{held}; {read}")
}

/// What came of the last complete that is in doubt, for people.
pub(super) fn of_complete(came: Option<Fruitless>) -> String {
    match came {
        None | Some(Fruitless::NotSent) => "an answer was lost, or attempts overlapped".to_owned(),
        Some(Fruitless::Lost) => "the answer to the complete was lost".to_owned(),
        Some(Fruitless::Misplaced) => "the answer to the complete was about another session".to_owned(),
        Some(Fruitless::Unreadable(status)) => {
            format!("the answer to the complete, with status {status}, cannot be read")
        }
        Some(Fruitless::Refused(status)) => format!("the complete was answered with status {status}"),
    }
}

/// What came of the last read of the session, for people.
pub(super) fn of_read(came: Option<Fruitless>) -> String {
    match came {
        None => "no read of the session has settled it".to_owned(),
        Some(Fruitless::NotSent) => "the session could not be read: the merchant was not reached".to_owned(),
        Some(Fruitless::Lost) => "the answer to the last read of the session was lost".to_owned(),
        Some(Fruitless::Misplaced) => "the last read of the session showed another one".to_owned(),
        Some(Fruitless::Unreadable(status)) => {
            format!("the answer to the last read of the session, with status {status}, cannot be read")
        }
        Some(Fruitless::Refused(status)) => {
            format!("the last read of the session was refused with status {status}")
        }
    }
}

/// The answer to `POST /store/accept`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcceptAnswer {
    /// The store is taken as it is.
    pub accepted: bool,
}

/// The answer to `GET /store/replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaList {
    /// The formats in which records are written.
    pub written: u8,
    /// The newest that this gateway reads.
    pub newest: u8,
    /// Older formats are written until an operator converts the store.
    pub awaits_operator: bool,
    /// The replicas that live, but those of releases that do not register.
    pub replicas: Vec<ReplicaItem>,
}

/// A replica that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaItem {
    /// Its number, drawn at its start.
    pub id: String,
    /// Its release.
    pub release: String,
    /// The newest formats it reads.
    pub reads: u8,
}

impl ReplicaList {
    /// The registry, or that of a store in which nobody could register yet.
    pub(super) fn of(registry: Option<Registry>) -> Self {
        let (written, awaits_operator, replicas) = match registry {
            Some(Registry { written, awaits_operator, replicas }) => (written, awaits_operator, replicas),
            None => (Formats::OLDER, false, Vec::new()),
        };
        let item = |replica: Replica| ReplicaItem {
            id: format!("{:016x}", replica.id),
            release: replica.release,
            reads: replica.reads.number(),
        };
        Self {
            written: written.number(),
            newest: Formats::NEWEST.number(),
            awaits_operator,
            replicas: replicas.into_iter().map(item).collect(),
        }
    }
}

/// The answer to `POST /store/convert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConvertAnswer {
    /// The formats in which records are written from now on.
    pub written: u8,
    /// They were older until now.
    pub converted_now: bool,
}
