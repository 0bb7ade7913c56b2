//! Whether a store is whole: each record, the index of what is due, and the story they tell.
//!
//! Each record can be read, the index of what is due says what the records say, and session, claim and
//! token tell one story. Reads everything, changes nothing.

use std::collections::HashSet;

use super::check_money::{session_faults, token_faults};
use super::fault::{Fault, FaultKind};
use crate::auth::replay;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::session::Claim;
use crate::domain::token::TokenState;
use crate::fraud::velocity;
use crate::idempotency::{self, KeyRecord};
use crate::ledger::{Partitions, SessionRecord};
use crate::records::codec::decode;
use crate::records::{Kind, StoreError, agreed, key_use, replicas, suspensions, worker};
use crate::storage::embedded::{ClosedStore, StoredRecord};
use crate::token::{PaymentToken, allotment};

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    records: [u64; Kind::ALL.len()],
    due: u64,
    open_claims: u64,
    tokens: [u64; 4],
}

impl Summary {
    /// Each count with its name.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let records = Kind::ALL.into_iter().zip(self.records);
        let records = records.map(|(kind, count)| (format!("{} records", kind.as_str()), count));
        let states = ["active", "claimed", "consumed", "revoked"].into_iter().zip(self.tokens);
        let states = states.map(|(state, count)| (format!("  tokens {state}"), count));
        let rest = [("open claims", self.open_claims), ("due entries", self.due)];
        let rest = rest.map(|(name, count)| (name.to_owned(), count));
        records.chain(states).chain(rest).collect()
    }
}

/// Goes through a store at rest and tells of each fault as it is found. `now` says what has expired.
pub(crate) fn check(store: &ClosedStore, now: Timestamp, tell: &mut dyn FnMut(Fault)) -> Summary {
    let partitions = Partitions::new(store.identity());
    let mut summary = Summary::default();
    for (kind, count) in Kind::ALL.into_iter().zip(&mut summary.records) {
        for record in store.records(kind) {
            *count += 1;
            match record {
                Ok(record) => {
                    for what in faults_of_record(store, &partitions, &record, now) {
                        tell(Fault { key: Some(record.key.clone()), what });
                    }
                }
                Err(_) => tell(Fault { key: None, what: FaultKind::Damaged }),
            }
        }
    }
    count_states(store, &mut summary);
    for entry in store.due() {
        summary.due += 1;
        let Ok((at, key)) = entry else {
            tell(Fault { key: None, what: FaultKind::Damaged });
            continue;
        };
        let record = store.record(&key).ok().flatten();
        if record.and_then(|record| record.due) != Some(at) {
            tell(Fault { key: Some(key), what: FaultKind::StrayDue });
        }
    }
    summary
}

fn faults_of_record(
    store: &ClosedStore,
    partitions: &Partitions,
    record: &StoredRecord,
    now: Timestamp,
) -> Vec<FaultKind> {
    let mut faults = Vec::new();
    match record.due.map(|at| store.is_due(at, &record.key)) {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => faults.push(FaultKind::NotDue),
        Some(Err(_)) => faults.push(FaultKind::Damaged),
    }
    let found = match record.key.kind {
        Kind::Session => session_faults(store, partitions, record),
        Kind::Token => token_faults(store, partitions, record, now),
        Kind::Idempotency => readable(decode::<KeyRecord>(&record.bytes).is_ok()),
        Kind::Replay => readable(replay::is_readable(&record.bytes)),
        Kind::Velocity => readable(
            allotment::is_readable(&record.key, &record.bytes)
                .or_else(|| idempotency::is_readable(&record.key, &record.bytes))
                .unwrap_or_else(|| velocity::is_readable(&record.bytes)),
        ),
        Kind::Registry => readable(
            key_use::is_readable(&record.bytes)
                || worker::is_readable(&record.bytes)
                || agreed::is_readable(&record.bytes)
                || replicas::is_readable(&record.bytes)
                || suspensions::is_readable(&record.bytes),
        ),
    };
    match found {
        Ok(found) => faults.extend(found),
        Err(_) => faults.push(FaultKind::Damaged),
    }
    faults
}

fn readable(is: bool) -> Result<Vec<FaultKind>, StoreError> {
    Ok(if is { Vec::new() } else { vec![FaultKind::Unreadable] })
}

fn count_states(store: &ClosedStore, summary: &mut Summary) {
    let sessions = store.records(Kind::Session).flatten();
    let sessions = sessions.filter_map(|record| decode::<SessionRecord>(&record.bytes).ok());
    let open: Vec<Claim> = sessions.filter_map(|record| record.session.claim).collect();
    summary.open_claims = u64::try_from(open.len()).unwrap_or(u64::MAX);
    let held: HashSet<TokenId> = open.into_iter().filter_map(|claim| claim.token).collect();
    for record in store.records(Kind::Token).flatten() {
        let Ok(token) = decode::<PaymentToken>(&record.bytes) else { continue };
        let [active, claimed, consumed, revoked] = &mut summary.tokens;
        *match token.state {
            TokenState::Active if held.contains(&token.id) => claimed,
            TokenState::Active => active,
            TokenState::Claimed { .. } => claimed,
            TokenState::Consumed { .. } => consumed,
            TokenState::Revoked { .. } => revoked,
        } += 1;
    }
}
