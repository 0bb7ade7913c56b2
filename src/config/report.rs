//! What is wrong with a configuration, all at once, each mistake with its line. Apart from the
//! readers because nothing here ever holds a value of the file: a message cannot leak a secret that
//! it never saw.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// One thing that makes a configuration unusable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The line, from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// The dotted path of the key, such as `agents[0].token_life`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what is expected. Never the value that was found.
    pub message: String,
    /// The nearest valid key or value.
    pub suggestion: Option<String>,
}

/// One thing that works but deserves a second look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// The dotted path of the key.
    pub key: String,
    /// What to think about. Never the value that was found.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, self.line, &self.key)?;
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(nearest) => write!(f, " (did you mean `{nearest}`?)"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, self.line, &self.key)?;
        f.write_str(&self.message)
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, line: usize, key: &str) -> fmt::Result {
    if line > 0 {
        write!(f, "{line}: ")?;
    }
    if key.is_empty() { Ok(()) } else { write!(f, "{key}: ") }
}

/// Every mistake of a configuration, in the order of its lines.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.mistakes))]
pub struct ConfigErrors {
    /// What is wrong; never empty.
    pub mistakes: Vec<Mistake>,
    /// What was noticed besides.
    pub warnings: Vec<Warning>,
}

impl ConfigErrors {
    /// A single mistake about the file as a whole.
    pub(super) fn about_file(message: String) -> Self {
        let mistake = Mistake { line: 0, key: String::new(), message, suggestion: None };
        Self { mistakes: vec![mistake], warnings: Vec::new() }
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Why one value is refused: a message that never holds the value, and perhaps the nearest valid one.
#[derive(Debug)]
pub(super) struct Problem {
    pub message: String,
    pub suggestion: Option<String>,
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { message, suggestion: None }
    }
}

impl Problem {
    /// The same problem with the nearest of `known` to what was found, when one is near.
    pub(super) fn near<'k>(mut self, found: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        self.suggestion = nearest(found, known);
        self
    }
}

/// The name of `known` that `found` most likely meant.
pub(super) fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    // Comparing is quadratic in length and no name of ours is long.
    if found.len() > 64 {
        return None;
    }
    let tolerated = (found.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found.to_ascii_lowercase(), name), name))
        .filter(|(distance, name)| *distance <= tolerated && *distance < name.len())
        .min()
        .map(|(_, name)| name.to_owned())
}

/// Collects what the readers find. Interior mutability lives only while a file is read, so that
/// nested sections can report without threading a `&mut` through every closure.
#[derive(Default)]
pub(super) struct Report {
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Warning>>,
    known: RefCell<BTreeSet<String>>,
    line_starts: Vec<usize>,
}

impl Report {
    /// A report about `text`.
    pub(super) fn about(text: &str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { line_starts: std::iter::once(0).chain(after_newlines).collect(), ..Self::default() }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn mistake(&self, line: usize, key: String, problem: Problem) {
        let Problem { message, suggestion } = problem;
        self.mistakes.borrow_mut().push(Mistake { line, key, message, suggestion });
    }

    pub(super) fn warning(&self, line: usize, key: String, message: String) {
        self.warnings.borrow_mut().push(Warning { line, key, message });
    }

    /// Remembers that this key exists; indexes are left out.
    pub(super) fn know(&self, section: &str, key: &str) {
        let mut plain = String::new();
        let mut inside = false;
        for character in section.chars() {
            inside = character == '[' || (inside && character != ']');
            if !inside && character != ']' {
                plain.push(character);
            }
        }
        let separator = if plain.is_empty() { "" } else { "." };
        self.known.borrow_mut().insert(format!("{plain}{separator}{key}"));
    }

    /// The mistakes and warnings in the order of their lines, and every key the readers know.
    pub(super) fn finish(self) -> (Vec<Mistake>, Vec<Warning>, BTreeSet<String>) {
        let mut mistakes = self.mistakes.into_inner();
        let mut warnings = self.warnings.into_inner();
        mistakes.sort();
        mistakes.dedup();
        warnings.sort();
        (mistakes, warnings, self.known.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        assert_eq!(nearest("lsiten", ["listen", "hosts"]), Some("listen".to_owned()));
        assert_eq!(nearest("Listen", ["listen", "hosts"]), Some("listen".to_owned()));
        assert_eq!(nearest("zzzzzz", ["listen", "hosts"]), None);
        assert_eq!(nearest("x", ["id"]), None);
    }

    #[test]
    fn an_offset_is_found_on_its_line() {
        let report = Report::about("a\nbb\n\nc");
        assert_eq!([0, 1, 2, 4, 5, 6, 99].map(|at| report.line_of(at)), [1, 1, 2, 2, 3, 4, 4]);
    }
}
