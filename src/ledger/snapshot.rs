//! Which records a decision is about, as they were read, and as it changes them.

use super::session;
use super::session_record::{FIRST_WITH_KEYS, HeldKeys, SessionRecord};
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::session::{Moment, Session};
use crate::domain::token::TokenState;
use crate::idempotency::{self, KeyRecord, Scope};
use crate::records::codec::{Loaded, Stored};
use crate::records::formats::Formats;
use crate::records::{RecordKey, Revision, StoreError, Write};
use crate::token::{PaymentToken, RETENTION, older_times, record_key, times};

/// Which records a decision is about. They share the session's partition.
#[derive(Clone, Debug)]
pub struct RecordSet {
    pub(super) session: RecordKey,
    pub(super) token: Option<RecordKey>,
    pub(super) key: Option<(Scope, RecordKey)>,
}

/// The records of a [`RecordSet`] as read, to be changed by a decision.
pub struct Records {
    /// The session or cart.
    pub session: Option<Session>,
    /// The token, where one is named.
    pub token: Option<PaymentToken>,
    /// The record of the idempotency key, where one is used.
    pub key: Option<KeyRecord>,
}

impl Records {
    /// Whether the token can still lead to a charge.
    pub fn has_live_token(&self, now: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_live(now))
    }

    /// The allowance of the token, if it was live before a decision and is not any more: what is to
    /// be given back, once.
    pub fn ended(&self, was_live: bool, now: Timestamp) -> Option<Allowance> {
        self.token
            .as_ref()
            .filter(|token| was_live && !token.is_live(now))
            .map(|token| token.allowance.clone())
    }
}

/// The records of a [`RecordSet`] as this process last read or wrote them. A decision may start from
/// it without reading again: whether it still holds, the commit finds out.
pub struct Snapshot {
    session: Loaded<SessionRecord>,
    token: Option<Loaded<PaymentToken>>,
    scope: Option<Scope>,
    key: Option<Loaded<KeyRecord>>,
    /// What the session's record holds beside the session, while a decision has that.
    held: HeldKeys,
}

impl Snapshot {
    /// The records as they were read, one by one: what the session's record says of token and key goes
    /// before what they have of their own.
    pub(super) fn compose(
        session: Loaded<SessionRecord>,
        mut token: Option<Loaded<PaymentToken>>,
        scoped: Option<(Scope, Loaded<KeyRecord>)>,
        earliest: Timestamp,
    ) -> Result<Self, StoreError> {
        let (scope, mut key) = scoped.unzip();
        if let Some(record) = &session.value {
            if let Some(token) = token.as_mut().and_then(|loaded| loaded.value.as_mut()) {
                record.session.mark_claimed(token);
            }
            if let Some((scope, key)) = scope.as_ref().zip(key.as_mut())
                && let Some(held) = record.key(scope, earliest)?
            {
                key.value = Some(held);
            }
        }
        Ok(Self { session, token, scope, key, held: HeldKeys::default() })
    }

    /// The session or cart.
    pub fn session(&self) -> Option<&Session> {
        self.session.value.as_ref().map(|record| &record.session)
    }

    /// The token, where one is named.
    pub fn token(&self) -> Option<&PaymentToken> {
        self.token.as_ref()?.value.as_ref()
    }

    /// The record of the idempotency key, where one is used.
    pub fn key(&self) -> Option<&KeyRecord> {
        self.key_record()?.value.as_ref()
    }

    /// The same as it was read, absent or not.
    pub fn key_record(&self) -> Option<&Loaded<KeyRecord>> {
        self.key.as_ref()
    }

    pub(super) fn take(&mut self) -> Records {
        let (session, held) = self.session.value.take().map(SessionRecord::split).unzip();
        self.held = held.unwrap_or_default();
        Records {
            session,
            token: self.token.as_mut().and_then(|loaded| loaded.value.take()),
            key: self.key.as_mut().and_then(|loaded| loaded.value.take()),
        }
    }

    /// Lets `decide` change the records; what it leaves behind when it refuses is thrown away.
    pub(super) fn decide<T, E>(&mut self, decide: impl FnOnce(&mut Records) -> Result<T, E>) -> Result<T, E> {
        let mut records = self.take();
        let decided = decide(&mut records)?;
        let held = std::mem::take(&mut self.held);
        self.session.value = records.session.map(|session| SessionRecord::join(session, held));
        if let Some(loaded) = self.token.as_mut() {
            loaded.value = records.token;
        }
        if let Some(loaded) = self.key.as_mut() {
            loaded.value = records.key;
        }
        Ok(decided)
    }
}

impl RecordSet {
    /// With a token of the session. A token whose tag is another partition's is not of this session
    /// and is left out: to the decision it does not exist.
    #[must_use]
    pub fn with_token(mut self, token: &TokenId) -> Self {
        self.token = Some(record_key(token)).filter(|key| key.partition() == self.session.partition());
        self
    }

    /// With the record of an idempotency key used on a route of the session.
    #[must_use]
    pub fn with_key(mut self, scope: &Scope) -> Self {
        self.key = Some((*scope, scope.record_key(Some(self.session.partition()))));
        self
    }

    /// The session's record.
    pub fn session_key(&self) -> &RecordKey {
        &self.session
    }
}

impl Snapshot {
    pub(super) fn expectations(&self) -> Vec<(RecordKey, Revision)> {
        std::iter::once(self.session.expectation())
            .chain(self.token.as_ref().map(Loaded::expectation))
            .chain(self.key.as_ref().map(Loaded::expectation))
            .collect()
    }

    /// What a decision changed: of the session, of the token and of the key; and a key that the session's
    /// record has no room for.
    pub(super) fn changes(
        &mut self,
        moment: Moment,
        written: Formats,
    ) -> Result<[Option<Write>; 4], StoreError> {
        // A session in a format that holds keys was written by somebody who knows that all read it.
        if !written.are_joined() && !self.session.is_from(FIRST_WITH_KEYS) {
            return self.older_changes(moment, written);
        }
        let now = moment.steady;
        // Then what is written of a token with it is read by all, too.
        let is_newest = self.session.is_from(SessionRecord::FORMAT);
        let of_token = if is_newest { Formats::NEWEST } else { written.max(Formats::JOINED) };
        let token = self.token.as_ref().map(|loaded| token_change(loaded, of_token, now));
        let token = token.transpose()?.flatten();
        let [key, spilled] = match (&self.key, self.scope.as_ref(), self.session.value.as_mut()) {
            (Some(key), Some(scope), Some(record)) => record.keep_key(scope, key, moment)?,
            (Some(key), ..) => [key.change(|value| idempotency::times(value, moment))?, None],
            (None, ..) => [None, None],
        };
        // After the key, which may be kept in it.
        let session = self.session.change_in(written, |value| session::times(&value.session, now))?;
        Ok([session, token, key, spilled])
    }

    /// The same where replicas may live that read older formats only: session, token and key have each a
    /// record that says all of it.
    fn older_changes(&self, moment: Moment, written: Formats) -> Result<[Option<Write>; 4], StoreError> {
        let now = moment.steady;
        let session = self.session.change_in(written, |value| session::times(&value.session, now))?;
        let token =
            self.token.as_ref().map(|loaded| loaded.change_in(written, |token| older_times(token, now)));
        let key =
            self.key.as_ref().map(|loaded| loaded.change_in(written, |key| idempotency::times(key, moment)));
        Ok([session, token.transpose()?.flatten(), key.transpose()?.flatten(), None])
    }

    /// Takes it that these changes were written, under this revision.
    pub(super) fn written(&mut self, [session, token, key, _]: &[Option<Write>; 4], revision: Revision) {
        if let Some(write) = session {
            self.session.written(write, revision);
        }
        if let (Some(write), Some(loaded)) = (token, self.token.as_mut()) {
            loaded.written(write, revision);
        }
        if let (Some(write), Some(loaded)) = (key, self.key.as_mut()) {
            loaded.written(write, revision);
        }
    }
}

/// What has changed of a token. One that is claimed is written as it is where its record would end soon:
/// it must not while the claim is open.
fn token_change(
    loaded: &Loaded<PaymentToken>,
    written: Formats,
    now: Timestamp,
) -> Result<Option<Write>, StoreError> {
    let change = if written.are_newest() {
        loaded.change(|token| times(token, now))?
    } else {
        unclaimed(loaded).change_in(written, |token| times(token, now))?
    };
    let may_end_soon = |token: &PaymentToken| {
        matches!(token.state, TokenState::Claimed { .. })
            && now >= token.allowance.expires_at.plus(RETENTION / 2)
    };
    let is_late = change.is_none() && loaded.value.as_ref().is_some_and(may_end_soon);
    Ok(if is_late { loaded.rewrite(|token| times(token, now)) } else { change })
}

/// Without its claim, which its session's record says.
fn unclaimed(loaded: &Loaded<PaymentToken>) -> Loaded<PaymentToken> {
    let mut loaded = loaded.clone();
    if let Some(token) = &mut loaded.value
        && matches!(token.state, TokenState::Claimed { .. })
    {
        token.state = TokenState::Active;
    }
    loaded
}
