//! Lua scripts, sent by digest, and whole to a server that does not know them.
//!
//! Sent as `EVALSHA`, and whole when a server does not know them (yet, or any more after its script cache
//! was flushed).

use redis::{Cmd, RedisWrite};

use crate::crypto::random::RandomUnavailable;

/// Room for the number of keys.
const DIGITS_OF_COUNT: usize = 4;

/// A script and its variants' digests.
pub(super) struct Script {
    source: String,
    sha1: String,
}

/// What a script takes, in one piece: its keys, then its arguments.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    keys: usize,
}

/// The scripts of a store.
pub(super) struct Scripts {
    /// A compare-and-set batch that starts something: refused when memory is short.
    pub(super) admit: Script,
    /// The same for what finishes something: allowed even then.
    pub(super) finish: Script,
    /// Tidies an index.
    pub(super) forget: Script,
    /// The first of some records.
    pub(super) portion: Script,
    /// A request against a rate limit.
    pub(super) rate: Script,
}

impl Script {
    fn new(flags: &str, body: &str) -> Self {
        let source = format!("#!lua{flags}\n{body}");
        let sha1 = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha1 }
    }

    /// The call with this input, by digest or with the source.
    pub(super) fn invocation(&self, whole: bool, input: &Input) -> Cmd {
        let (name, script) = if whole { ("EVAL", &self.source) } else { ("EVALSHA", &self.sha1) };
        let mut command = Cmd::with_capacity(
            3 + input.ends.len(),
            name.len() + script.len() + DIGITS_OF_COUNT + input.bytes.len(),
        );
        command.arg(name).arg(script).arg(input.keys);
        let mut start = 0;
        for end in &input.ends {
            command.write_arg(input.bytes.get(start..*end).unwrap_or_default());
            start = *end;
        }
        command
    }
}

impl Input {
    /// Room for so many parts of so many bytes in all.
    pub(super) fn with_capacity(parts: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(parts), keys: 0 }
    }

    /// Adds a key; all keys come before the first argument.
    pub(super) fn key(&mut self, key: &str) {
        self.keys += 1;
        self.argument(key.as_bytes());
    }

    /// Adds an argument.
    pub(super) fn argument(&mut self, argument: &[u8]) {
        self.argument_by(|bytes| bytes.extend_from_slice(argument));
    }

    /// Adds an argument that is appended to what is there.
    pub(super) fn argument_by(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Adds a number, in decimal.
    pub(super) fn number(&mut self, number: impl std::fmt::Display) {
        self.argument_by(|bytes| {
            // Writing to memory does not fail.
            let _ = std::io::Write::write_fmt(bytes, format_args!("{number}"));
        });
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        let commit = include_str!("scripts/commit.lua");
        Self {
            admit: Script::new("", commit),
            finish: Script::new(" flags=allow-oom", commit),
            forget: Script::new(" flags=allow-oom", include_str!("scripts/forget.lua")),
            portion: Script::new(" flags=no-writes", include_str!("scripts/portion.lua")),
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
