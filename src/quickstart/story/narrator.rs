//! Writes the story down, and keeps count of what did not come true.

use std::io::{self, Write};

use super::cast::Trouble;

/// Columns of a terminal that every terminal has.
const WIDTH: usize = 100;

/// Tells a story.
pub struct Narrator<'a> {
    out: &'a mut dyn Write,
    chapters: usize,
    steps: usize,
    failed: Vec<String>,
}

impl<'a> Narrator<'a> {
    /// A narrator who has said nothing yet.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, chapters: 0, steps: 0, failed: Vec::new() }
    }

    /// What did not come true.
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    /// Steps that came true.
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// A line as it stands.
    ///
    /// # Errors
    /// When it cannot be written; as with all that is said.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub(super) fn chapter(&mut self, title: &str) -> io::Result<()> {
        self.chapters += 1;
        self.line(&format!("\n{}. {title}", self.chapters))
    }

    /// A step that came true.
    pub(super) fn step(&mut self, text: &str) -> io::Result<()> {
        self.steps += 1;
        self.wrapped("   ✔ ", text)
    }

    /// More about the last step.
    pub(super) fn detail(&mut self, text: &str) -> io::Result<()> {
        self.wrapped("     ", text)
    }

    /// Ends a chapter: what it found, or nothing when a step did not come true, which is told.
    pub(super) fn conclude<T>(&mut self, chapter: Result<T, Trouble>) -> io::Result<Option<T>> {
        match chapter {
            Ok(found) => Ok(Some(found)),
            Err(Trouble::Out(error)) => Err(error),
            Err(Trouble::Step(step)) => {
                self.wrapped("   ✘ ", &step)?;
                self.failed.push(step);
                Ok(None)
            }
        }
    }

    /// Breaks text into lines that begin below the first one's text.
    fn wrapped(&mut self, mark: &str, text: &str) -> io::Result<()> {
        let mut line = mark.to_owned();
        let mut empty = true;
        for word in text.split(' ') {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line)?;
                line = " ".repeat(mark.chars().count());
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_steps_are_broken_below_their_text() {
        let mut out = Vec::new();
        let mut narrator = Narrator::new(&mut out);
        narrator.step(&"word ".repeat(30)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(text.starts_with("   ✔ word") && text.lines().nth(1).unwrap().starts_with("     word"));
    }

    #[test]
    fn what_did_not_come_true_is_told_and_kept() {
        let mut out = Vec::new();
        let mut narrator = Narrator::new(&mut out);
        assert!(narrator.conclude::<()>(Err(Trouble::Step("it rained".to_owned()))).unwrap().is_none());
        assert_eq!((narrator.failed(), narrator.steps()), (&["it rained".to_owned()][..], 0));
        assert!(String::from_utf8(out).unwrap().contains("✘ it rained"));
    }
}
