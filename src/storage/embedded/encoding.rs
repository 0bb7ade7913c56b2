//! How records, keys and the index of what is due stand in the database. Apart because every byte
//! here is a promise to stores already on disk: [`super::store_directory::FORMAT`] counts the changes.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use byteview::ByteView;
use fjall::Slice;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::clock::Timestamp;
use crate::records::{Kind, RecordKey, Revision};

const MAX_PARTITION_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 512;
const TIME_BYTES: usize = 8;

/// A record's key in the database: in its kind's keyspace partition, 0x00, name. No partition holds
/// 0x00, so that no two records share a key, and keys sort as [`RecordKey`] does. In an index its
/// kind's number stands before it.
#[derive(Clone, Debug)]
pub(super) struct StoreKey {
    key: RecordKey,
    /// Of all of it, by a seed of this process's own: worked out once for every table it is looked up in.
    hash: u64,
}

impl StoreKey {
    /// Encodes a key; `None` when it breaks [`RecordKey`]'s bounds.
    pub(super) fn of(key: &RecordKey) -> Option<Self> {
        let (partition, name) = (key.partition(), key.name());
        let fits = partition.len() <= MAX_PARTITION_BYTES
            && name.len() <= MAX_NAME_BYTES
            && !partition.contains('\0');
        fits.then(|| Self::hashed(key.clone()))
    }

    /// The key of `kind` that stands as `within` in its keyspace; `None` when the bytes are not ours.
    pub(super) fn from_keyspace(kind: Kind, within: &[u8]) -> Option<Self> {
        RecordKey::parse(kind, std::str::from_utf8(within).ok()?).map(Self::hashed)
    }

    fn hashed(key: RecordKey) -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        let hash = xxh3_64_with_seed(key.as_str().as_bytes(), *SEED ^ u64::from(number(key.kind)));
        Self { key, hash }
    }

    /// What it is; also which keyspace it is in.
    pub(super) fn kind(&self) -> Kind {
        self.key.kind
    }

    /// The key within its kind's keyspace.
    pub(super) fn within_keyspace(&self) -> &[u8] {
        self.key.as_str().as_bytes()
    }

    /// The same, for the database to keep, without a copy.
    pub(super) fn to_slice(&self) -> Slice {
        ByteView::from(self.key.text().clone()).into()
    }

    /// The key as stages know it.
    pub(super) fn into_record_key(self) -> RecordKey {
        self.key
    }
}

impl PartialEq for StoreKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Eq for StoreKey {}

impl Hash for StoreKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash that a [`StoreKey`] brings for its own.
#[derive(Clone, Default)]
pub(super) struct Brought(u64);

/// For tables of [`StoreKey`]s.
pub(super) type ByBroughtHash = BuildHasherDefault<Brought>;

impl Hasher for Brought {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Where `kind` stands in [`Kind::ALL`], which the keyspaces follow.
pub(super) fn position(kind: Kind) -> usize {
    usize::from(number(kind).saturating_sub(1))
}

fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Session => 1,
        Kind::Token => 2,
        Kind::Idempotency => 3,
        Kind::Replay => 4,
        Kind::Velocity => 5,
        Kind::Registry => 6,
    }
}

/// Which record a time index speaks of, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) at: Timestamp,
    pub(super) key: StoreKey,
}

impl IndexEntry {
    /// Time first, so that the index is read in the order of time.
    pub(super) fn encode(at: Timestamp, key: &StoreKey) -> Slice {
        let mut head = [number(key.kind()); TIME_BYTES + 1];
        if let Some(place) = head.first_chunk_mut() {
            *place = time(at);
        }
        ByteView::fused(&head, key.within_keyspace()).into()
    }

    /// Reads an entry; `None` when the bytes are not ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk::<TIME_BYTES>()?;
        let millis = (u64::from_be_bytes(*at) ^ SIGN).cast_signed();
        let (kind, within) = rest.split_first()?;
        let kind = Kind::ALL.into_iter().find(|known| number(*known) == *kind)?;
        Some(Self { at: Timestamp::from_unix_millis(millis), key: StoreKey::from_keyspace(kind, within)? })
    }
}

// Flipped, so that instants before 1970 sort before those after it.
const SIGN: u64 = 1 << 63;

/// An instant in the order of bytes.
pub(super) fn time(at: Timestamp) -> [u8; TIME_BYTES] {
    (at.unix_millis().cast_unsigned() ^ SIGN).to_be_bytes()
}

/// What stands before a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) revision: Revision,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) due: Option<Timestamp>,
}

const VALUE_VERSION: u8 = 1;
const HAS_EXPIRY: u8 = 1;
const HAS_DUE: u8 = 2;
const LONGEST_HEADER: usize = 2 + 3 * size_of::<u64>();

impl Header {
    /// The header, then the content: version, flags, revision, expiry and due instant if any.
    pub(super) fn encode_with(self, content: &[u8]) -> Slice {
        let mut head: SmallVec<[u8; LONGEST_HEADER]> = SmallVec::new();
        head.push(VALUE_VERSION);
        let flag = |instant: Option<Timestamp>, flag| if instant.is_some() { flag } else { 0 };
        head.push(flag(self.expires_at, HAS_EXPIRY) | flag(self.due, HAS_DUE));
        head.extend_from_slice(&self.revision.0.to_be_bytes());
        for instant in [self.expires_at, self.due].into_iter().flatten() {
            head.extend_from_slice(&instant.unix_millis().to_be_bytes());
        }
        ByteView::fused(&head, content).into()
    }

    /// Splits a value; `None` when it is not one of ours.
    pub(super) fn decode(value: &[u8]) -> Option<(Self, &[u8])> {
        let ([version, flags], rest) = value.split_first_chunk()?;
        if *version != VALUE_VERSION || flags & !(HAS_EXPIRY | HAS_DUE) != 0 {
            return None;
        }
        let (revision, mut rest) = rest.split_first_chunk()?;
        let mut instant = |flag| {
            if flags & flag == 0 {
                return Some(None);
            }
            let (millis, after) = rest.split_first_chunk()?;
            rest = after;
            Some(Some(Timestamp::from_unix_millis(i64::from_be_bytes(*millis))))
        };
        let expires_at = instant(HAS_EXPIRY)?;
        let due = instant(HAS_DUE)?;
        Some((Self { revision: Revision(u64::from_be_bytes(*revision)), expires_at, due }, rest))
    }

    /// Whether the record counts as absent.
    pub(super) fn is_expired(self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(partition: &str, name: &str) -> RecordKey {
        RecordKey::new(Kind::Token, partition, name)
    }

    #[test]
    fn keys_out_of_bounds_have_no_encoding() {
        assert!(StoreKey::of(&key("p", "n")).is_some());
        assert!(StoreKey::of(&key(&"p".repeat(65), "n")).is_none());
        assert!(StoreKey::of(&key("p", &"n".repeat(513))).is_none());
        assert!(StoreKey::of(&key("p\0", "n")).is_none());
    }

    #[test]
    fn every_kind_has_the_place_its_number_says() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(position(kind), index);
        }
    }

    proptest! {
        #[test]
        fn keys_return_and_sort_as_record_keys_do(
            names in prop::collection::vec(("[A-Za-z0-9._~-]{0,4}", "[!-~]{0,4}"), 2)
        ) {
            let keys: Vec<RecordKey> = names.iter().map(|(p, n)| key(p, n)).collect();
            let stored: Vec<StoreKey> = keys.iter().map(|k| StoreKey::of(k).unwrap()).collect();
            prop_assert_eq!(stored[0].clone().into_record_key(), keys[0].clone());
            let order = stored[0].within_keyspace().cmp(stored[1].within_keyspace());
            prop_assert_eq!(order, keys[0].cmp(&keys[1]));
        }

        #[test]
        fn index_entries_return_and_sort_by_time(first: i64, second: i64) {
            let stored = StoreKey::of(&key("p", "n")).unwrap();
            let [a, b] = [first, second].map(Timestamp::from_unix_millis);
            let encoded = IndexEntry::encode(a, &stored);
            prop_assert_eq!(encoded.cmp(&IndexEntry::encode(b, &stored)), a.cmp(&b));
            prop_assert_eq!(IndexEntry::decode(&encoded).unwrap(), IndexEntry { at: a, key: stored });
        }

        #[test]
        fn values_return_with_their_header(
            revision: u64, expires: Option<i64>, due: Option<i64>, content: Vec<u8>
        ) {
            let header = Header {
                revision: Revision(revision),
                expires_at: expires.map(Timestamp::from_unix_millis),
                due: due.map(Timestamp::from_unix_millis),
            };
            let value = header.encode_with(&content);
            let (read, rest) = Header::decode(&value).unwrap();
            prop_assert_eq!(read, header);
            prop_assert_eq!(rest, &content[..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Header::decode(&bytes);
            let _ = IndexEntry::decode(&bytes);
        }
    }
}
