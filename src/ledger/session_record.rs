//! The record of a session: what changes with it, in one value.
//!
//! The key of a complete is kept in its session's record while somebody works under it, so that to begin
//! a claim writes one record. When the work is over the key gets a record of its own, which ends by itself.

use byteview::ByteView;
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::clock::Timestamp;
use crate::domain::session::{Handlers, Moment, Places, Session};
use crate::idempotency::{self, KeyRecord, KeyState, Scope};
use crate::records::codec::{FIRST_BYTES, Loaded, OLDEST, Rolling, Stored, append_plain, decode, encode};
use crate::records::formats::Formats;
use crate::records::{Kind, StoreError, Write};

/// Keys that are kept with their session at most: more than may be worked under at once. What is beyond
/// was left by processes that are gone.
const MOST_HELD: usize = 16;
/// What stands before the record of one that is held.
const HELD_HEAD_BYTES: usize = 64;
/// The first format that holds keys.
pub(super) const FIRST_WITH_KEYS: u8 = 4;

/// A session and the keys of completes under which somebody works on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Read")]
pub struct SessionRecord {
    /// The session or cart.
    pub session: Session,
    /// The first taken first.
    held: Vec<HeldKey>,
}

/// As it is stored: what came to be kept of the session after the keys stands behind them.
#[derive(Deserialize)]
struct Read {
    session: Session,
    held: Vec<HeldKey>,
    places: Places,
    answered: u8,
    handlers: Handlers,
}

impl From<Read> for SessionRecord {
    fn from(Read { session, held, places, answered, handlers }: Read) -> Self {
        Self { session: Session { places, answered, handlers, ..session }, held }
    }
}

impl Serialize for SessionRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Session { places, answered, handlers, .. } = &self.session;
        (&self.session, &self.held, places, answered, handlers).serialize(serializer)
    }
}

/// A key under which somebody works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldKey {
    scope: Scope,
    expires_at: Timestamp,
    /// As its own record would have it, its format first.
    record: ByteView,
}

impl Stored for SessionRecord {
    const KIND: Kind = Kind::Session;
    const FORMAT: u8 = 5;

    fn room(&self) -> usize {
        FIRST_BYTES + self.held.iter().map(|held| held.record.len() + HELD_HEAD_BYTES).sum::<usize>()
    }

    /// Format 1 had no signs of work and no orders, neither it nor format 2 had troubles, up to format 3
    /// every key had a record of its own, and up to format 4 nothing was known by base URL,
    /// nobody counted what was answered and no handlers were kept.
    fn lacking(format: u8) -> Option<&'static [u8]> {
        match format {
            1 => Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            2 => Some(&[0, 0, 0, 0, 0, 0, 0, 0]),
            3 => Some(&[0, 0, 0, 0, 0, 0]),
            4 => Some(&[0, 0, 0, 0, 0]),
            _ => None,
        }
    }
}

impl Rolling for SessionRecord {
    fn format_in(formats: Formats) -> u8 {
        match formats {
            Formats::OLDER => OLDEST,
            formats if formats.are_newest() => Self::FORMAT,
            _ => FIRST_WITH_KEYS,
        }
    }

    /// Formats before the fourth hold no key.
    fn append_older(&self, format: u8, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let Session {
            kind,
            merchant,
            id,
            owner,
            ending,
            total,
            sequence,
            mutations,
            claim,
            doubted,
            tokens,
            ..
        } = &self.session;
        let Session { created_at, signs, orders, troubles, .. } = &self.session;
        let first = (
            kind, merchant, id, owner, ending, total, sequence, mutations, claim, doubted, tokens, created_at,
        );
        append_plain(&first, out)?;
        if format >= 2 {
            append_plain(&(signs, orders), out)?;
        }
        if format >= 3 {
            append_plain(troubles, out)?;
        }
        if format >= FIRST_WITH_KEYS {
            append_plain(&self.held, out)?;
        }
        if format < Self::FORMAT {
            return Ok(());
        }
        let Session { places, answered, handlers, .. } = &self.session;
        append_plain(&(places, answered, handlers), out)
    }
}

/// The keys that a session's record holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldKeys(Vec<HeldKey>);

impl SessionRecord {
    /// A record of this session that holds no key.
    pub const fn new(session: Session) -> Self {
        Self { session, held: Vec::new() }
    }

    /// What it holds of a key, unless that is over by the `earliest` clock.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn key(&self, scope: &Scope, earliest: Timestamp) -> Result<Option<KeyRecord>, StoreError> {
        let held = self.held.iter().find(|held| held.scope == *scope && earliest < held.expires_at);
        held.map(|held| decode(&held.record)).transpose()
    }

    /// Whether every key it holds can be read.
    pub fn has_readable_keys(&self) -> bool {
        self.held.iter().all(|held| decode::<KeyRecord>(&held.record).is_ok())
    }

    /// Every key it holds.
    #[cfg(test)]
    pub(crate) fn keys(&self, now: Timestamp) -> Vec<(Scope, KeyRecord)> {
        let held = self.held.iter().filter(|held| now < held.expires_at);
        held.map(|held| (held.scope, decode(&held.record).unwrap())).collect()
    }

    pub(super) fn split(self) -> (Session, HeldKeys) {
        (self.session, HeldKeys(self.held))
    }

    pub(super) fn join(session: Session, held: HeldKeys) -> Self {
        Self { session, held: held.0 }
    }

    /// Keeps the key of a complete here while somebody works under it, and lets it go afterwards; the write
    /// of what it has of its own, and of whatever there is no room for any more. The keys of other
    /// mutations, of which many may be worked under at once, keep records of their own.
    pub(super) fn keep_key(
        &mut self,
        scope: &Scope,
        key: &Loaded<KeyRecord>,
        moment: Moment,
    ) -> Result<[Option<Write>; 2], StoreError> {
        let times = |record: &KeyRecord| idempotency::times(record, moment);
        let Some(record) = key.value.as_ref().filter(|record| is_held(record)) else {
            let before = self.held.len();
            self.held.retain(|held| held.scope != *scope);
            let own = key.change(times)?;
            // Its end counts from now on, also where it says what it said before.
            let is_back = own.is_none() && self.held.len() < before;
            return Ok([if is_back { key.rewrite(times) } else { own }, None]);
        };
        let bytes = encode(record)?;
        let is_known = self.held.iter().any(|held| held.scope == *scope && held.record == bytes);
        if !is_known {
            self.held.retain(|held| held.scope != *scope && moment.earliest < held.expires_at);
            let expires_at = idempotency::end(record, moment);
            self.held.push(HeldKey { scope: *scope, expires_at, record: bytes });
        }
        let spilled = (self.held.len() > MOST_HELD).then(|| self.held.remove(0));
        Ok([None, spilled.map(|spilled| spilled.into_write(key))])
    }
}

/// Whether the key stands in its session's record.
pub(crate) fn is_held(record: &KeyRecord) -> bool {
    matches!(record.state, KeyState::Leased(_)) && record.kept.is_none()
}

impl HeldKey {
    /// Its own record, in the partition of `neighbour`.
    fn into_write(self, neighbour: &Loaded<KeyRecord>) -> Write {
        Write::Put {
            key: self.scope.record_key(Some(neighbour.key.partition())),
            bytes: self.record,
            expires_at: Some(self.expires_at),
            due: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base_url::BaseUrl;
    use crate::domain::id::{AgentId, KeyId, MerchantId, SessionId};
    use crate::domain::session::{Fruitless, HandlerMark, SessionKind};
    use crate::idempotency::{LeaseMark, ScopeParts};
    use crate::records::codec::encode_older;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

    fn session() -> Session {
        let (merchant, id) = (MerchantId::parse("shop").unwrap(), SessionId::parse("cs_1").unwrap());
        Session::new(SessionKind::Checkout, merchant, id, AgentId::parse("agent").unwrap(), NOW)
    }

    fn scope(key: &str) -> Scope {
        let agent = AgentId::parse("agent").unwrap();
        ScopeParts { agent: &agent, merchant: None, method: "POST", path: "/p", key }.scope()
    }

    fn key(name: &str, state: KeyState) -> (Scope, Loaded<KeyRecord>) {
        let scope = scope(name);
        let mut loaded = Loaded::decode(scope.record_key(Some("tag")), None).unwrap();
        let id = KeyId::parse("k1").unwrap();
        loaded.value = Some(KeyRecord {
            fingerprint: [1; 32],
            fingerprint_key: id.clone(),
            upstream_key: "up".into(),
            derivation_key: id,
            state,
            request: None,
            token: None,
            kept: None,
        });
        (scope, loaded)
    }

    fn leased(number: u64) -> KeyState {
        KeyState::Leased(LeaseMark { number, incarnation: 1, until: NOW })
    }

    fn at(seconds: i64) -> Moment {
        Moment::at(Timestamp::from_unix_seconds(seconds), 1)
    }

    #[test]
    fn a_key_is_the_sessions_while_it_is_worked_under_and_its_own_afterwards() {
        let mut record = SessionRecord::new(session());
        let (scope, mut loaded) = key("a", leased(1));
        assert_eq!(record.keep_key(&scope, &loaded, at(1_000)), Ok([None, None]));
        assert_eq!(record.key(&scope, NOW).unwrap(), loaded.value);
        assert_eq!(decode::<SessionRecord>(&encode(&record).unwrap()), Ok(record.clone()));
        let end = idempotency::end(loaded.value.as_ref().unwrap(), at(1_000));
        assert_eq!(record.key(&scope, end), Ok(None), "it ends as a record of its own would");

        loaded.value.as_mut().unwrap().state = KeyState::Open;
        let [own, spilled] = record.keep_key(&scope, &loaded, at(1_001)).unwrap();
        assert!(spilled.is_none() && record.key(&scope, NOW).unwrap().is_none());
        let Some(Write::Put { key, bytes, .. }) = own else { panic!("{own:?}") };
        assert_eq!((key, decode(&bytes)), (scope.record_key(Some("tag")), Ok(loaded.value.unwrap())));
    }

    #[test]
    fn a_session_holds_a_bounded_number_of_keys_and_the_oldest_gets_a_record_of_its_own() {
        let mut record = SessionRecord::new(session());
        let (first, _) = key("0", leased(0));
        for number in 0..=MOST_HELD {
            let (scope, loaded) = key(&number.to_string(), leased(7));
            let [own, spilled] = record.keep_key(&scope, &loaded, at(1_000)).unwrap();
            assert!(own.is_none());
            let Some(Write::Put { key, bytes, expires_at, .. }) = spilled else {
                assert!(number < MOST_HELD);
                continue;
            };
            assert_eq!((number, key), (MOST_HELD, first.record_key(Some("tag"))));
            let spilled: KeyRecord = decode(&bytes).unwrap();
            assert_eq!(
                (spilled.state.clone(), expires_at),
                (leased(7), Some(idempotency::end(&spilled, at(1_000))))
            );
        }
        assert_eq!((record.held.len(), record.key(&first, NOW)), (MOST_HELD, Ok(None)));
    }

    #[test]
    fn what_has_ended_makes_room() {
        let mut record = SessionRecord::new(session());
        for (number, seconds) in [(1, 1_000), (2, 1_000 + 40 * 24 * 3_600)] {
            let (scope, loaded) = key(&number.to_string(), leased(number));
            record.keep_key(&scope, &loaded, at(seconds)).unwrap();
        }
        assert_eq!(record.held.len(), 1);
    }

    #[test]
    fn a_session_written_before_signs_orders_troubles_and_held_keys_were_kept_is_read_without_any() {
        let mut record = SessionRecord::new(session());
        // One written by that release, byte for byte.
        let mut old = vec![1, 1];
        for text in ["shop", "cs_1", "agent"] {
            old.push(u8::try_from(text.len()).unwrap());
            old.extend(text.as_bytes());
        }
        old.extend([0, 0, 0, 0, 0, 0, 0, 0x80, 0x89, 0x7a]);
        assert_eq!(decode::<SessionRecord>(&old), Ok(record.clone()));
        let mut second = [&old[..], &[0, 0, 0, 0]].concat();
        second[0] = 2;
        assert_eq!(decode::<SessionRecord>(&second), Ok(record.clone()));
        let mut third = [&second[..], &[0, 0]].concat();
        third[0] = 3;
        assert_eq!(decode::<SessionRecord>(&third), Ok(record.clone()));
        let mut fourth = [&third[..], &[0]].concat();
        fourth[0] = 4;
        assert_eq!(decode::<SessionRecord>(&fourth), Ok(record.clone()));
        for older in [&old, &second, &third, &fourth] {
            assert_eq!(encode_older(&record, older[0]).unwrap(), older.as_slice().into());
        }
        assert_eq!(encode_older(&record, 5), encode(&record));
        record.session.answered = 7;
        record.session.handlers = Handlers::of([HandlerMark([8; 8])]);
        assert_eq!(encode_older(&record, 4).unwrap(), fourth.as_slice().into(), "not kept");
        record.session.troubles.read = Some(Fruitless::Refused(400));
        record.session.places.claim = Some(BaseUrl::new("https://shop.example"));
        let now = encode(&record).unwrap();
        assert_eq!(now.first(), Some(&5));
        assert_eq!(decode::<SessionRecord>(&now), Ok(record));
        old[0] = 6;
        assert_eq!(decode::<SessionRecord>(&old), Err(StoreError::Corrupt), "of a later release");
    }
}
