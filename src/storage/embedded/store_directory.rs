//! The store's directory: who holds it, which format it has, where the database lies in it. Apart
//! because it is what an operator sees, moves and backs up.
//!
//! ```text
//! LOCK      held by the process that has the store open
//! FORMAT    written last when a store is made: without it there is no store
//! data/     the database
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::directory::{DirectoryError, PrivateDirectory, replace_file};

/// The file that marks a store.
pub(super) const FORMAT_FILE: &str = "FORMAT";
const DATA_DIRECTORY: &str = "data";
const FORMAT_PREFIX: &str = "countersign store ";
/// The format this program writes. It reads 1 as well, which had an index of what expires. That stays
/// where it is, unused: to delete it is to risk, in a crash, a folder that looks damaged.
pub(super) const FORMAT: u32 = 2;

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is held by another process, or the operating system refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A newer program wrote it.
    #[error(
        "{} says format {found}, this program knows {FORMAT}: run the newer program, or restore an older backup",
        file.display()
    )]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// What it says.
        found: u32,
    },
    /// Nothing is there that marks a store.
    #[error("{} holds no store: name the directory of one", directory.display())]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The file that marks a store does not read as one.
    #[error("{} does not mark a store: choose another directory, or restore a backup", file.display())]
    NotAStore {
        /// The file.
        file: PathBuf,
    },
    /// A store that lost its database.
    #[error("{} is missing: restore a backup, or move {} away to begin a new store",
        directory.display(), format.display())]
    DataMissing {
        /// Where the database should be.
        directory: PathBuf,
        /// The file that says there was one.
        format: PathBuf,
    },
    /// Damage that no crash explains; opening would lose acknowledged writes.
    #[error(
        "{} is damaged ({cause}): opening the store would lose what was acknowledged; check the disk, keep a copy of the directory, and restore a backup that `countersign store check` finds whole",
        file.display()
    )]
    Corrupt {
        /// The damaged file, or the directory it is in.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No randomness for a new store's key.
    #[error(transparent)]
    Random(#[from] crate::crypto::random::RandomUnavailable),
    /// No thread for the writer.
    #[error("the store's writer did not start: {0}")]
    Thread(io::Error),
}

impl OpenError {
    /// An error of the database about what is in `directory`.
    pub(super) fn of_database(directory: &Path) -> impl Fn(fjall::Error) -> Self {
        let file = directory.to_owned();
        move |error| match error {
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
                DirectoryError::at(&file)(source).into()
            }
            fjall::Error::Locked => DirectoryError::Locked { directory: file.clone(), holder: None }.into(),
            other => Self::Corrupt { file: file.clone(), cause: format!("{other:?}") },
        }
    }
}

/// The directory of a store, held by this process.
pub(super) struct StoreDirectory {
    directory: PrivateDirectory,
}

impl StoreDirectory {
    /// Takes the directory and checks that what is in it can be opened.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let home = Self { directory: PrivateDirectory::take(path)? };
        let format = home.format_file();
        match fs::read_to_string(&format) {
            Ok(text) => {
                let found = text.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|n| n.parse().ok());
                let found: u32 = found.ok_or_else(|| OpenError::NotAStore { file: format.clone() })?;
                if found > FORMAT {
                    return Err(OpenError::NewerFormat { file: format, found });
                }
                if !home.data().is_dir() {
                    return Err(OpenError::DataMissing { directory: home.data(), format });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(OpenError::NotAStore { file: format });
            }
            Err(error) => return Err(DirectoryError::at(&format)(error).into()),
        }
        Ok(home)
    }

    /// Whether a store was complete here once: whatever is missing now was there.
    pub(super) fn is_marked(&self) -> bool {
        self.format_file().exists()
    }

    /// Marks the directory as a store of this format, once the database in it is whole.
    pub(super) fn mark(&self) -> Result<(), OpenError> {
        let file = self.format_file();
        let text = format!("{FORMAT_PREFIX}{FORMAT}\n");
        if fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
            replace_file(self.path(), FORMAT_FILE, text.as_bytes()).map_err(DirectoryError::at(&file))?;
        }
        Ok(())
    }

    /// The store's directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the database is.
    pub(super) fn data(&self) -> PathBuf {
        self.path().join(DATA_DIRECTORY)
    }

    fn format_file(&self) -> PathBuf {
        self.path().join(FORMAT_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(directory: &Path) -> OpenError {
        match StoreDirectory::take(directory) {
            Ok(_) => panic!("opened"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_store_of_a_newer_format_or_no_format_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let format = directory.path().join(FORMAT_FILE);
        fs::write(&format, format!("{FORMAT_PREFIX}{}\n", FORMAT + 1)).unwrap();
        let error = refusal(directory.path());
        assert!(matches!(error, OpenError::NewerFormat { found: 3, .. }));
        assert!(error.to_string().contains(format.to_str().unwrap()));
        fs::write(&format, b"\xff\xfe").unwrap();
        assert!(matches!(refusal(directory.path()), OpenError::NotAStore { .. }));
    }

    #[test]
    fn a_store_that_lost_its_database_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        StoreDirectory::take(directory.path()).unwrap().mark().unwrap();
        assert!(matches!(refusal(directory.path()), OpenError::DataMissing { .. }));
    }
}
