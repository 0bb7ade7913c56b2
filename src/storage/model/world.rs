//! The records as they should be: plain values, changed by the domain alone.

use std::collections::{BTreeMap, BTreeSet};

use byteview::ByteView;
use proptest::prelude::*;

use super::names::{KeyName, Slot};
use super::operation::{Answer, Operation};
use super::said;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::session::Session;
use crate::domain::token::TokenState;
use crate::idempotency::{KeyRecord, KeyState, RETENTION, UNFINISHED_RETENTION};
use crate::ledger::{Ledger, Moment, Records, SessionRecord, is_held, session};
use crate::records::codec::{Rolling, Stored, Times, decode, encode, encode_older};
use crate::records::formats::Formats;
use crate::records::{Kind, RecordKey};
use crate::token::{self, PaymentToken};

/// More than any history leaves due.
const PLENTY: usize = 1_000;

/// Records a page of a walk.
const PAGE: usize = 7;

/// Every record that should be stored, ended ones included.
#[derive(Clone, Default)]
pub(super) struct World {
    sessions: BTreeMap<Slot, Kept<Session>>,
    tokens: BTreeMap<TokenId, Kept<PaymentToken>>,
    keys: BTreeMap<KeyName, Kept<KeyRecord>>,
    /// Keys that stand in the records of their sessions, ended ones included.
    held: BTreeMap<KeyName, Kept<KeyRecord>>,
    /// Every key that was ever used: one whose record is gone must not be found either.
    used: BTreeSet<KeyName>,
}

#[derive(Clone)]
struct Kept<T> {
    value: T,
    /// As its own record has it.
    bytes: ByteView,
    times: Times,
}

impl<T> Kept<T> {
    fn lives(&self, now: Timestamp) -> bool {
        self.times.expires_at.is_none_or(|end| now < end)
    }
}

fn live<'a, K: Ord, T>(records: &'a BTreeMap<K, Kept<T>>, key: &K, now: Timestamp) -> Option<&'a T> {
    records.get(key).filter(|kept| kept.lives(now)).map(|kept| &kept.value)
}

fn all_live<K, T>(records: &BTreeMap<K, Kept<T>>, now: Timestamp) -> impl Iterator<Item = (&K, &T)> {
    let living = move |(_, kept): &(&K, &Kept<T>)| kept.lives(now);
    records.iter().filter(living).map(|(key, kept)| (key, &kept.value))
}

/// In which format a record that was there is written, or one that was not.
fn format_in<T: Rolling>(formats: Formats, known: Option<&ByteView>) -> u8 {
    known.map_or(1, |bytes| bytes[0]).max(T::format_in(formats))
}

fn encode_in<T: Rolling>(value: &T, formats: Formats, known: Option<&ByteView>) -> ByteView {
    if T::format_in(formats) == T::FORMAT {
        return encode(value).unwrap();
    }
    encode_older(value, format_in::<T>(formats, known)).unwrap()
}

/// What is not stored anew keeps its times.
fn keep<K: Ord, T>(
    records: &mut BTreeMap<K, Kept<T>>,
    key: K,
    value: Option<T>,
    now: Timestamp,
    as_stored: impl FnOnce(T, Option<&ByteView>) -> (T, ByteView),
    is_put_off: impl FnOnce(&T) -> bool,
    times: impl FnOnce(&T) -> Times,
) {
    let Some(value) = value else { return drop(records.remove(&key)) };
    let known = records.get(&key).filter(|kept| kept.lives(now));
    let (value, bytes) = as_stored(value, known.map(|kept| &kept.bytes));
    let times = match known {
        Some(known) if known.bytes == bytes && !is_put_off(&value) => known.times,
        _ => times(&value),
    };
    records.insert(key, Kept { value, bytes, times });
}

fn key_times(record: &KeyRecord, now: Timestamp) -> Times {
    let kept = if matches!(record.state, KeyState::Recorded(_)) { RETENTION } else { UNFINISHED_RETENTION };
    Times { expires_at: Some(now.plus(kept)), due: None }
}

impl World {
    pub(super) fn session(&self, slot: Slot, now: Timestamp) -> Option<&Session> {
        live(&self.sessions, &slot, now)
    }

    pub(super) fn token(&self, id: &TokenId, now: Timestamp) -> Option<&PaymentToken> {
        live(&self.tokens, id, now)
    }

    pub(super) fn key(&self, name: &KeyName, now: Timestamp) -> Option<&KeyRecord> {
        live(&self.keys, name, now)
    }

    pub(super) fn sessions(&self, now: Timestamp) -> impl Iterator<Item = (&Slot, &Session)> {
        all_live(&self.sessions, now)
    }

    pub(super) fn tokens(&self, now: Timestamp) -> impl Iterator<Item = (&TokenId, &PaymentToken)> {
        all_live(&self.tokens, now)
    }

    pub(super) fn keys(&self, now: Timestamp) -> impl Iterator<Item = (&KeyName, &KeyRecord)> {
        all_live(&self.keys, now)
    }

    /// Decides on copies of the records and keeps what was decided, unless it was a refusal, as who writes
    /// these formats keeps it.
    pub(super) fn apply(&mut self, operation: &Operation, moment: Moment, written: Formats) -> Answer {
        let now = moment.steady;
        let token = operation.token.as_ref().filter(|id| {
            // To another session's operations a token does not exist.
            let of_session = |token: &PaymentToken| operation.slot.is_some_and(|slot| slot.is_of(token));
            self.token(id, now).is_none_or(of_session)
        });
        let mut view = Records {
            session: operation.slot.and_then(|slot| self.session(slot, now)).cloned(),
            token: token.and_then(|id| self.token(id, now)).cloned(),
            key: operation.key.as_ref().and_then(|name| self.key(name, now)).cloned(),
        };
        let was_there = view.session.is_some();
        let formats = self.formats_of(operation.slot, now, written);
        let decided = operation.decide(&mut view, moment)?;
        if let (Some(session), Some(token)) = (&view.session, view.token.as_mut()) {
            session.mark_claimed(token);
        }
        let mut is_moved = false;
        if let Some(slot) = operation.slot {
            if !was_there {
                self.held.retain(|name, _| name.slot != Some(slot));
            }
            // What else stands in its record changes that as well.
            is_moved = formats.are_joined()
                && view.session.is_some()
                && self.hold(operation.key.as_ref(), view.key.as_ref(), now);
            let stored = |session: Session, known: Option<&ByteView>| {
                let bytes = encode_in(&SessionRecord::new(session), formats, known);
                let record: SessionRecord = decode(&bytes).unwrap();
                (record.session, bytes)
            };
            let times = |value: &Session| session::times(value, now);
            keep(&mut self.sessions, slot, view.session, now, stored, |_| is_moved, times);
        }
        if let Some(id) = token.cloned() {
            // That a claim holds it is stored with its session, or with it as well.
            let is_put_off = |token: &PaymentToken| {
                formats.are_joined()
                    && matches!(token.state, TokenState::Claimed { .. })
                    && now >= token.allowance.expires_at.plus(token::RETENTION / 2)
            };
            let stored = |token: PaymentToken, known: Option<&ByteView>| {
                let mut plain = token.clone();
                if formats.are_joined() && matches!(plain.state, TokenState::Claimed { .. }) {
                    plain.state = TokenState::Active;
                }
                let bytes = encode_in(&plain, formats, known);
                // The older have one number for what was answered and what was an attempt at the card.
                (PaymentToken { state: token.state, ..decode(&bytes).unwrap() }, bytes)
            };
            let times = |token: &PaymentToken| {
                if formats.are_joined() { token::times(token, now) } else { token::older_times(token, now) }
            };
            keep(&mut self.tokens, id, view.token, now, stored, is_put_off, times);
        }
        if let Some(name) = &operation.key {
            self.used.insert(name.clone());
            let stored = |key: KeyRecord, known: Option<&ByteView>| {
                let bytes = encode_in(&key, formats, known);
                (decode(&bytes).unwrap(), bytes)
            };
            let times = |value: &KeyRecord| key_times(value, now);
            keep(&mut self.keys, name.clone(), view.key, now, stored, |_| is_moved, times);
        }
        Ok(decided)
    }

    /// In which formats records are written that belong to this session: the newest where it is written in
    /// that, whatever is written elsewhere.
    fn formats_of(&self, slot: Option<Slot>, now: Timestamp, written: Formats) -> Formats {
        let session = slot.and_then(|slot| self.sessions.get(&slot)).filter(|kept| kept.lives(now));
        match session {
            Some(kept) if kept.bytes[0] == SessionRecord::FORMAT => Formats::NEWEST,
            Some(kept) if kept.bytes[0] == SessionRecord::format_in(Formats::JOINED) => {
                written.max(Formats::JOINED)
            }
            Some(_) | None => written,
        }
    }

    /// Keeps a key in its session's record while it is leased; whether that has changed it.
    fn hold(&mut self, name: Option<&KeyName>, key: Option<&KeyRecord>, now: Timestamp) -> bool {
        let Some(name) = name else { return false };
        let Some(leased) = key.filter(|key| is_held(key)) else {
            return self.held.remove(name).is_some();
        };
        if self.held.get(name).is_some_and(|held| held.value == *leased) {
            return false;
        }
        self.held.retain(|other, held| other.slot != name.slot || held.lives(now));
        let (times, bytes) = (key_times(leased, now), encode(leased).unwrap());
        self.held.insert(name.clone(), Kept { value: leased.clone(), bytes, times });
        true
    }

    /// What a walk through the store should find now.
    pub(super) fn snapshot(&self, ledger: &Ledger) -> Snapshot {
        let now = ledger.moment().steady;
        let due = |(slot, kept): (&Slot, &Kept<Session>)| {
            Some((kept.times.due?, slot.address(ledger).session_key().clone()))
        };
        let mut due: Vec<_> =
            self.sessions.iter().filter(|(_, kept)| kept.lives(now)).filter_map(due).collect();
        due.sort();
        let all = walks_all_kinds(ledger);
        Snapshot {
            sessions: self
                .sessions(now)
                .filter(|_| all)
                .map(|(slot, value)| (slot.address(ledger).session_key().clone(), value.clone()))
                .collect(),
            tokens: self.tokens(now).map(|(id, value)| (token::record_key(id), value.clone())).collect(),
            keys: self
                .keys(now)
                .filter(|_| all)
                .map(|(name, value)| (name.record_key(ledger), value.clone()))
                .collect(),
            due,
        }
    }

    /// Every record that ever was is found by its name, or is not when it has ended.
    pub(super) async fn compare_lookups(&self, ledger: &Ledger) -> Result<(), TestCaseError> {
        let now = ledger.moment().steady;
        for slot in Slot::ALL {
            let view = said(ledger.read(&slot.address(ledger)).await)?;
            prop_assert_eq!(view.session.as_ref(), self.session(slot, now));
        }
        for id in self.tokens.keys() {
            let read = said(ledger.read_token(id).await)?;
            prop_assert_eq!(read.as_ref(), self.token(id, now));
        }
        for name in &self.used {
            let read = match name.slot {
                Some(slot) => said(ledger.read(&slot.address(ledger).with_key(&name.scope())).await)?.key,
                None => said(ledger.load_key(&name.record_key(ledger)).await)?.value,
            };
            prop_assert_eq!(read.as_ref(), self.key(name, now));
        }
        Ok(())
    }
}

/// All that is stored, as one walk finds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    sessions: BTreeMap<RecordKey, Session>,
    tokens: BTreeMap<RecordKey, PaymentToken>,
    keys: BTreeMap<RecordKey, KeyRecord>,
    /// Whatever will be due, in order.
    due: Vec<(Timestamp, RecordKey)>,
}

impl Snapshot {
    pub(super) async fn of_store(ledger: &Ledger) -> Result<Self, TestCaseError> {
        let now = ledger.moment().steady;
        let ever = now.plus(session::RETENTION);
        let (mut sessions, mut keys) = (BTreeMap::new(), walk(ledger).await?);
        for (key, record) in walk::<SessionRecord>(ledger).await? {
            let held = record.keys(now).into_iter();
            keys.extend(held.map(|(scope, held)| (scope.record_key(Some(key.partition())), held)));
            sessions.insert(key, record.session);
        }
        let mut tokens = BTreeMap::new();
        for (key, token) in walk::<PaymentToken>(ledger).await? {
            tokens.extend(said(ledger.read_token(&token.id).await)?.map(|token| (key, token)));
        }
        Ok(Self { sessions, tokens, keys, due: said(ledger.store().due(ever, PLENTY).await)? })
    }
}

/// Of every engine only tokens and the registry must be walked through; the rest is looked up.
fn walks_all_kinds(ledger: &Ledger) -> bool {
    ledger.store().engine() != "redis"
}

async fn walk<T: Stored>(ledger: &Ledger) -> Result<BTreeMap<RecordKey, T>, TestCaseError> {
    let mut found = BTreeMap::new();
    if T::KIND != Kind::Token && !walks_all_kinds(ledger) {
        return Ok(found);
    }
    let mut last: Option<RecordKey> = None;
    loop {
        let page = said(ledger.store().scan(T::KIND, last.as_ref(), PAGE).await)?;
        let Some((key, _)) = page.last() else { return Ok(found) };
        last = Some(key.clone());
        for (key, record) in page {
            prop_assert_eq!(key.kind, T::KIND);
            let value = said(decode(&record.bytes))?;
            prop_assert!(found.insert(key, value).is_none(), "walked over twice");
        }
    }
}
