//! Whether session, claim and token tell one story.
//!
//! What the transitions of `domain::session` keep true, read off the records.

use super::fault::FaultKind;
use crate::domain::clock::Timestamp;
use crate::domain::session::{Ending, Session, SessionKind};
use crate::domain::token::{Instrument, TokenState};
use crate::ledger::{Partitions, SessionRecord};
use crate::records::StoreError;
use crate::records::codec::decode;
use crate::storage::embedded::{ClosedStore, StoredRecord};
use crate::token::{PaymentToken, record_key};

/// What is wrong with a session.
pub(super) fn session_faults(
    store: &ClosedStore,
    partitions: &Partitions,
    record: &StoredRecord,
) -> Result<Vec<FaultKind>, StoreError> {
    let readable = decode(&record.bytes).ok().filter(SessionRecord::has_readable_keys);
    let Some(SessionRecord { session, .. }) = readable else { return Ok(vec![FaultKind::Unreadable]) };
    let mut faults = Vec::new();
    if record.key != partitions.session_key(session.kind, &session.merchant, &session.id) {
        faults.push(FaultKind::Misplaced);
    }
    let Some(claim) = &session.claim else {
        if record.due.is_some() || record.expires_at.is_none() {
            faults.push(FaultKind::KeptWithoutClaim);
        }
        return Ok(faults);
    };
    if record.due.is_none() || record.expires_at.is_some() {
        faults.push(FaultKind::ClaimNotKept);
    }
    let Some(token) = &claim.token else { return Ok(faults) };
    let Some(stored) = store.record(&record_key(token))? else {
        faults.push(FaultKind::ClaimedTokenMissing);
        return Ok(faults);
    };
    // One that cannot be read is told of where it stands.
    let Ok(token) = decode::<PaymentToken>(&stored.bytes) else { return Ok(faults) };
    let holds = match &token.state {
        // As it is stored while a claim holds it.
        TokenState::Active => {
            token.allowance.merchant == session.merchant && token.allowance.session == session.id
        }
        // As it was, up to format 2.
        TokenState::Claimed { claim: by } => *by == claim.id,
        // A late charge, of this claim or an earlier one, ends the token before the claim.
        TokenState::Consumed { .. } => is_charged(&session),
        TokenState::Revoked { .. } => false,
    };
    if !holds {
        faults.push(FaultKind::ClaimedTokenElsewhere);
    }
    Ok(faults)
}

/// What is wrong with a token.
pub(super) fn token_faults(
    store: &ClosedStore,
    partitions: &Partitions,
    record: &StoredRecord,
    now: Timestamp,
) -> Result<Vec<FaultKind>, StoreError> {
    let Ok(token) = decode::<PaymentToken>(&record.bytes) else { return Ok(vec![FaultKind::Unreadable]) };
    let mut faults = Vec::new();
    let allowance = &token.allowance;
    let home = partitions.session_key(SessionKind::Checkout, &allowance.merchant, &allowance.session);
    if record.key != record_key(&token.id) || record.key.partition() != home.partition() {
        faults.push(FaultKind::Misplaced);
    }
    // What has expired may have lost its session already.
    if record.expires_at.is_some_and(|end| now >= end) {
        return Ok(faults);
    }
    let claimed = matches!(token.state, TokenState::Claimed { .. });
    if claimed == record.expires_at.is_some() {
        faults.push(FaultKind::WrongExpiry);
    }
    let ended = matches!(token.state, TokenState::Consumed { .. } | TokenState::Revoked { .. });
    if ended && matches!(token.instrument, Instrument::Sealed { perishable: Some(_), .. }) {
        faults.push(FaultKind::CodeOutlived);
    }
    let Some(stored) = store.record(&home)? else {
        faults.push(FaultKind::SessionMissing);
        return Ok(faults);
    };
    let Ok(SessionRecord { session, .. }) = decode(&stored.bytes) else { return Ok(faults) };
    let open = session.claim.as_ref();
    match &token.state {
        TokenState::Claimed { claim } => {
            if !open.is_some_and(|open| open.id == *claim && open.token.as_ref() == Some(&token.id)) {
                faults.push(FaultKind::ClaimUnknown);
            }
        }
        TokenState::Consumed { .. } if !is_charged(&session) => faults.push(FaultKind::ConsumedWithoutCharge),
        TokenState::Active
            if !token.is_expired(now) && !session.tokens.iter().any(|(listed, _)| *listed == token.id) =>
        {
            faults.push(FaultKind::NotListed);
        }
        TokenState::Active | TokenState::Consumed { .. } | TokenState::Revoked { .. } => {}
    }
    Ok(faults)
}

fn is_charged(session: &Session) -> bool {
    matches!(session.ending, Some(Ending::Charged { .. }))
}
