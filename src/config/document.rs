//! A TOML document as typed readers see it.
//!
//! Sections that hand out fields, remember every mistake and refuse the keys nobody asked for.
//! Hand-written over `toml`'s spanned document instead of derived, because a derived reader stops at the
//! first mistake and may quote what it found.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::digests::Digests;
use super::report::{Problem, Report};
use super::secrets::Sources;
use crate::crypto::digest::Sha256;

/// A value of the document and the line it stands on.
pub(super) struct Value<'a> {
    raw: &'a DeValue<'a>,
    /// The line, from 1.
    pub line: usize,
}

impl<'a> Value<'a> {
    /// The value as a string.
    pub(super) fn text(&self) -> Result<&'a str, Problem> {
        match self.raw {
            DeValue::String(text) => Ok(text),
            _ => Err("expected a string".into()),
        }
    }

    /// The value as a whole number that is not negative.
    pub(super) fn integer(&self) -> Result<u64, Problem> {
        let DeValue::Integer(integer) = self.raw else { return Err("expected a whole number".into()) };
        u64::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| "expected a whole number that is not negative and below 2^64".into())
    }

    /// The value as true or false.
    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.raw {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err("expected true or false".into()),
        }
    }

    /// The elements of a list, or the value itself.
    pub(super) fn elements(&self) -> Vec<Value<'a>> {
        let of = |raw| Value { raw, line: self.line };
        match self.raw {
            DeValue::Array(elements) => elements.iter().map(|element| of(element.get_ref())).collect(),
            raw => vec![of(raw)],
        }
    }

    /// Whether the value is a string.
    pub(super) fn is_text(&self) -> bool {
        self.raw.is_str()
    }
}

/// A table of the document, perhaps absent. Made only by [`read_root`] and by other sections, which
/// check for unknown keys as soon as the reader returns: a reader cannot forget to.
/// Readers therefore ask for every key of a section before they return.
pub(super) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    path: String,
    /// The line of the table's header, or of the table that lacks it.
    pub line: usize,
    /// Where what was parsed begins in the file.
    begin: usize,
    asked: Vec<&'static str>,
    /// What stands here is no table: that was said, and nothing more is.
    muted: bool,
    report: &'a Report,
}

/// Reads the whole document; unknown sections are mistakes.
pub(super) fn read_root<'a, T>(
    table: &'a DeTable<'a>,
    report: &'a Report,
    read: impl FnOnce(&mut Section<'a>) -> T,
) -> T {
    let (path, asked) = (String::new(), Vec::new());
    Section { table: Some(table), path, line: 1, begin: 0, asked, muted: false, report }.read_with(read)
}

/// The `id`s in a list of tables, read ahead so that other entries can name them in any order.
/// Says nothing of mistakes: the list's own reader does.
pub(super) fn ids_in<'a>(table: &'a DeTable<'a>, list: &str) -> Vec<&'a str> {
    let elements = table.get(list).and_then(|value| value.get_ref().as_array());
    elements
        .into_iter()
        .flatten()
        .filter_map(|element| element.get_ref().as_table()?.get("id")?.get_ref().as_str())
        .collect()
}

impl<'a> Section<'a> {
    /// The field if it is present and well-formed.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(&value).map_err(|problem| self.wrong_at(value.line, key, problem)).ok()
    }

    /// The field; its absence is a mistake.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        if !self.has(key) {
            self.know(key);
            self.wrong_at(self.line, key, "missing".into());
        }
        self.optional(key, read)
    }

    /// The field or its default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Result<T, Problem>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A list; `None` when the key is absent or anything in it is wrong, so that an empty list is
    /// one that was written empty.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&Value<'a>) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Array(elements) = value.raw else {
            self.wrong_at(value.line, key, "expected a list".into());
            return None;
        };
        let read_element = |(index, element)| {
            let element = self.locate(element);
            let problem = match read(&element) {
                Ok(item) => return Some(item),
                Err(problem) => problem,
            };
            self.wrong_at(element.line, &format!("{key}[{index}]"), problem);
            None
        };
        // Every element is read before the first failure counts.
        let read: Vec<Option<T>> = elements.iter().enumerate().map(read_element).collect();
        read.into_iter().collect()
    }

    /// A table that may be absent: its reader then sees an empty one and gives defaults.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let section = match self.value(key) {
            Some(value) => self.section_of(&value, key),
            None => self.inner(None, key, self.line, false),
        };
        section.read_with(read)
    }

    /// A table that means something by being there.
    pub(super) fn optional_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> Option<T> {
        let value = self.value(key)?;
        Some(self.section_of(&value, key).read_with(read))
    }

    /// A table whose absence is a mistake.
    pub(super) fn required_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.know(key);
            self.wrong_at(self.line, key, "this section is missing".into());
            return None;
        }
        self.optional_table(key, read).flatten()
    }

    /// A list of tables, empty when absent. What a reader gives up on is left out.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(elements) = value.raw else {
            self.wrong_at(value.line, key, "expected a list of tables".into());
            return Vec::new();
        };
        let sections = elements
            .iter()
            .enumerate()
            .map(|(index, element)| self.section_of(&self.locate(element), &format!("{key}[{index}]")));
        sections.filter_map(|section| section.read_with(&mut read)).collect()
    }

    /// A list of tables of which each is in a document of its own, at the place that stands beside it.
    /// `None` where one is no TOML, or has not one such table and nothing else: that is for who reads
    /// the whole.
    pub(super) fn tables_apart<T>(
        &mut self,
        key: &'static str,
        documents: &[(usize, &str)],
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.know(key);
        let mut found = Vec::with_capacity(documents.len());
        for (index, (begin, text)) in documents.iter().enumerate() {
            let (document, errors) = DeTable::parse_recoverable(text);
            let document = document.get_ref();
            let only = document.get(key).and_then(|list| list.get_ref().as_array());
            let mut tables = only.filter(|_| errors.is_empty() && document.len() == 1)?.iter();
            let (Some(table), None) = (tables.next(), tables.next()) else { return None };
            let apart = Section { begin: *begin, ..self.inner(None, "", self.line, false) };
            let section = apart.section_of(&apart.locate(table), &format!("{key}[{index}]"));
            found.extend(section.read_with(&mut read));
        }
        Some(found)
    }

    /// The digest of what stands here; the files it names are noted.
    pub(super) fn noted_by(&self, digests: &mut Digests, sources: &Sources<'_>) -> Sha256 {
        self.table.map_or_else(Sha256::default, |table| digests.note(table, &[], sources))
    }

    /// Remembers a mistake at a key of this section.
    pub(super) fn wrong(&self, key: &str, problem: impl Into<Problem>) {
        self.wrong_at(self.line_of(key), key, problem.into());
    }

    /// Remembers a warning at a key of this section.
    pub(super) fn warn(&self, key: &str, message: impl Into<String>) {
        if !self.muted {
            self.report.warning(self.line_of(key), self.key_path(key), message.into());
        }
    }

    /// Whether the key is present, well-formed or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether the key is present; what stands there is for somebody else to read.
    pub(super) fn passes_over(&mut self, key: &'static str) -> bool {
        self.know(key);
        self.has(key)
    }

    /// Whether the key is absent or an empty list.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.entry(key).is_none_or(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty()))
    }

    /// The line of a key, or of the section when it is absent.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.entry(key).map_or(self.line, |value| self.line_at(value.span().start))
    }

    fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.know(key);
        self.entry(key).map(|value| self.locate(value))
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(key))
    }

    fn locate(&self, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value { raw: value.get_ref(), line: self.line_at(value.span().start) }
    }

    /// The line at an offset in what was parsed.
    fn line_at(&self, offset: usize) -> usize {
        self.report.line_of(self.begin + offset)
    }

    fn section_of(&self, value: &Value<'a>, key: &str) -> Section<'a> {
        let table = match value.raw {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong_at(value.line, key, "expected a table".into());
                None
            }
        };
        self.inner(table, key, value.line, table.is_none())
    }

    fn inner(&self, table: Option<&'a DeTable<'a>>, key: &str, line: usize, muted: bool) -> Section<'a> {
        let (path, muted) = (self.key_path(key), muted || self.muted);
        Section { table, path, line, begin: self.begin, asked: Vec::new(), muted, report: self.report }
    }

    fn know(&mut self, key: &'static str) {
        if !self.asked.contains(&key) {
            self.asked.push(key);
            self.report.know(&self.path, key);
        }
    }

    fn wrong_at(&self, line: usize, key: &str, problem: Problem) {
        if !self.muted {
            self.report.mistake(line, self.key_path(key), problem);
        }
    }

    fn key_path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            (path, "") => path.to_owned(),
            ("", key) => key.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn read_with<T>(mut self, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let value = read(&mut self);
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let problem = Problem::from("unknown key").near(name, self.asked.iter().copied());
                let line = self.line_at(key.span().start);
                self.wrong_at(line, printable(name), problem);
            }
        }
        value
    }
}

/// An unknown key as it may be printed: a secret pasted in a key's place is not repeated. Keys are
/// words, in which capitals and digits are few; in what is drawn at random they are not.
fn printable(key: &str) -> &str {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let few = |is: fn(&u8) -> bool, most| key.as_bytes().iter().filter(|byte| is(byte)).count() <= most;
    let is_word =
        (1..=32).contains(&key.len()) && few(u8::is_ascii_digit, 2) && few(u8::is_ascii_uppercase, 3);
    if plain && is_word { key } else { "(unprintable key)" }
}
