//! Readers of single values: text in the file to a type that is valid by construction. They say
//! what is expected and never repeat what was found.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::document::{Section, Value};
use super::report::Problem;
use crate::acp::version::Version;
use crate::crypto::digest::{Sha256, sha256};
use crate::domain::money::{Currency, MinorUnits, Money};

/// Any string.
pub(super) fn text(value: &Value<'_>) -> Result<String, Problem> {
    value.text().map(str::to_owned)
}

/// True or false.
pub(super) fn flag(value: &Value<'_>) -> Result<bool, Problem> {
    value.flag()
}

/// A whole number within bounds, in whatever integer type is asked for.
pub(super) fn count<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&Value<'_>) -> Result<T, Problem> {
    move |value| {
        let found = value.integer()?;
        let outside = || Problem::from(format!("must be between {least} and {most}"));
        if !(least..=most).contains(&found) {
            return Err(outside());
        }
        T::try_from(found).map_err(|_| outside())
    }
}

/// A number of bytes within bounds: a whole number, or text with a unit such as `"64KiB"`.
pub(super) fn bytes<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&Value<'_>) -> Result<T, Problem> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    move |value| {
        let found = if value.is_text() {
            with_unit(value.text()?, &UNITS).ok_or(
                "expected a number of bytes, or a size with a unit such as \"64KiB\" (B, KiB, MiB, GiB)",
            )?
        } else {
            value.integer()?
        };
        let outside = || Problem::from(format!("must be between {least} and {most} bytes"));
        if !(least..=most).contains(&found) {
            return Err(outside());
        }
        T::try_from(found).map_err(|_| outside())
    }
}

/// A duration within bounds: text with a unit such as `"300s"`.
pub(super) fn duration(least: Duration, most: Duration) -> impl Fn(&Value<'_>) -> Result<Duration, Problem> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    const EXPECTED: &str = "expected a duration with a unit, such as \"300s\" or \"10m\" (ms, s, m, h, d)";
    move |value| {
        let found = value.text().ok().and_then(|text| with_unit(text, &UNITS)).ok_or(EXPECTED)?;
        let found = Duration::from_millis(found);
        if (least..=most).contains(&found) {
            Ok(found)
        } else {
            Err(format!("must be between {} and {}", shown(least), shown(most)).into())
        }
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration as the file would write it.
pub(super) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
        .into_iter()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
        .map_or_else(|| format!("{millis}ms"), |(unit, factor)| format!("{}{unit}", millis / factor))
}

/// One of a few words.
pub(super) fn choice<T: Clone>(choices: &[(&'static str, T)]) -> impl Fn(&Value<'_>) -> Result<T, Problem> {
    move |value| {
        let names = || choices.iter().map(|(name, _)| *name);
        let expected = || {
            let quoted: Vec<String> = names().map(|name| format!("\"{name}\"")).collect();
            Problem::from(format!("expected {}", quoted.join(" or ")))
        };
        let found = value.text().map_err(|_| expected())?;
        choices
            .iter()
            .find(|(name, _)| *name == found)
            .map(|(_, meaning)| meaning.clone())
            .ok_or_else(|| expected().near(found, names()))
    }
}

/// An id of ours, through the parser of its type.
pub(super) fn id<T>(parse: impl Fn(&str) -> Option<T>) -> impl Fn(&Value<'_>) -> Result<T, Problem> {
    move |value| {
        parse(value.text()?).ok_or_else(|| {
            "expected 1 to 128 characters of A-Z a-z 0-9 . _ ~ - (and neither \".\" nor \"..\")".into()
        })
    }
}

/// An address to listen on.
pub(super) fn socket_address(value: &Value<'_>) -> Result<SocketAddr, Problem> {
    value
        .text()?
        .parse()
        .map_err(|_| "expected an IP address and a port, such as \"0.0.0.0:8443\" or \"[::]:8443\"".into())
}

/// A path, taken relative to the configuration file's directory. Whether anything is there is not
/// asked.
pub(super) fn path(base: &std::path::Path) -> impl Fn(&Value<'_>) -> Result<PathBuf, Problem> {
    move |value| {
        let text = value.text()?;
        if text.is_empty() || text.contains('\0') {
            return Err("expected a path".into());
        }
        Ok(base.join(text))
    }
}

/// The path of a file that can be opened for reading.
pub(super) fn file(base: &std::path::Path) -> impl Fn(&Value<'_>) -> Result<PathBuf, Problem> {
    move |value| {
        let path = path(base)(value)?;
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => Ok(path),
            Ok(_) => Err("expected a file, found something else there".into()),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }
}

/// Why a file cannot be read; with its path when that is plainly one, because a secret may stand in
/// its place by mistake.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let shown = if is_plainly_a_path(path) { format!("{}: ", path.display()) } else { String::new() };
    format!(
        "{shown}the file cannot be read: {} (relative paths start at the configuration file's directory)",
        error.kind()
    )
    .into()
}

/// Whether it ends as files do, in a short word after a full stop, and is no URL, which may carry a
/// credential: no secret's alphabet gives that.
fn is_plainly_a_path(path: &Path) -> bool {
    let is_no_url = path.to_str().is_some_and(|text| !text.contains([':', '@']));
    is_no_url
        && path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
            (2..=10).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_lowercase())
        })
}

/// `sha256:` and 64 hexadecimal digits.
fn digest(value: &Value<'_>, otherwise: &str) -> Result<Sha256, Problem> {
    value.text()?.strip_prefix("sha256:").and_then(hex32).ok_or_else(|| otherwise.into())
}

/// The digest of a bearer credential; the credential itself is refused.
pub(super) fn credential_digest(value: &Value<'_>) -> Result<Sha256, Problem> {
    let digest = digest(
        value,
        "expected \"sha256:\" and 64 hexadecimal digits; a credential in clear is refused: \
         hash it with `printf %s \"$CREDENTIAL\" | sha256sum`",
    )?;
    if digest == sha256(&[b""]) || digest == sha256(&[b"\n"]) {
        return Err("this is the digest of nothing, not of a credential".into());
    }
    Ok(digest)
}

/// The SHA-256 fingerprint of a certificate.
pub(super) fn certificate_fingerprint(value: &Value<'_>) -> Result<Sha256, Problem> {
    digest(
        value,
        "expected \"sha256:\" and the 64 hexadecimal digits of the certificate's SHA-256 fingerprint",
    )
}

/// 64 hexadecimal digits of either case.
pub(super) fn hex32(text: &str) -> Option<[u8; 32]> {
    (text.len() == 64).then(|| hex(text))??.try_into().ok()
}

/// Hexadecimal digits of either case.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.len().is_multiple_of(2).then(|| {
        text.as_bytes()
            .chunks_exact(2)
            .map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?))
            .collect()
    })?
}

/// base64 or base64url, padded or not.
pub(super) fn base64_any(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(text).ok())
}

/// An amount as `{ amount = 50000, currency = "usd" }`; for [`Section::tables`].
pub(super) fn money(section: &mut Section<'_>) -> Option<Money> {
    let amount = section.required("amount", |value| {
        MinorUnits::new(value.integer()?)
            .ok_or_else(|| "expected a whole number of minor units, at most 2^53 - 1".into())
    });
    let currency = section.required("currency", |value| {
        Currency::parse(value.text()?)
            .ok_or_else(|| "expected a currency of three letters, such as \"usd\"".into())
    });
    Some(Money { amount: amount?, currency: currency? })
}

/// Amounts, at most one a currency.
pub(super) fn money_by_currency(section: &mut Section<'_>, key: &'static str) -> Vec<Money> {
    let amounts = section.tables(key, money);
    let repeated = amounts
        .iter()
        .enumerate()
        .any(|(index, money)| amounts.iter().skip(index + 1).any(|other| other.currency == money.currency));
    if repeated {
        section.wrong(key, "a currency is listed twice");
    }
    amounts
}

/// An ACP version, by its date.
pub(super) fn version(value: &Value<'_>) -> Result<Version, Problem> {
    choice(&Version::NEWEST_FIRST.map(|version| (version.as_str(), version)))(value)
}

/// A name others call a merchant by.
pub(super) fn allowance_id(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    let fits = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 255 visible ASCII characters".into()) }
}
