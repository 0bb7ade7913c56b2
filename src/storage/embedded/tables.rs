//! Looks through the database's files before the database does. Apart because it knows their layout
//! (fjall's disk format 3 and lsm-tree's, which change only with fjall's major version).
//!
//! The database takes a file that is not there for one not written yet, stops with a panic at some
//! that are damaged, and reads most only when it needs them. What a store answered for is checked here
//! before anything is opened: that every file is there and is, byte for byte, what was written. The
//! journals have `journal` for that.
//!
//! ```text
//! version                          the format of the database
//! N.jnl                            journals
//! keyspaces/K/current              number and checksum of the version file
//! keyspaces/K/vN                   the tables there are, and their checksums
//! keyspaces/K/tables/N             a table
//! ```

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::store_directory::OpenError;
use crate::records::Kind;
use crate::storage::directory::DirectoryError;

const VERSION_FILE: &str = "version";
const VERSION: &[u8] = b"FJL\x03";
const KEYSPACES: &str = "keyspaces";
/// The keyspace in which the database keeps the names of the others.
const NAMES: &str = "0";
/// A keyspace for each kind of record, the index of what is due, what the store remembers of itself,
/// and the names.
const FOLDERS: usize = Kind::ALL.len() + 3;
const CURRENT_FILE: &str = "current";
const TABLES: &str = "tables";
/// XXH3 of 128 bits, the only checksum there is.
const XXH3: u8 = 0;
/// Read at once.
const BLOCK: usize = 1 << 20;

/// Checks a database that was complete once, journals' content aside. Reads all of it.
///
/// # Errors
/// [`OpenError::Corrupt`] names the first file that is missing or damaged.
pub(super) fn verify(data: &Path) -> Result<(), OpenError> {
    let version = data.join(VERSION_FILE);
    if read(&version)? != VERSION {
        return Err(damaged(&version, "it is not what was written"));
    }
    let has_journal = names(data)?.iter().any(|name| name.ends_with(".jnl"));
    if !has_journal {
        return Err(damaged(&data.join("*.jnl"), "no journal is there"));
    }
    let keyspaces = data.join(KEYSPACES);
    // Without this one the database would throw the others away.
    if !keyspaces.join(NAMES).is_dir() {
        return Err(damaged(&keyspaces.join(NAMES), "it is not there"));
    }
    let mut found = 0;
    for name in names(&keyspaces)? {
        let keyspace = keyspaces.join(&name);
        if keyspace.is_dir() {
            numbered(&keyspace, &name)?;
            verify_keyspace(&keyspace)?;
            found += 1;
        }
    }
    if found < FOLDERS {
        return Err(damaged(&keyspaces, &format!("it has {found} of {FOLDERS} folders")));
    }
    Ok(())
}

fn verify_keyspace(keyspace: &Path) -> Result<(), OpenError> {
    let current_file = keyspace.join(CURRENT_FILE);
    let current = read(&current_file)?;
    let current = Current::decode(&current)
        .ok_or_else(|| damaged(&current_file, "it does not name a version and its checksum"))?;
    let version_file = keyspace.join(format!("v{}", current.version));
    let version = match fs::read(&version_file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let cause = format!("it names {}, which is not there", version_file.display());
            return Err(OpenError::Corrupt { file: current_file, cause });
        }
        Err(error) => return Err(DirectoryError::at(&version_file)(error).into()),
    };
    let mut hash = Xxh3::new();
    hash.update(&version);
    if hash.digest128() != current.checksum {
        return Err(damaged(&version_file, "its checksum is not the one in `current`"));
    }
    let tables = listed_tables(&version)
        .ok_or_else(|| damaged(&version_file, "it does not list tables as this program knows them"))?;
    let folder = keyspace.join(TABLES);
    for name in names(&folder)? {
        numbered(&folder.join(&name), &name)?;
    }
    for Table { number, checksum } in tables {
        let table = folder.join(number.to_string());
        if checksum_of(&table)? != checksum {
            return Err(damaged(&table, "its checksum is not the one it was written with"));
        }
    }
    Ok(())
}

/// What `current` says.
struct Current {
    version: u64,
    checksum: u128,
}

impl Current {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        (rest == [XXH3])
            .then(|| Self { version: u64::from_le_bytes(*version), checksum: u128::from_le_bytes(*checksum) })
    }
}

/// A table that a version file lists.
struct Table {
    number: u64,
    checksum: u128,
}

fn listed_tables(version: &[u8]) -> Option<Vec<Table>> {
    let reader = sfa::Reader::from_reader(&mut Cursor::new(version)).ok()?;
    let section = reader.toc().section(b"tables")?;
    let begin = usize::try_from(section.pos()).ok()?;
    let end = begin.checked_add(usize::try_from(section.len()).ok()?)?;
    let mut rest = version.get(begin..end)?;
    let mut tables = Vec::new();
    let [levels] = take(&mut rest)?;
    for _ in 0..levels {
        let [runs] = take(&mut rest)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
                let number = u64::from_le_bytes(take(&mut rest)?);
                let [kind] = take(&mut rest)?;
                let checksum = u128::from_le_bytes(take(&mut rest)?);
                // Behind each its sequence number.
                let _: [u8; 8] = take(&mut rest)?;
                (kind == XXH3).then(|| tables.push(Table { number, checksum }))?;
            }
        }
    }
    rest.is_empty().then_some(tables)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn checksum_of(path: &Path) -> Result<u128, OpenError> {
    let failed = |error| unreadable(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Xxh3::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block).map_err(failed)? {
            0 => return Ok(hash.digest128()),
            length => hash.update(block.get(..length).unwrap_or_default()),
        }
    }
}

/// The database names everything in these folders by number, and stops at anything else.
fn numbered(path: &Path, name: &str) -> Result<(), OpenError> {
    match name.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(damaged(path, "it is not the store's: move it away")),
    }
}

fn names(directory: &Path) -> Result<Vec<String>, OpenError> {
    let failed = |error| unreadable(directory, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            damaged(path, "it is not there")
        }
        _ => DirectoryError::at(path)(error).into(),
    }
}

fn damaged(file: &Path, cause: &str) -> OpenError {
    OpenError::Corrupt { file: PathBuf::from(file), cause: cause.to_owned() }
}
