//! Copies of a store: what any engine that can be copied offers, and where a copy may be put.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::DirectoryError;
use super::embedded::store_directory::OpenError;
use crate::crypto::random;
use crate::records::StoreError;

/// A store that can be copied while it is in use.
pub trait Backup: Send + Sync {
    /// Copies everything as it is at one moment into a directory that does not exist yet, and puts it
    /// on stable storage. Blocks. `going_on` is asked now and then; a copy that is given up leaves
    /// nothing behind.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is then in the directory.
    fn copy_to(&self, directory: &Path, going_on: &dyn Fn() -> bool) -> Result<Copied, BackupError>;
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records, expired ones included.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// No copy was made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} is there already: a backup goes into a directory of its own", directory.display())]
    Exists {
        /// The directory.
        directory: PathBuf,
    },
    /// It would be within what must not hold it.
    #[error("{} lies inside {}, which a backup must stay out of", directory.display(), within.display())]
    Inside {
        /// The directory.
        directory: PathBuf,
        /// The store's own directory, or that of the epoch keys.
        within: PathBuf,
    },
    /// It was given up.
    #[error("the backup was given up, because the gateway is shutting down")]
    Interrupted,
    /// The store cannot be read.
    #[error("the store cannot be copied: {0}")]
    Unreadable(#[from] StoreError),
    /// The operating system refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The copy cannot be made.
    #[error("the copy cannot be made: {0}")]
    Open(#[from] OpenError),
}

/// A directory in the making beside its final place, gone again unless it is finished.
pub(super) struct Draft {
    draft: PathBuf,
    place: PathBuf,
    finished: bool,
}

impl Draft {
    /// Begins a copy that is to end up as `place`: nothing may be there, and it may not be within
    /// any of `outside`.
    pub(super) fn begin(place: &Path, outside: &[&Path]) -> Result<Self, BackupError> {
        let exists = || BackupError::Exists { directory: place.to_owned() };
        if fs::symlink_metadata(place).is_ok() {
            return Err(exists());
        }
        let name = place.file_name().ok_or_else(exists)?;
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = fs::canonicalize(parent).map_err(DirectoryError::at(parent))?;
        let place = parent.join(name);
        for within in outside {
            // One that does not exist holds nothing.
            let Ok(within) = fs::canonicalize(within) else { continue };
            if place.starts_with(&within) {
                return Err(BackupError::Inside { directory: place, within });
            }
        }
        let mark = random::base62(8).map_err(OpenError::from)?;
        let draft = parent.join(format!(".{}.unfinished-{mark}", name.to_string_lossy()));
        Ok(Self { draft, place, finished: false })
    }

    /// Where it is being made.
    pub(super) fn path(&self) -> &Path {
        &self.draft
    }

    /// Puts every file on stable storage, then gives the whole its name.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        sync_tree(&self.draft)?;
        rename_fresh(&self.draft, &self.place)?;
        self.finished = true;
        let parent = self.place.parent().unwrap_or(Path::new("."));
        super::directory::sync_names(parent).map_err(DirectoryError::at(parent))?;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed has a name that says what it is.
            let _ = fs::remove_dir_all(&self.draft);
        }
    }
}

fn sync_tree(path: &Path) -> Result<(), DirectoryError> {
    for entry in fs::read_dir(path).map_err(DirectoryError::at(path))? {
        let entry = entry.map_err(DirectoryError::at(path))?.path();
        if entry.is_dir() {
            sync_tree(&entry)?;
        } else {
            let file = fs::File::open(&entry).map_err(DirectoryError::at(&entry))?;
            file.sync_all().map_err(DirectoryError::at(&entry))?;
        }
    }
    super::directory::sync_names(path).map_err(DirectoryError::at(path))
}

/// Renames unless something has come to be there meanwhile.
fn rename_fresh(from: &Path, to: &Path) -> Result<(), BackupError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(BackupError::Exists { directory: to.to_owned() }),
        // A file system that does not know the flag; it was looked at before.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(from, to).map_err(|error| DirectoryError::at(to)(error).into())
        }
        Err(error) => Err(DirectoryError::at(to)(error.into()).into()),
    }
}
