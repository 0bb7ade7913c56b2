//! Reading records by their keys, with proof that the store is still the one it was.

use std::collections::BTreeMap;

use redis::Value;

use super::call::{Request, read_error};
use super::encoding::{Bucket, Place, Stored};
use super::portion::{FEW, Part};
use super::shared::Shared;
use crate::domain::clock::Clock as _;
use crate::records::{Record, RecordKey, StoreError};

impl Shared {
    /// Reads the values of places in one bucket, checking the generation with them.
    pub(super) async fn values(
        &self,
        bucket: Bucket,
        places: &[&Place],
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut command = redis::cmd("MGET");
        command.arg(bucket.generation());
        places.iter().for_each(|place| {
            command.arg(&place.key);
        });
        let answered = self.call(bucket, &Request::Plain(&command)).await.map_err(read_error)?;
        let Value::Array(values) = answered.value else { return Err(StoreError::Unavailable) };
        let mut values = values.into_iter();
        if !matches!(values.next(), Some(Value::BulkString(word)) if word == self.identity.load().generation)
        {
            self.lose_generation();
            return Err(StoreError::Changed);
        }
        let now = self.clock.earliest();
        values
            .map(|value| match value {
                Value::BulkString(bytes) => {
                    let stored = Stored::parse(bytes).ok_or(StoreError::Corrupt)?;
                    Ok(Some(stored).filter(|stored| !stored.is_expired(now)))
                }
                _ => Ok(None),
            })
            .collect()
    }

    pub(super) async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, StoreError> {
        let places: Vec<Place> =
            keys.iter().map(Place::of).collect::<Option<_>>().ok_or(StoreError::Unavailable)?;
        let mut by_bucket: BTreeMap<Bucket, Vec<usize>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            by_bucket.entry(place.bucket).or_default().push(at);
        }
        let mut records: Vec<Option<Record>> = vec![None; keys.len()];
        for (bucket, members) in by_bucket {
            let places: Vec<&Place> = members.iter().filter_map(|at| places.get(*at)).collect();
            let mut members = members.into_iter();
            let mut left = places.as_slice();
            while !left.is_empty() {
                let values = if left.len() <= FEW {
                    self.values(bucket, left).await?
                } else {
                    self.portion(bucket, left, Part::Whole).await?
                };
                left = left.get(values.len()..).unwrap_or_default();
                for (stored, at) in values.into_iter().zip(members.by_ref()) {
                    if let Some(record) = records.get_mut(at) {
                        *record = stored.map(Stored::record);
                    }
                }
            }
        }
        Ok(records)
    }
}
