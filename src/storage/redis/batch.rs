//! A batch as what its script takes.

use super::Shared;
use super::encoding::{Bucket, Place, encode};
use crate::domain::clock::Timestamp;
use crate::records::{Batch, Kind, Revision, Write};

impl Shared {
    /// The bucket, keys and arguments of a batch's script; `None` when a key is out of bounds or
    /// another bucket's.
    #[allow(clippy::type_complexity, reason = "what one script takes")]
    pub(super) fn prepare(
        &self,
        batch: &Batch,
        revision: Revision,
        now: Timestamp,
    ) -> Option<(Bucket, Vec<Vec<u8>>, Vec<Vec<u8>>)> {
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
        let own = [
            bucket.generation(),
            bucket.due(),
            bucket.index_of(Kind::Token),
            bucket.index_of(Kind::Registry),
        ];
        let keys = own.into_iter().chain(places().map(|place| place.key.clone()));
        let keys = keys.map(String::into_bytes).collect();
        let mut arguments = vec![
            self.identity.load().generation.clone(),
            now.unix_millis().to_string().into_bytes(),
            revision.0.to_be_bytes().to_vec(),
            expected.len().to_string().into_bytes(),
        ];
        arguments.extend(expected.iter().map(|(_, revision)| revision.0.to_be_bytes().to_vec()));
        for (place, write) in &writes {
            let (value, life) = match write {
                Write::Put { bytes, expires_at, due, .. } => {
                    (encode(revision, *expires_at, *due, bytes), life(*expires_at, now))
                }
                Write::Delete { .. } => (Vec::new(), 0),
            };
            arguments.extend([value, life.to_string().into_bytes(), place.name().as_bytes().to_vec()]);
        }
        Some((bucket, keys, arguments))
    }
}

/// How long the server keeps a record (ms), by its own clock: whoever reads it decides by ours, so a
/// little longer. 0 for ever.
fn life(expires_at: Option<Timestamp>, now: Timestamp) -> u64 {
    const LINGERS: u64 = 5_000;
    expires_at.map_or(0, |at| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX / 2) + LINGERS)
}
