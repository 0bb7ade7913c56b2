//! A batch as what its script takes.

use std::time::Duration;

use super::encoding::{Bucket, Place, append};
use super::script::Input;
use super::shared::Shared;
use crate::domain::clock::{Clock, Timestamp};
use crate::records::{Batch, Kind, Revision, Write};

/// Bytes of a key, name or number, mostly less; what does not fit moves once.
const ROOM_A_PART: usize = 64;

/// A record of a batch.
struct Change<'a> {
    place: Place,
    expected: Option<Revision>,
    write: Option<&'a Write>,
}

impl Shared {
    /// The bucket of a batch, and what its script takes; `None` when a key is out of bounds or
    /// another bucket's.
    pub(super) fn prepare(
        &self,
        batch: &Batch,
        revision: Revision,
        clock: &dyn Clock,
    ) -> Option<(Bucket, Input)> {
        let (earliest, now) = (clock.earliest(), clock.now());
        // Each record once: what is expected of it, and the last write, which is the one that counts.
        let mut records: Vec<Change<'_>> = Vec::with_capacity(batch.expect.len() + batch.writes.len());
        for (key, revision) in &batch.expect {
            records.push(Change { place: Place::of(key)?, expected: Some(*revision), write: None });
        }
        for write in &batch.writes {
            let (Write::Put { key, .. } | Write::Delete { key }) = write;
            let place = Place::of(key)?;
            match records.iter_mut().find(|record| record.place == place) {
                Some(record) => record.write = Some(write),
                None => records.push(Change { place, expected: None, write: Some(write) }),
            }
        }
        let bucket = records.first().map_or(Bucket::FIRST, |record| record.place.bucket);
        records.iter().all(|record| record.place.bucket == bucket).then_some(())?;
        let bytes: usize = batch.writes.iter().map(Write::bytes).sum();
        let parts = 7 + 6 * records.len();
        let mut input = Input::with_capacity(parts, bytes + ROOM_A_PART * parts);
        input.key(&bucket.generation());
        input.key(&bucket.due_index());
        input.key(&bucket.index_of(Kind::Token));
        input.key(&bucket.index_of(Kind::Registry));
        records.iter().for_each(|record| input.key(&record.place.key));
        input.argument(&self.identity.load().generation);
        input.number(earliest.unix_millis());
        input.argument(&revision.0.to_be_bytes());
        for Change { place, expected, write } in &records {
            input.argument_by(|out| {
                expected.iter().for_each(|revision| out.extend_from_slice(&revision.0.to_be_bytes()));
            });
            match write {
                Some(Write::Put { bytes, expires_at, due, .. }) => {
                    input.argument(b"put");
                    input.argument_by(|out| append(out, revision, *expires_at, *due, bytes));
                    input.number(life(*expires_at, earliest, now));
                }
                Some(Write::Delete { .. }) => {
                    input.argument(b"delete");
                    input.argument(&[]);
                    input.number(0);
                }
                None => {
                    input.argument(&[]);
                    input.argument(&[]);
                    input.number(0);
                }
            }
            input.argument(place.name().as_bytes());
        }
        Some((bucket, input))
    }
}

/// How long the server keeps a record (ms), by its own clock: whoever reads it decides by ours, so a
/// little longer. 0 for ever. `earliest` lags behind for an hour after all replicas were down: as far as
/// that goes for what lives for minutes, it must not fill the memory.
fn life(expires_at: Option<Timestamp>, earliest: Timestamp, now: Timestamp) -> u64 {
    const LINGERS: u64 = 5_000;
    const MOST_LAG: Duration = Duration::from_secs(2 * 3600);
    expires_at.map_or(0, |at| {
        let left = at.since(earliest).min(at.since(now) + MOST_LAG);
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2) + LINGERS
    })
}
