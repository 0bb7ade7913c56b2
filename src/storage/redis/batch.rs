//! A batch as what its script takes.

use super::Shared;
use super::encoding::{Bucket, Place, append};
use super::script::Input;
use crate::domain::clock::Timestamp;
use crate::records::{Batch, Kind, Revision, Write};

/// Bytes of a key, name or number, mostly less; what does not fit moves once.
const ROOM_A_PART: usize = 96;

impl Shared {
    /// The bucket of a batch, and what its script takes; `None` when a key is out of bounds or
    /// another bucket's.
    pub(super) fn prepare(
        &self,
        batch: &Batch,
        revision: Revision,
        now: Timestamp,
    ) -> Option<(Bucket, Input)> {
        let expected: Vec<(Place, Revision)> = batch
            .expect
            .iter()
            .map(|(key, revision)| Some((Place::of(key)?, *revision)))
            .collect::<Option<_>>()?;
        // The last write of a key is the one that counts.
        let mut writes: Vec<(Place, &Write)> = Vec::with_capacity(batch.writes.len());
        for write in &batch.writes {
            let (Write::Put { key, .. } | Write::Delete { key }) = write;
            let place = Place::of(key)?;
            writes.retain(|(known, _)| *known != place);
            writes.push((place, write));
        }
        let places = || expected.iter().map(|(place, _)| place).chain(writes.iter().map(|(place, _)| place));
        let bucket = places().next().map_or(Bucket::FIRST, |place| place.bucket);
        places().all(|place| place.bucket == bucket).then_some(())?;
        let bytes: usize = batch.writes.iter().map(Write::bytes).sum();
        let parts = 8 + 2 * expected.len() + 4 * writes.len();
        let mut input = Input::with_capacity(parts, bytes + ROOM_A_PART * parts);
        input.key(&bucket.generation());
        input.key(&bucket.due());
        input.key(&bucket.index_of(Kind::Token));
        input.key(&bucket.index_of(Kind::Registry));
        places().for_each(|place| input.key(&place.key));
        input.argument(&self.identity.load().generation);
        input.number(now.unix_millis());
        input.argument(&revision.0.to_be_bytes());
        input.number(expected.len());
        expected.iter().for_each(|(_, revision)| input.argument(&revision.0.to_be_bytes()));
        for (place, write) in &writes {
            match write {
                Write::Put { bytes, expires_at, due, .. } => {
                    input.argument_by(|out| append(out, revision, *expires_at, *due, bytes));
                    input.number(life(*expires_at, now));
                }
                Write::Delete { .. } => {
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
/// little longer. 0 for ever.
fn life(expires_at: Option<Timestamp>, now: Timestamp) -> u64 {
    const LINGERS: u64 = 5_000;
    expires_at.map_or(0, |at| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX / 2) + LINGERS)
}
