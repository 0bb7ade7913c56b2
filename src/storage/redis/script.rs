//! Lua scripts by digest: sent as `EVALSHA`, and whole when a server does not know them (yet, or any
//! more after its script cache was flushed).

use redis::Cmd;

use crate::crypto::random::RandomUnavailable;

/// A script and its variants' digests.
pub(super) struct Script {
    source: String,
    sha1: String,
}

/// The scripts of a store.
pub(super) struct Scripts {
    /// A compare-and-set batch that starts something: refused when memory is short.
    pub(super) admit: Script,
    /// The same for what finishes something: allowed even then.
    pub(super) finish: Script,
    /// Tidies an index.
    pub(super) forget: Script,
    /// A request against a rate limit.
    pub(super) rate: Script,
}

impl Script {
    fn new(flags: &str, body: &str) -> Self {
        let source = format!("#!lua{flags}\n{body}");
        let sha1 = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha1 }
    }

    /// The call with these keys and arguments, by digest or with the source.
    pub(super) fn call(&self, whole: bool, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> Cmd {
        let mut command = if whole { redis::cmd("EVAL") } else { redis::cmd("EVALSHA") };
        command.arg(if whole { &self.source } else { &self.sha1 }).arg(keys.len());
        keys.iter().chain(arguments).for_each(|argument| {
            command.arg(argument.as_slice());
        });
        command
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        let commit = include_str!("scripts/commit.lua");
        Self {
            admit: Script::new("", commit),
            finish: Script::new(" flags=allow-oom", commit),
            forget: Script::new(" flags=allow-oom", include_str!("scripts/forget.lua")),
            rate: Script::new("", include_str!("scripts/rate.lua")),
        }
    }
}

/// Numbers for revisions: a random beginning for each process, then counting, so that no two
/// writers ever give one record the same.
pub(super) struct Revisions(std::sync::atomic::AtomicU64);

impl Revisions {
    pub(super) fn new() -> Result<Self, RandomUnavailable> {
        let beginning = u64::from_be_bytes(crate::crypto::random::bytes()?);
        Ok(Self(std::sync::atomic::AtomicU64::new(beginning)))
    }

    pub(super) fn next(&self) -> crate::records::Revision {
        let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // 0 means "absent".
        crate::records::Revision(number.max(1))
    }
}
