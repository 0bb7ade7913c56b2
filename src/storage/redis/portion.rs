//! Many records of one bucket, in portions of which each is read well within a call's time.
//!
//! However large the records are: one answer that takes longer than a call would cost everybody else
//! their connection, and the next try would fare no better.

use redis::Value;

use super::call::{Request, read_error};
use super::encoding::{Bucket, Place, Stored};
use super::script::Input;
use super::shared::Shared;
use crate::domain::clock::Clock;
use crate::records::StoreError;

/// So few are read at once: what one decision is about.
pub(super) const FEW: usize = 8;
/// The most bytes of one portion, but for the record that reaches it.
const PORTION_BYTES: usize = 256 << 10;
/// The most records of one portion.
pub(super) const MOST_RECORDS: usize = 500;

/// What is wanted of each record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What stands in front of its bytes.
    Head,
}

impl Shared {
    /// The values of the first of these places, of one at least where there is one.
    pub(super) async fn portion(
        &self,
        bucket: Bucket,
        places: &[impl AsRef<Place>],
        part: Part,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut input = Input::default();
        input.key(&bucket.generation());
        places.iter().take(MOST_RECORDS).for_each(|place| input.key(&place.as_ref().key));
        input.argument(&self.identity.load().generation);
        input.number(PORTION_BYTES);
        input.argument(if part == Part::Head { b"head" } else { b"" });
        let request = Request::Script { script: &self.scripts.portion, input, waits: false };
        let answered = self.call(bucket, &request).await.map_err(read_error)?;
        let Value::Array(values) = answered.value else { return Err(StoreError::Unavailable) };
        if values.is_empty() && !places.is_empty() {
            return Err(StoreError::Unavailable);
        }
        let now = self.clock.earliest();
        let stored = values.into_iter().map(|value| match value {
            Value::BulkString(bytes) if !bytes.is_empty() => {
                let stored = Stored::parse(bytes).ok_or(StoreError::Corrupt)?;
                Ok(Some(stored).filter(|stored| !stored.is_expired(now)))
            }
            _ => Ok(None),
        });
        stored.collect()
    }
}
