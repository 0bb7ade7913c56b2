//! Records as bytes: a format number, then postcard. A format is never changed in place: a new
//! shape gets a new number, and decoding says what it does with the old one.

use byteview::ByteView;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::formats::Formats;
use super::{Kind, Record, RecordKey, Revision, StoreError, Write};
use crate::domain::clock::Timestamp;

/// A type with a record of its own.
pub trait Stored: Serialize + DeserializeOwned {
    /// Where it is kept.
    const KIND: Kind;
    /// The number of its present format.
    const FORMAT: u8;

    /// Room to write it in, in bytes; one that is too small only costs a copy. Larger than its content, so
    /// that what is sealed inside is copied once.
    fn room(&self) -> usize {
        FIRST_BYTES
    }

    /// What a body of an older format lacks at its end; `None` when that format is not read. A member
    /// that is only ever added behind all others needs nothing else to be read from old records.
    fn lacking(_format: u8) -> Option<&'static [u8]> {
        None
    }

    /// What a value of an older format means in the present one.
    #[must_use]
    fn modernised(self) -> Self {
        self
    }
}

/// A type whose records are written in older formats while replicas live that read no newer ones. The
/// oldest of them is 1.
pub trait Rolling: Stored {
    /// In which of its formats it is written while these are.
    fn format_in(formats: Formats) -> u8;

    /// Appends its body in an older format, or in the present one as a record that others belong to which
    /// are written in older ones.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the value cannot be encoded.
    fn append_older(&self, format: u8, out: &mut Vec<u8>) -> Result<(), StoreError>;
}

/// The first format of every [`Rolling`] type.
pub const OLDEST: u8 = 1;

/// A record as read: its key, the revision to expect, and its value if it exists.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// Which record.
    pub key: RecordKey,
    /// What a commit that rests on this read must expect.
    pub revision: Revision,
    /// The value; `None` when absent.
    pub value: Option<T>,
    /// The bytes as read, to write only what changed.
    original: Option<ByteView>,
}

impl<T: Stored> Loaded<T> {
    /// Decodes what a store answered for `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the bytes are not of a known format.
    pub fn decode(key: RecordKey, record: Option<Record>) -> Result<Self, StoreError> {
        let Some(record) = record else {
            return Ok(Self { key, revision: Revision::ABSENT, value: None, original: None });
        };
        let value = Some(decode(&record.bytes)?);
        Ok(Self { key, revision: record.revision, value, original: Some(record.bytes) })
    }

    /// The expectation that the record is still as read.
    pub fn expectation(&self) -> (RecordKey, Revision) {
        (self.key.clone(), self.revision)
    }

    /// Takes it that [`Self::change`] was written, under this revision.
    pub fn written(&mut self, write: &Write, revision: Revision) {
        (self.revision, self.original) = match write {
            Write::Put { bytes, .. } => (revision, Some(bytes.clone())),
            Write::Delete { .. } => (Revision::ABSENT, None),
        };
    }

    /// The write that makes the store agree with the present value; `None` when it does.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the value cannot be encoded.
    pub fn change(&self, times: impl FnOnce(&T) -> Times) -> Result<Option<Write>, StoreError> {
        self.change_to(times, encode)
    }
}

impl<T: Rolling> Loaded<T> {
    /// Whether the store has it in this format or a newer one: then everybody who lives reads that.
    pub fn is_from(&self, format: u8) -> bool {
        self.format() >= Some(format)
    }

    /// As [`Self::change`], in these formats. While older ones are written, a record stays in the format
    /// in which it was read: who wrote that knew who reads it.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn change_in(
        &self,
        formats: Formats,
        times: impl FnOnce(&T) -> Times,
    ) -> Result<Option<Write>, StoreError> {
        if formats.are_newest() {
            return self.change(times);
        }
        let format = self.format().max(Some(T::format_in(formats)));
        self.change_to(times, |value| encode_older(value, format.unwrap_or(OLDEST)))
    }
}

impl<T> Loaded<T> {
    fn format(&self) -> Option<u8> {
        self.original.as_ref()?.first().copied()
    }

    fn change_to(
        &self,
        times: impl FnOnce(&T) -> Times,
        encode: impl FnOnce(&T) -> Result<ByteView, StoreError>,
    ) -> Result<Option<Write>, StoreError> {
        let Some(value) = &self.value else {
            return Ok(self.original.as_ref().map(|_| Write::Delete { key: self.key.clone() }));
        };
        let bytes = encode(value)?;
        if self.original.as_ref() == Some(&bytes) {
            return Ok(None);
        }
        let Times { expires_at, due } = times(value);
        Ok(Some(Write::Put { key: self.key.clone(), bytes, expires_at, due }))
    }

    /// The write of the record as it stands in the store, with other times; `None` when it is absent.
    pub fn rewrite(&self, times: impl FnOnce(&T) -> Times) -> Option<Write> {
        let (value, bytes) = self.value.as_ref().zip(self.original.clone())?;
        let Times { expires_at, due } = times(value);
        Some(Write::Put { key: self.key.clone(), bytes, expires_at, due })
    }
}

/// When a record ends and when the background worker looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Absent from then on.
    pub expires_at: Option<Timestamp>,
    /// To be looked at then.
    pub due: Option<Timestamp>,
}

const ON_STACK: usize = 2_048;
/// Room for most records without what is sealed inside.
pub const FIRST_BYTES: usize = 512;

/// Encodes a value in its present format.
///
/// # Errors
/// [`StoreError::Corrupt`] when serialisation fails, which no type of ours does.
pub fn encode<T: Stored>(value: &T) -> Result<ByteView, StoreError> {
    let mut buffer = Buffer::with_room(value.room());
    buffer.push(T::FORMAT);
    postcard::serialize_with_flavor(value, &mut buffer).map_err(|_| StoreError::Corrupt)?;
    Ok(ByteView::new(buffer.written()))
}

/// What is being written: on the stack as long as there is room, so that most records are memory of their
/// own only once. Postcard's own ways to write behind what is there take a byte at a time.
struct Buffer {
    stack: [u8; ON_STACK],
    used: usize,
    /// All of it, once it is anything.
    heap: Vec<u8>,
    room: usize,
}

impl Buffer {
    fn with_room(room: usize) -> Self {
        Self { stack: [0; ON_STACK], used: 0, heap: Vec::new(), room }
    }

    fn push(&mut self, byte: u8) {
        let is_on_stack = self.is_on_stack();
        match self.stack.get_mut(self.used) {
            Some(place) if is_on_stack => {
                *place = byte;
                self.used += 1;
            }
            _ => self.extend_heap(&[byte]),
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let is_on_stack = self.is_on_stack();
        match self.stack.get_mut(self.used..self.used + bytes.len()) {
            Some(place) if is_on_stack => {
                place.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            _ => self.extend_heap(bytes),
        }
    }

    fn is_on_stack(&self) -> bool {
        self.heap.is_empty() && self.room <= ON_STACK
    }

    fn extend_heap(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() {
            self.heap.reserve(self.room.max(self.used + bytes.len()));
            self.heap.extend_from_slice(self.stack.get(..self.used).unwrap_or_default());
        }
        self.heap.extend_from_slice(bytes);
    }

    fn written(&self) -> &[u8] {
        if self.heap.is_empty() { self.stack.get(..self.used).unwrap_or_default() } else { &self.heap }
    }
}

impl Flavor for &mut Buffer {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Encodes a value in an older format.
///
/// # Errors
/// [`StoreError::Corrupt`] when serialisation fails, which no type of ours does.
pub fn encode_older<T: Rolling>(value: &T, format: u8) -> Result<ByteView, StoreError> {
    let mut buffer = Vec::with_capacity(FIRST_BYTES);
    buffer.push(format);
    value.append_older(format, &mut buffer)?;
    Ok(buffer.into())
}

/// Decodes a value of its present format, or of an older one that it says it reads.
///
/// # Errors
/// [`StoreError::Corrupt`] for another format, damage or trailing bytes.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, StoreError> {
    let (format, body) = bytes.split_first().ok_or(StoreError::Corrupt)?;
    if *format == T::FORMAT {
        return decode_body(body);
    }
    let lacking = T::lacking(*format).ok_or(StoreError::Corrupt)?;
    decode_body(&[body, lacking].concat()).map(T::modernised)
}

fn decode_body<T: Stored>(body: &[u8]) -> Result<T, StoreError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(StoreError::Corrupt),
    }
}

/// Appends a value that is sealed inside a record and carries no format of its own.
///
/// # Errors
/// [`StoreError::Corrupt`] when serialisation fails, which no type of ours does.
pub fn append_plain(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), StoreError> {
    postcard::serialize_with_flavor(value, Appended(out)).map_err(|_| StoreError::Corrupt)
}

/// Behind what is there.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes what [`append_plain`] made.
///
/// # Errors
/// [`StoreError::Corrupt`] for damage.
pub fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Corrupt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Noted {
        room: u16,
        text: String,
        bytes: ByteView,
        digest: [u8; 32],
    }

    impl Stored for Noted {
        const KIND: Kind = Kind::Registry;
        const FORMAT: u8 = 1;

        fn room(&self) -> usize {
            self.room.into()
        }
    }

    proptest! {
        #[test]
        fn a_record_of_any_size_is_written_as_postcard_would_whatever_room_it_asks_for(
            room in 0_u16..5_000,
            text in "[a-z]{0,2100}",
            bytes in proptest::collection::vec(any::<u8>(), 0..4_200),
            digest: [u8; 32],
        ) {
            let noted = Noted { room, text, bytes: bytes.into(), digest };
            let written = encode(&noted).unwrap();
            let plain = postcard::to_stdvec(&noted).unwrap();
            prop_assert_eq!(written.split_first(), Some((&1, plain.as_slice())));
            let mut behind = vec![1];
            append_plain(&noted, &mut behind).unwrap();
            prop_assert_eq!(&behind, &[&[1], plain.as_slice()].concat());
            prop_assert_eq!(decode::<Noted>(&written), Ok(noted));
        }
    }
}
