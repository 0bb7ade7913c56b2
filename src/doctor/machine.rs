//! This machine: what a process may have open, the directories that are kept, and what they lie on.

use std::path::Path;

use rustix::fs::{Access, access};

use super::finding::{Finding, Subject};
use crate::server::{self, process};
use crate::storage::directory::free_bytes;
use crate::storage::{Engine, Settings};

/// Says that fewer connections are accepted here than are configured; nothing where there is room for them.
pub(crate) fn connections_bounded(settings: &server::Settings) -> Option<String> {
    let (open_files, mut room) = (process::most_open_files(), settings.clone());
    room.bound_by(open_files).then(|| {
        format!(
            "accepts {} connections, not {}: only {open_files} files may be open here, half of them for \
             connections; raise nofile",
            room.connections, settings.connections
        )
    })
}

/// What the process may have.
pub(super) fn limits(settings: &server::Settings) -> Finding {
    let subject = Subject("process".to_owned());
    match connections_bounded(settings) {
        Some(told) => subject.doubtful("open files", told),
        None => subject.good(
            "open files",
            format!(
                "{} may be open, room for {} connections",
                process::most_open_files(),
                settings.connections
            ),
        ),
    }
}

/// The directories of a store.
pub(super) fn directories(engine: &Engine) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Engine::Embedded(settings) = engine {
        let subject = Subject("store".to_owned());
        findings.push(usable(&subject, &settings.directory));
        findings.push(space(&subject, settings));
    }
    if let Some(directory) = engine.epoch_directory() {
        let subject = Subject("hourly keys".to_owned());
        findings.push(usable(&subject, directory));
        findings.push(shared(&subject, directory, engine));
    }
    findings
}

/// What is there of a path: itself, or what it will be made in.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|part| part.exists()).unwrap_or(path)
}

fn usable(subject: &Subject, directory: &Path) -> Finding {
    let (place, found) = (directory.display(), existing(directory));
    if found.is_file() {
        return subject.faulty("directory", format!("{place}: {} is a file", found.display()));
    }
    if let Err(error) = access(found, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return subject.faulty("directory", format!("{place}: {} cannot be used: {error}", found.display()));
    }
    let state = if found == directory { "can be used" } else { "is made by the first start" };
    subject.good("directory", format!("{place} {state}"))
}

fn space(subject: &Subject, settings: &Settings) -> Finding {
    let free = match free_bytes(existing(&settings.directory)) {
        Ok(free) => free,
        Err(error) => return subject.faulty("free space", error.to_string()),
    };
    let (free_mib, floor) = (free >> 20, settings.min_free_bytes >> 20);
    if free < settings.min_free_bytes {
        return subject.faulty(
            "free space",
            format!("{free_mib} MiB, below store.min_free_bytes ({floor} MiB): nothing new is admitted"),
        );
    }
    let told = format!("{free_mib} MiB, {floor} MiB must stay free");
    // A store grows by what is begun before anybody looks at an alert.
    if free < settings.min_free_bytes.saturating_mul(2) {
        return subject.doubtful("free space", told);
    }
    subject.good("free space", told)
}

/// Replicas that share records must share the keys of their security codes too.
fn shared(subject: &Subject, directory: &Path, engine: &Engine) -> Finding {
    let kind = kind_of_file_system(existing(directory));
    match (engine, kind) {
        (Engine::Embedded(_), _) => subject.good("shared", "one process keeps them: they need not be"),
        (Engine::Redis { .. }, Some(name)) => {
            subject.good("shared", format!("on a network's file system: {name}"))
        }
        (Engine::Redis { .. }, None) => subject.doubtful(
            "shared",
            "on a file system of this machine: replicas on others cannot open the security codes that are \
             sealed here",
        ),
    }
}

/// The name of a file system that several machines see; `None` of one that only this one sees.
#[cfg(target_os = "linux")]
fn kind_of_file_system(path: &Path) -> Option<&'static str> {
    /// As `statfs(2)` numbers them.
    const SHARED: [(i128, &str); 11] = [
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x00c3_6400, "ceph"),
        (0x6573_5546, "fuse"),
        (0x0102_1997, "9p"),
        (0x4750_4653, "gpfs"),
        (0x0bd0_0bd0, "lustre"),
        (0x5346_414f, "afs"),
        (0x7461_636f, "ocfs2"),
        (0x0116_1970, "gfs2"),
    ];
    let kind = i128::from(rustix::fs::statfs(path).ok()?.f_type);
    SHARED.into_iter().find(|(number, _)| *number == kind).map(|(_, name)| name)
}

#[cfg(not(target_os = "linux"))]
fn kind_of_file_system(_: &Path) -> Option<&'static str> {
    None
}
