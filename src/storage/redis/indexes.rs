//! Finding records without their names: those that are due, and those of a kind. Each bucket has its
//! own indexes, beside the records they name. An index that is empty may be one that was lost, so
//! each is believed only with the bucket's generation.

use std::collections::VecDeque;

use super::call::{Request, read_error};
use super::encoding::{Bucket, Place, Stored, name_of};
use super::portion::{MOST_RECORDS, Part};
use super::script::Input;
use super::shared::Shared;
use crate::domain::clock::Timestamp;
use crate::records::{Kind, PAGE_BYTES, Record, RecordKey, StoreError};

/// Buckets whose indexes are read in one go.
const MOST_BUCKETS: usize = 64;
/// Entries of one index read in one go.
const MOST_ENTRIES: usize = 10_000;

impl Shared {
    /// Entries of the same index of several buckets.
    async fn entries(
        &self,
        buckets: &[Bucket],
        command: impl Fn(Bucket) -> redis::Cmd,
    ) -> Result<Vec<Vec<Vec<u8>>>, StoreError> {
        let reads = buckets.iter().map(|bucket| {
            let command = command(*bucket);
            async move {
                let answered = self.call(*bucket, &Request::Plain(&command)).await.map_err(read_error)?;
                self.values(*bucket, &[]).await?;
                redis::from_redis_value(answered.value).map_err(|_| StoreError::Corrupt)
            }
        });
        futures_util::future::join_all(reads).await.into_iter().collect()
    }

    /// The first of the records that an index of a bucket names, how many of its names those are, and
    /// what is wrong with those that are not there (any more, or not as the index says) tidied away.
    async fn indexed(
        &self,
        bucket: Bucket,
        index: &str,
        names: &[Vec<u8>],
        part: Part,
    ) -> Result<(Vec<(Place, Stored)>, usize), StoreError> {
        let places: Vec<Place> = names
            .iter()
            .take(MOST_RECORDS)
            .map(|name| Place::indexed(bucket, &String::from_utf8_lossy(name)))
            .collect();
        let values = self.portion(bucket, &places, part).await?;
        let count = values.len();
        let wants_due = part == Part::Head;
        let mut found = Vec::with_capacity(count);
        for (place, value) in places.into_iter().zip(values) {
            match value {
                Some(stored) if !wants_due || stored.due.is_some() => found.push((place, stored)),
                _ => self.forget(bucket, index, &place, wants_due).await?,
            }
        }
        Ok((found, count))
    }

    async fn forget(&self, bucket: Bucket, index: &str, place: &Place, due: bool) -> Result<(), StoreError> {
        let mut input = Input::default();
        input.key(index);
        input.key(&place.key);
        input.argument(place.name().as_bytes());
        input.argument(if due { b"due" } else { b"index" });
        let request = Request::Script { script: &self.scripts.forget, input, waits: false };
        self.call(bucket, &request).await.map(drop).map_err(read_error)
    }

    pub(super) async fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RecordKey)>, StoreError> {
        let buckets: Vec<Bucket> = Bucket::all().collect();
        let most = limit.min(MOST_ENTRIES);
        let names = self
            .entries(&buckets, |bucket| {
                let mut command = redis::cmd("ZRANGE");
                command.arg(bucket.due_index()).arg("-inf").arg(now.unix_millis()).arg("BYSCORE");
                command.arg("LIMIT").arg(0).arg(most);
                command
            })
            .await?;
        let mut due = Vec::new();
        for (bucket, names) in buckets.into_iter().zip(names) {
            let mut left = names.as_slice();
            while !left.is_empty() {
                // Of these only the instant matters.
                let (found, count) = self.indexed(bucket, &bucket.due_index(), left, Part::Head).await?;
                left = left.get(count..).unwrap_or_default();
                for (place, stored) in found {
                    if let Some(at) = stored.due.filter(|at| *at <= now) {
                        due.push((at, place.decode().ok_or(StoreError::Corrupt)?));
                    }
                }
            }
        }
        due.sort();
        due.truncate(limit);
        Ok(due)
    }

    pub(super) async fn scan(
        &self,
        kind: Kind,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        if !matches!(kind, Kind::Token | Kind::Registry) {
            return Err(StoreError::Unavailable);
        }
        let most = limit.min(MOST_ENTRIES);
        let mut after = after.map(|key| (Bucket::of(key.partition()), name_of(key)));
        let first = after.as_ref().map_or(Bucket::FIRST, |(bucket, _)| *bucket);
        let mut buckets: VecDeque<Bucket> = first.and_later().collect();
        let (mut found, mut bytes) = (Vec::new(), 0);
        // A large store fills a page from one bucket; a small one is looked through in a few strides.
        let mut stride = 1;
        while limit > 0 && !buckets.is_empty() {
            let open: Vec<Bucket> = buckets.iter().take(stride).copied().collect();
            stride = MOST_BUCKETS.min(stride * 2);
            let names = self
                .entries(&open, |bucket| {
                    let from = after.as_ref().filter(|(at, _)| *at == bucket);
                    let from = from.map_or_else(|| "-".to_owned(), |(_, name)| format!("({name}"));
                    let mut command = redis::cmd("ZRANGE");
                    command.arg(bucket.index_of(kind)).arg(from).arg("+").arg("BYLEX");
                    command.arg("LIMIT").arg(0).arg(most);
                    command
                })
                .await?;
            for (bucket, names) in open.into_iter().zip(names) {
                let mut left = names.as_slice();
                while !left.is_empty() {
                    let (portion, count) =
                        self.indexed(bucket, &bucket.index_of(kind), left, Part::Whole).await?;
                    left = left.get(count..).unwrap_or_default();
                    for (place, stored) in portion {
                        bytes += stored.bytes();
                        found.push((place.decode().ok_or(StoreError::Corrupt)?, stored.record()));
                        if found.len() >= limit || bytes >= PAGE_BYTES {
                            return Ok(found);
                        }
                    }
                }
                // A bucket is read until its index has no more: names without records end no page.
                if names.len() == most {
                    after = names.last().map(|name| (bucket, String::from_utf8_lossy(name).into_owned()));
                    break;
                }
                buckets.pop_front();
            }
        }
        Ok(found)
    }
}
