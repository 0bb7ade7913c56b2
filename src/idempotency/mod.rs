//! Idempotency keys: peek, lease, record (rfc.agentic_checkout §6).
//!
//! A key belongs to one agent, merchant, method and canonical path. From its first use the record
//! keeps the keyed fingerprint of the body, the key sent upstream, and, for forwarded routes, the
//! request itself sealed, so that every re-send, by any replica and after any rotation, is the same
//! request. Answers below 500 that the merchant or we gave are kept sealed for 25 hours. Off the money
//! routes nothing is kept for longer, and of each agent only so much ([`KeptBytes`]).

mod kept;
mod operation;
mod record;
mod scope;

use std::time::Duration;

pub use kept::{KeptBytes, is_readable};
pub use operation::{BodyError, KeptAnswer, KeyRefusal, NotKept, Operation, Taken, held};
pub use record::{Kept, KeyRecord, KeyState, LeaseMark, Recharge, StoredAnswer, StoredRequest, weight};
pub use scope::{Scope, ScopeParts};

use crate::domain::clock::Timestamp;
use crate::domain::session::{Moment, is_alive};
use crate::records::codec::Times;

/// How long a finished key is remembered: 24 h (rfc.agentic_checkout §6.6) and a margin for clocks that
/// disagree.
pub const RETENTION: Duration = Duration::from_secs(25 * 3600);

/// How long an unfinished key of a money route is remembered: as long as a token can live, and the
/// retention.
pub const UNFINISHED_RETENTION: Duration = Duration::from_secs((7 * 24 + 25) * 3600);

/// When a key's record ends: a day and a margin after its answer, later while it has none.
pub fn end(record: &KeyRecord, moment: Moment) -> Timestamp {
    let kept = match &record.state {
        KeyState::Recorded(_) => RETENTION,
        KeyState::Leased(_) | KeyState::Open if record.kept.is_some() => RETENTION,
        KeyState::Leased(_) | KeyState::Open => UNFINISHED_RETENTION,
    };
    moment.latest.plus(kept)
}

/// The times of a key's record.
pub fn times(record: &KeyRecord, moment: Moment) -> Times {
    Times { expires_at: Some(end(record, moment)), due: None }
}

/// What a key's record means for a request that presents it.
pub enum Peek<'r> {
    /// The key is new here.
    Fresh,
    /// It was used for this body, its outcome was not kept, and nobody is working on it.
    Resume,
    /// The answer was kept: it is given again.
    Replay(&'r StoredAnswer),
    /// Somebody is working on it.
    InFlight,
    /// It was used for another body.
    Conflict,
}

/// Reads what a record means for a request whose body has the fingerprint test `same_body`.
pub fn peek<'r>(
    record: Option<&'r KeyRecord>,
    same_body: impl FnOnce(&KeyRecord) -> bool,
    moment: Moment,
) -> Peek<'r> {
    let Some(record) = record else { return Peek::Fresh };
    if !same_body(record) {
        return Peek::Conflict;
    }
    match &record.state {
        KeyState::Recorded(answer) => Peek::Replay(answer),
        KeyState::Leased(mark) if is_alive(mark.incarnation, mark.until, moment) => Peek::InFlight,
        // A lease of a former process, or one that ran out, is void.
        KeyState::Leased(_) | KeyState::Open => Peek::Resume,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::aead::Sealed;
    use crate::domain::id::KeyId;
    use crate::records::codec;

    fn record(state: KeyState) -> KeyRecord {
        let key = KeyId::parse("k1").unwrap();
        KeyRecord {
            fingerprint: [1; 32],
            fingerprint_key: key.clone(),
            upstream_key: "up".into(),
            derivation_key: key,
            state,
            request: None,
            token: None,
            kept: None,
        }
    }

    fn at(seconds: i64, incarnation: u64) -> Moment {
        Moment::at(Timestamp::from_unix_seconds(seconds), incarnation)
    }

    fn leased() -> KeyState {
        KeyState::Leased(LeaseMark { number: 1, incarnation: 7, until: Timestamp::from_unix_seconds(100) })
    }

    #[test]
    fn another_body_conflicts_whatever_the_state() {
        let sealed = Sealed { key: KeyId::parse("k1").unwrap(), bytes: vec![].into() };
        let answer = StoredAnswer { status: 200, content_type: None, body: sealed };
        for state in [leased(), KeyState::Open, KeyState::Recorded(answer)] {
            assert!(matches!(peek(Some(&record(state)), |_| false, at(1, 7)), Peek::Conflict));
        }
    }

    #[test]
    fn a_lease_is_void_after_its_time_and_after_its_process() {
        assert!(matches!(peek(Some(&record(leased())), |_| true, at(99, 7)), Peek::InFlight));
        assert!(matches!(peek(Some(&record(leased())), |_| true, at(100, 7)), Peek::Resume));
        assert!(matches!(peek(Some(&record(leased())), |_| true, at(99, 8)), Peek::Resume));
    }

    #[test]
    fn a_record_of_the_first_format_is_charged_with_nothing() {
        let record = record(leased());
        let mut first = codec::encode(&record).unwrap().to_vec();
        assert_eq!((first[0], first.pop()), (2, Some(0)));
        first[0] = 1;
        assert_eq!(codec::encode_older(&record, 1).unwrap(), first.as_slice().into());
        assert_eq!(codec::encode_older(&record, 2), codec::encode(&record));
        assert_eq!(codec::decode(&first), Ok(record));
    }
}
