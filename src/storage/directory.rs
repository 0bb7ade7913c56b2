//! Private directories: made for their owner alone, held by one process at a time, synced by name.
//! Apart because the store and the epoch keys hold theirs by the same rules.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "LOCK";

/// A directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process holds it.
    #[error(
        "{} is in use by another process{}; stop it, or give this one a directory of its own",
        directory.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Who said that it holds it.
        holder: Option<u32>,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be made, read or written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DirectoryError {
    /// Whether what was to be used is not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Puts the path to an error of the operating system.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Bytes that this process may still write to the file system of a directory.
///
/// # Errors
/// The system's.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A directory that belongs to this process until dropped, or until the process is gone.
pub struct PrivateDirectory {
    path: PathBuf,
    // The lock is the open file's; the kernel lets go of it when the process dies. None where
    // several processes share the directory.
    _lock: Option<File>,
}

impl PrivateDirectory {
    /// Makes the directory where it is absent (mode 0700) and takes it for this process.
    ///
    /// # Errors
    /// [`DirectoryError::Locked`] when another process, or this one, holds it already.
    pub fn take(path: &Path) -> Result<Self, DirectoryError> {
        make(path)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(DirectoryError::at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(DirectoryError::Locked { directory: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(DirectoryError::at(&lock_path)(error)),
        }
        // For the message another process shows; nothing depends on it.
        let note = |lock: &mut File| -> io::Result<()> {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        note(&mut lock).map_err(DirectoryError::at(&lock_path))?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Makes the directory where it is absent (mode 0700), for several processes that know how to
    /// share it.
    ///
    /// # Errors
    /// As the operating system has it.
    pub fn share(path: &Path) -> Result<Self, DirectoryError> {
        make(path)?;
        Ok(Self { path: path.to_owned(), _lock: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn make(path: &Path) -> Result<(), DirectoryError> {
    let absent: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DirectoryError::at(path))?;
    // A directory made is lost in a crash unless its name is on stable storage, and so up.
    for parent in absent.iter().filter_map(|made| made.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        sync_names(parent).map_err(DirectoryError::at(parent))?;
    }
    Ok(())
}

/// Puts names made, renamed or removed in a directory on stable storage.
///
/// # Errors
/// As the operating system has it.
pub fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Writes a file as a whole: after a crash it is there complete, or it is as it was before.
///
/// # Errors
/// As the operating system has it; what was there before is then untouched.
pub fn replace_file(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_file_through(directory, &format!("{name}.new"), name, content)
}

/// As [`replace_file`], the file's name being `unfinished` until it is whole: several who replace it
/// at once each need one of their own.
///
/// # Errors
/// As the operating system has it; what was there before is then untouched.
pub fn replace_file_through(
    directory: &Path,
    unfinished: &str,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let unfinished = directory.join(unfinished);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))?;
    sync_names(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time_and_says_who() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let held = PrivateDirectory::take(&path).unwrap();
        let Err(DirectoryError::Locked { holder, .. }) = PrivateDirectory::take(&path) else {
            panic!("taken twice");
        };
        assert_eq!(holder, Some(std::process::id()));
        drop(held);
        assert!(PrivateDirectory::take(&path).is_ok());
    }

    #[test]
    fn a_directory_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store");
        let _held = PrivateDirectory::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
