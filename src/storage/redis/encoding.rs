//! How records lie in Redis: hash tags, names, and what stands in front of their bytes.
//!
//! Under which hash tag, under which names, and what stands in front of their bytes. Apart because every
//! byte here is a promise to stores that exist.
//!
//! Records that change together must lie in one hash slot, and so must the indexes that find them.
//! A partition therefore falls into one of 256 buckets, whose number is the hash tag of everything
//! in it: as many indexes to look through, however many sessions there are, and enough to spread
//! evenly over any cluster of sensible size.

use byteview::ByteView;

use crate::domain::clock::Timestamp;
use crate::records::{Kind, Record, RecordKey, Revision};

const MAX_PARTITION_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 512;
/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// The hash tag a partition falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket(u8);

impl Bucket {
    /// How many there are: fixed for the life of a store.
    pub(super) const COUNT: usize = 256;
    /// Where the store keeps what it remembers about itself.
    pub(super) const FIRST: Self = Self(0);

    /// Every bucket.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Every bucket from this one on.
    pub(super) fn and_later(self) -> impl Iterator<Item = Self> {
        (self.0..=u8::MAX).map(Self)
    }

    /// Where a partition's records are (FNV-1a of its name).
    pub(super) fn of(partition: &str) -> Self {
        let hash = partition
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, d] = hash.to_be_bytes();
        Self(a ^ b ^ c ^ d)
    }

    /// Its number.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The slot of a Redis Cluster it lies in (Redis Cluster specification, "Hash tags").
    pub(super) fn slot(self) -> u16 {
        let tag = format!("{:02x}", self.0);
        let crc = tag.bytes().fold(0_u16, |mut crc, byte| {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            }
            crc
        });
        crc % SLOTS
    }

    fn key(self, name: &str) -> String {
        let mut key = self.key_with_room(name.len());
        key.push_str(name);
        key
    }

    /// What every key of the bucket begins with, in a text with room for so many bytes more.
    fn key_with_room(self, bytes: usize) -> String {
        let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
        let mut key = String::with_capacity("cs:{00}:".len() + bytes);
        key.push_str("cs:{");
        key.extend([digit(self.0 >> 4), digit(self.0 & 0xf)]);
        key.push_str("}:");
        key
    }

    /// The key of the generation, which every script checks.
    pub(super) fn generation(self) -> String {
        self.key("generation")
    }

    /// A key that is never there, to see whether writes are taken.
    pub(super) fn probe(self) -> String {
        self.key("probe")
    }

    /// Which server was seen as its primary last, and since when.
    pub(super) fn primary(self) -> String {
        self.key("primary")
    }

    /// The index of records that are due.
    pub(super) fn due_index(self) -> String {
        self.key("due")
    }

    /// The index of the records of a kind; only tokens and the registry have one.
    pub(super) fn index_of(self, kind: Kind) -> String {
        self.key(&format!("index:{}", char::from(letter(kind))))
    }

    /// The record of a rate limit.
    pub(super) fn rate(self, name: &str) -> String {
        self.key(&format!("rate:{name}"))
    }
}

/// Where the store remembers what it is.
pub(super) fn identity_key() -> String {
    Bucket::FIRST.key("identity")
}

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its bucket.
    pub(super) bucket: Bucket,
    /// Its key in Redis.
    pub(super) key: String,
    /// Where within [`Self::key`] its name in the indexes begins.
    name_at: usize,
}

impl AsRef<Place> for Place {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Place {
    /// The place of a record; `None` when its key breaks [`RecordKey`]'s bounds.
    pub(super) fn of(key: &RecordKey) -> Option<Self> {
        let (partition, name) = (key.partition(), key.name());
        let partition_fits = !partition.is_empty()
            && partition.len() <= MAX_PARTITION_BYTES
            && partition
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'));
        let name_fits = name.len() <= MAX_NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic());
        (partition_fits && name_fits).then(|| {
            let bucket = Bucket::of(partition);
            let mut text = bucket.key_with_room(name_bytes(key));
            let name_at = text.len();
            push_name(&mut text, key);
            Self { bucket, key: text, name_at }
        })
    }

    /// The place of what an index of `bucket` names.
    pub(super) fn indexed(bucket: Bucket, name: &str) -> Self {
        let key = bucket.key(name);
        Self { bucket, name_at: key.len() - name.len(), key }
    }

    /// Its name in the indexes.
    pub(super) fn name(&self) -> &str {
        self.key.get(self.name_at..).unwrap_or_default()
    }

    /// The record's key as stages know it; `None` when the name is not ours.
    pub(super) fn decode(&self) -> Option<RecordKey> {
        let (kind, rest) = self.name().split_once(':')?;
        let (partition, name) = rest.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|known| [letter(*known)] == *kind.as_bytes())?;
        Some(RecordKey::new(kind, partition, name))
    }
}

/// A record's name in the indexes.
pub(super) fn name_of(key: &RecordKey) -> String {
    let mut name = String::with_capacity(name_bytes(key));
    push_name(&mut name, key);
    name
}

fn name_bytes(key: &RecordKey) -> usize {
    "k:/".len() + key.partition().len() + key.name().len()
}

fn push_name(text: &mut String, key: &RecordKey) {
    text.push(char::from(letter(key.kind)));
    text.push(':');
    text.push_str(key.partition());
    text.push('/');
    text.push_str(key.name());
}

const fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::Session => b's',
        Kind::Token => b't',
        Kind::Idempotency => b'i',
        Kind::Replay => b'r',
        Kind::Velocity => b'v',
        Kind::Registry => b'g',
    }
}

/// What stands in front of a record's bytes: revision, expiry, due instant; 8 bytes each.
const HEADER_BYTES: usize = 24;
const NONE: i64 = 0;

/// Appends a record's value.
pub(super) fn append(
    out: &mut Vec<u8>,
    revision: Revision,
    expires_at: Option<Timestamp>,
    due: Option<Timestamp>,
    bytes: &[u8],
) {
    let time = |at: Option<Timestamp>| at.map_or(NONE, Timestamp::unix_millis).to_be_bytes();
    out.extend_from_slice(&revision.0.to_be_bytes());
    out.extend_from_slice(&time(expires_at));
    out.extend_from_slice(&time(due));
    out.extend_from_slice(bytes);
}

/// A value as read.
pub(super) struct Stored {
    /// Which version.
    pub(super) revision: Revision,
    /// Absent from then on.
    pub(super) expires_at: Option<Timestamp>,
    /// To be looked at then.
    pub(super) due: Option<Timestamp>,
    bytes: ByteView,
}

impl Stored {
    /// Reads a value; `None` when it is not one of ours.
    pub(super) fn parse(value: Vec<u8>) -> Option<Self> {
        let mut words = value.get(..HEADER_BYTES)?.chunks_exact(8).filter_map(|word| word.try_into().ok());
        let revision = Revision(u64::from_be_bytes(words.next()?));
        let mut time = || {
            let at = i64::from_be_bytes(words.next()?);
            Some((at != NONE).then(|| Timestamp::from_unix_millis(at)))
        };
        let (expires_at, due) = (time()?, time()?);
        Some(Self { revision, expires_at, due, bytes: ByteView::new(value.get(HEADER_BYTES..)?) })
    }

    /// Whether reads answer "absent" at `now`.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The length of its content.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// As stages know it.
    pub(super) fn record(self) -> Record {
        Record { revision: self.revision, bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: &str, name: &str) -> RecordKey {
        RecordKey::new(Kind::Token, partition, name)
    }

    #[test]
    fn a_place_names_its_record_and_nothing_else_does() {
        let record = key("AbCd012345", "vt_x/y:z");
        let place = Place::of(&record).unwrap();
        assert_eq!(place.name(), "t:AbCd012345/vt_x/y:z");
        assert_eq!(place.decode(), Some(record));
        assert_eq!(Place::indexed(place.bucket, place.name()), place);
        for (partition, name) in [("", "n"), ("p/q", "n"), ("p{}", "n"), ("p", "a b"), ("p", "a\n")] {
            assert_eq!(Place::of(&key(partition, name)), None, "{partition:?} {name:?}");
        }
        assert_eq!(Place::of(&key(&"p".repeat(65), "n")), None);
        assert_eq!(Place::of(&key("p", &"n".repeat(513))), None);
    }

    #[test]
    fn a_value_reads_back_with_its_header() {
        let (at, due) = (Timestamp::from_unix_millis(1_800_000_000_123), Timestamp::from_unix_millis(5));
        let encode = |revision, expires_at, due, bytes: &[u8]| {
            let mut out = Vec::new();
            append(&mut out, revision, expires_at, due, bytes);
            out
        };
        let stored = Stored::parse(encode(Revision(7), Some(at), Some(due), b"content")).unwrap();
        assert_eq!((stored.revision, stored.expires_at, stored.due), (Revision(7), Some(at), Some(due)));
        assert!(stored.is_expired(at) && !stored.is_expired(at.minus(std::time::Duration::from_millis(1))));
        assert_eq!(stored.record().bytes, "content".into());
        let empty = Stored::parse(encode(Revision(1), None, None, b"")).unwrap();
        assert_eq!((empty.expires_at, empty.due), (None, None));
        assert!(Stored::parse(vec![0; 23]).is_none());
    }

    #[test]
    fn slots_are_those_of_the_redis_cluster_specification() {
        // CLUSTER KEYSLOT of a key with this tag, as a server answers it.
        assert_eq!(Bucket(0x00).slot(), 13_254);
        assert_eq!(Bucket(0xff).slot(), 11_756);
    }

    #[test]
    fn partitions_spread_over_all_buckets_and_buckets_over_all_nodes() {
        let used: std::collections::HashSet<_> =
            (0..4_000).map(|n| Bucket::of(&format!("partition-{n}"))).collect();
        assert!(used.len() > 250, "{} of 256", used.len());
        for nodes in [3, 6] {
            let mut share = vec![0; nodes];
            Bucket::all().for_each(|bucket| share[usize::from(bucket.slot()) * nodes / 16_384] += 1);
            assert!(share.iter().all(|count| count * nodes > 200 && count * nodes < 320), "{share:?}");
        }
    }
}
