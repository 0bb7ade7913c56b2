//! What the store remembers about itself: the key of its tags, how often it was opened. Apart
//! because it is written before anything else may be.

use std::path::Path;

use fjall::PersistMode;

use super::group::Revisions;
use super::open_database::OpenDatabase;
use super::store_directory::OpenError;
use crate::crypto::random;
use crate::records::Identity;

const IDENTITY_KEY: &str = "identity";
const TAG_KEY_BYTES: usize = 32;

/// Whether a process opens the store, or only its writer after a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A process: leases of the one before are void.
    ByProcess,
    /// The same process again: its leases stay good, revisions begin anew.
    AfterFailure,
}

/// As stored: the tag key, the processes that opened it, all openings.
struct Memory {
    tag_key: [u8; TAG_KEY_BYTES],
    incarnation: u64,
    openings: u64,
}

/// Counts this opening durably, and answers who the store is and which revisions it may give out.
pub(super) fn remember(
    live: &OpenDatabase,
    directory: &Path,
    opening: Opening,
) -> Result<(Identity, Revisions), OpenError> {
    let failed = OpenError::of_database(directory);
    let corrupt = |cause: &str| OpenError::Corrupt { file: directory.to_owned(), cause: cause.to_owned() };
    let meta = live.meta();
    let stored = meta.get(IDENTITY_KEY).map_err(&failed)?;
    let mut memory = match stored {
        Some(bytes) => Memory::decode(&bytes).ok_or_else(|| corrupt("the store's identity is unreadable"))?,
        None => Memory { tag_key: random::bytes()?, incarnation: 0, openings: 0 },
    };
    memory.openings = memory.openings.saturating_add(1);
    if opening == Opening::ByProcess {
        memory.incarnation = memory.incarnation.saturating_add(1);
    }
    let revisions = Revisions::of_opening(memory.openings).ok_or_else(|| corrupt("opened too often"))?;
    let mut batch = live.batch(1).durability(Some(PersistMode::SyncAll));
    batch.insert(meta, IDENTITY_KEY, memory.encode());
    batch.commit().map_err(&failed)?;
    Ok((Identity { incarnation: memory.incarnation, tag_key: memory.tag_key }, revisions))
}

/// Who the store is, without counting an opening.
pub(super) fn peek(live: &OpenDatabase, directory: &Path) -> Result<Identity, OpenError> {
    let failed = OpenError::of_database(directory);
    let corrupt =
        || OpenError::Corrupt { file: directory.to_owned(), cause: "the store's identity is missing".into() };
    let stored = live.meta().get(IDENTITY_KEY).map_err(&failed)?;
    let memory = stored.and_then(|bytes| Memory::decode(&bytes)).ok_or_else(corrupt)?;
    Ok(Identity { incarnation: memory.incarnation, tag_key: memory.tag_key })
}

impl Memory {
    fn encode(&self) -> Vec<u8> {
        let counts = [self.incarnation.to_be_bytes(), self.openings.to_be_bytes()];
        [&self.tag_key[..], counts.as_flattened()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag_key, rest) = bytes.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let openings = rest.try_into().ok()?;
        Some(Self {
            tag_key: *tag_key,
            incarnation: u64::from_be_bytes(*incarnation),
            openings: u64::from_be_bytes(openings),
        })
    }
}
