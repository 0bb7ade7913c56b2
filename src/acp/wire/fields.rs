//! Members of an object as the schema wants them, each refusal naming its place. Unknown members are
//! refused, and named where the name may be told: a member's name is the caller's bytes too.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::json::{Object, Text, Value};
use super::{Found, WireError};
use crate::domain::told::tellable;

/// The longest text for which the schema sets no bound, in characters: what is kept is bounded.
pub(super) const LONGEST_TEXT: usize = 512;
/// Of a text that is judged by its meaning, which bounds it.
pub(super) const BY_MEANING: usize = usize::MAX;
/// The most members of a map.
const MOST_PAIRS: usize = 64;
/// The most bytes of a map's names and values together.
const MOST_PAIR_BYTES: usize = 8 << 10;

/// An object of the request and where it stands.
pub(super) struct Fields<'a> {
    object: Object<'a>,
    path: Cow<'static, str>,
}

impl<'a> Fields<'a> {
    /// Opens an object whose members are all among `known` (`additionalProperties: false`).
    pub(super) fn open(
        value: Value<'a>,
        path: impl Into<Cow<'static, str>>,
        known: &[&str],
    ) -> Result<Self, WireError> {
        let fields = Self::open_any(value, path)?;
        let unknown = fields.unknown(known).next();
        unknown.map_or(Ok(fields), Err)
    }

    /// As [`Self::open`], to go on when members are unknown.
    pub(super) fn open_finding(
        value: Value<'a>,
        path: impl Into<Cow<'static, str>>,
        known: &[&str],
        found: &mut Found,
    ) -> Option<Self> {
        let fields = found.take(Self::open_any(value, path))?;
        fields.unknown(known).for_each(|error| found.add(error));
        Some(fields)
    }

    fn open_any(value: Value<'a>, path: impl Into<Cow<'static, str>>) -> Result<Self, WireError> {
        let path = path.into();
        match value.object() {
            Some(object) => Ok(Self { object, path }),
            None => Err(WireError::structural("This must be an object without repeated members.", path)),
        }
    }

    fn unknown(&self, known: &[&str]) -> impl Iterator<Item = WireError> {
        let unknown = self.object.members().filter(|(name, _)| !known.contains(name));
        unknown.map(|(name, _)| {
            let message = match tellable(name) {
                Some(name) => {
                    Cow::Owned(format!("This object has a member that is not defined for it: {name}."))
                }
                None => Cow::Borrowed("This object has a member that is not defined for it."),
            };
            WireError::structural(message, self.path.clone())
        })
    }

    /// The JSONPath of a member.
    pub(super) fn at(&self, name: &'static str) -> String {
        format!("{}.{name}", self.path)
    }

    /// A member's value, if it is there. `null` is a value.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        self.object.get(name)
    }

    /// A member that must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<Value<'a>, WireError> {
        self.get(name).ok_or_else(|| WireError::structural("This is required.", self.at(name)))
    }

    /// Text of at most `longest` characters that must be there.
    pub(super) fn text(&self, name: &'static str, longest: usize) -> Result<Text<'a>, WireError> {
        self.required(name)?;
        self.optional_text(name, longest)?
            .ok_or_else(|| WireError::structural("This is required.", self.at(name)))
    }

    /// Text of at most `longest` characters that may be there.
    pub(super) fn optional_text(
        &self,
        name: &'static str,
        longest: usize,
    ) -> Result<Option<Text<'a>>, WireError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(text) = value.text() else {
            return Err(WireError::structural("This must be a string.", self.at(name)));
        };
        if text.as_str().chars().count() > longest {
            let message = format!("This is too long: at most {longest} characters.");
            return Err(WireError::structural(message, self.at(name)));
        }
        Ok(Some(text))
    }

    /// An integer that must be there.
    pub(super) fn integer(&self, name: &'static str) -> Result<i64, WireError> {
        let integer = self.required(name)?.integer();
        integer.ok_or_else(|| WireError::structural("This must be an integer.", self.at(name)))
    }

    /// One of a closed list of words that must be there.
    pub(super) fn word<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Result<T, WireError> {
        word(self.required(name)?, words).ok_or_else(|| {
            let defined: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("This is not one of the defined values: {}.", defined.join(", "));
            WireError::structural(message, self.at(name))
        })
    }

    /// A map from strings to strings that must be there, of at most [`MOST_PAIRS`] and
    /// [`MOST_PAIR_BYTES`].
    pub(super) fn map(&self, name: &'static str) -> Result<BTreeMap<String, String>, WireError> {
        let structural = |message| WireError::structural(message, self.at(name));
        let no_map = || structural("This must be an object whose values are all strings.");
        let object = self.required(name)?.object().ok_or_else(no_map)?;
        let pairs = object.members().map(|(key, value)| Some((key, value.text()?)));
        let pairs: Vec<_> = pairs.collect::<Option<_>>().ok_or_else(no_map)?;
        let bytes: usize = pairs.iter().map(|(key, text)| key.len() + text.as_str().len()).sum();
        if pairs.len() > MOST_PAIRS || bytes > MOST_PAIR_BYTES {
            return Err(structural("This may have 64 members, and 8 KiB of names and values in all."));
        }
        Ok(pairs.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect())
    }
}

/// The meaning of a value that is one of a closed list of words.
pub(super) fn word<T: Copy>(value: Value<'_>, words: &[(&str, T)]) -> Option<T> {
    let text = value.text()?;
    words.iter().find(|(word, _)| *word == text.as_str()).map(|(_, meaning)| *meaning)
}
