//! Secrets by reference: `file:PATH`, `env:NAME`, `credential:NAME` or `exec:ID`, never inline. The only
//! place that reads the environment and secret files; no message repeats a reference, because a mistaken
//! one may be the secret itself.

use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::document::{Section, Value};
use super::providers::{MAX_SECRET_BYTES, Program, Programs, credential_file, is_plainly_a_variable};
use super::report::Problem;
use super::values::{base64_any, duration, hex, text, unreadable};
use crate::domain::secret::{SecretBytes, SecretString};

/// How long a program that prints a secret may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The warning about a secret's file that everybody can read.
pub(super) const READABLE_BY_ALL: &str = "this secret's file is readable by everybody: chmod o-r it";

/// Whether everybody on this machine can read a file.
pub(super) fn is_readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Whether everybody on this machine can list, enter or change a directory.
pub(super) fn is_open_to_all(directory: &Path) -> bool {
    std::fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// Where references lead.
pub(super) struct Sources<'s> {
    /// Relative paths start here: the configuration file's directory.
    pub base: &'s Path,
    /// Looks up an environment variable.
    pub environment: &'s dyn Fn(&str) -> Option<String>,
    /// What `exec:` refers to.
    pub programs: Programs,
}

/// The process's environment.
pub(super) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const EXPECTED: &str = "a secret is given by reference, \"file:PATH\", \"env:NAME\", \"credential:NAME\" or \
     \"exec:ID\"; a value written here is refused";

/// A secret as found.
pub(super) struct Found {
    /// Without the line end after it.
    pub text: SecretString,
    readable_by_all: bool,
}

impl<'s> Sources<'s> {
    pub(super) fn new(base: &'s Path, environment: &'s dyn Fn(&str) -> Option<String>) -> Self {
        Self { base, environment, programs: Programs::default() }
    }

    /// Takes note of a program that prints secrets.
    pub(super) fn program(&self, section: &mut Section<'_>) -> Option<()> {
        let id = section.required("id", program_name)?;
        let environment = section.list("environment", variable_name).unwrap_or_default();
        let timeout = section.or("timeout", TIMEOUT, duration(TIMEOUT / 100, TIMEOUT * 6));
        if !section.has("command") {
            section.wrong("command", "missing: the program and its arguments");
        }
        let command = section.list("command", text)?;
        match command.first() {
            Some(program) if program.starts_with('/') || is_program_name(program) => {}
            Some(_) => {
                section.wrong("command[0]", "expected an absolute path, or a name that is looked up in PATH");
            }
            None => section.wrong("command", "expected a program and its arguments"),
        }
        if !self.programs.know(id, Program { command, environment, timeout }) {
            section.wrong("id", "another program has this id");
        }
        Some(())
    }

    /// A secret as text, required; a line end after it is not part of it. Warns when its file is
    /// readable by everybody.
    pub(super) fn required(&self, section: &mut Section<'_>, key: &'static str) -> Option<SecretString> {
        let found = section.required(key, |value| self.follow(value));
        self.warned(section, key, found)
    }

    /// As [`Self::required`], but may be absent.
    pub(super) fn optional(&self, section: &mut Section<'_>, key: &'static str) -> Option<SecretString> {
        let found = section.optional(key, |value| self.follow(value));
        self.warned(section, key, found)
    }

    fn warned(&self, section: &Section<'_>, key: &str, found: Option<Found>) -> Option<SecretString> {
        let found = found?;
        if found.readable_by_all {
            section.warn(key, READABLE_BY_ALL);
        }
        Some(found.text)
    }

    fn follow(&self, value: &Value<'_>) -> Result<Found, Problem> {
        self.follow_text(value.text().map_err(|_| EXPECTED)?)
    }

    /// What a reference leads to.
    pub(super) fn follow_text(&self, reference: &str) -> Result<Found, Problem> {
        let found = if let Some(path) = reference.strip_prefix("file:") {
            self.read_file(path)?
        } else if let Some(name) = reference.strip_prefix("env:") {
            self.read_variable(name)?
        } else if let Some(name) = reference.strip_prefix("credential:") {
            self.read_file(credential_file(name, self.environment)?)?
        } else if let Some(id) = reference.strip_prefix("exec:") {
            let text = self.programs.run(id, self.base, self.environment)?;
            Found { text: without_line_end(text.expose()), readable_by_all: false }
        } else {
            return Err(EXPECTED.into());
        };
        if found.text.expose().trim().is_empty() {
            return Err("the secret is empty".into());
        }
        if found.text.expose().starts_with('\u{feff}') {
            return Err("begins with a byte order mark, which would be part of the secret: write the \
                        file without one"
                .into());
        }
        Ok(found)
    }

    fn read_file(&self, path: impl AsRef<Path>) -> Result<Found, Problem> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
            return Err("expected a path after \"file:\"".into());
        }
        let path = self.base.join(path);
        // Asked before opening: opening a named pipe would wait for its writer.
        let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !metadata.is_file() {
            return Err("expected a file, found something else there".into());
        }
        let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&path, &error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_SECRET_BYTES {
            return Err("the file is larger than 64 KiB: not a secret".into());
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| "the file is not text in UTF-8")?;
        let readable_by_all = is_readable_by_all(&path);
        Ok(Found { text: without_line_end(text), readable_by_all })
    }

    fn read_variable(&self, name: &str) -> Result<Found, Problem> {
        if !is_variable_name(name) {
            return Err("expected the name of an environment variable after \"env:\"".into());
        }
        let text = (self.environment)(name).ok_or_else(|| {
            let shown = if is_plainly_a_variable(name) { format!(" {name}") } else { String::new() };
            Problem::from(format!("the environment variable{shown} is not set, or not UTF-8"))
        })?;
        let text = Zeroizing::new(text);
        Ok(Found { text: without_line_end(&text), readable_by_all: false })
    }
}

fn is_program_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn program_name(value: &Value<'_>) -> Result<String, Problem> {
    let id = value.text()?;
    if is_program_name(id) && id.len() <= 64 {
        return Ok(id.to_owned());
    }
    Err("expected up to 64 letters, digits, dots, hyphens and underscores".into())
}

fn variable_name(value: &Value<'_>) -> Result<String, Problem> {
    let name = value.text()?;
    if is_variable_name(name) {
        return Ok(name.to_owned());
    }
    Err("expected the name of an environment variable".into())
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn without_line_end(text: &str) -> SecretString {
    let text = text.strip_suffix('\n').unwrap_or(text);
    SecretString::new(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Warns of what a secret's every byte counts in, and an editor may have added.
pub(super) fn warn_of_blanks(section: &Section<'_>, key: &str, secret: &SecretString) {
    let text = secret.expose();
    if text.trim() != text {
        section.warn(key, "blanks or blank lines around this secret are taken as part of it");
    }
}

/// How a shared secret is written.
#[derive(Clone, Copy)]
pub(super) enum SecretEncoding {
    /// Its characters are its bytes.
    Text,
    Base64,
    Hex,
}

impl SecretEncoding {
    pub(super) const CHOICES: [(&'static str, Self); 3] =
        [("text", Self::Text), ("base64", Self::Base64), ("hex", Self::Hex)];

    /// The secret's bytes; `None` when it is not written that way.
    pub(super) fn decode(self, secret: &SecretString) -> Option<SecretBytes> {
        let text = secret.expose();
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Base64 => base64_any(text.trim()),
            Self::Hex => hex(text.trim()),
        }
        .map(SecretBytes::new)
    }
}

/// Exactly 32 bytes, written as 64 hexadecimal digits or as base64 in any alphabet.
pub(super) fn key_of_32_bytes(secret: &SecretString) -> Option<SecretBytes> {
    let text = secret.expose().trim();
    // 64 base64 characters are 48 bytes, so the two forms never collide.
    let encoding = if text.len() == 64 { SecretEncoding::Hex } else { SecretEncoding::Base64 };
    encoding.decode(secret).filter(|bytes| bytes.expose().len() == 32)
}

/// A bearer credential we send: what an `Authorization` header can carry (RFC 6750 §2.1).
pub(super) fn is_credential(secret: &SecretString) -> bool {
    secret.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
}
