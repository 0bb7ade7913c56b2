//! How the servers of epoch keys stand: which may be used now, and why not.
//!
//! Written by the thread that asks them, read by every request that seals or opens a security code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::id::KeyId;

/// How old the word of a server may be that is relied on. It is asked every second.
const LATELY: Duration = Duration::from_secs(10);
/// Hexadecimal digits of a server's `run_id` in the ids of its keys: 64 of its 160 random bits.
const TAG_DIGITS: usize = 16;

/// Which process a key was made on: the beginning of its `run_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunTag(String);

impl RunTag {
    /// Of a `run_id`; `None` of what is none.
    pub(super) fn of_run(run_id: &str) -> Option<Self> {
        tag_digits(run_id).map(|digits| Self(digits.to_owned()))
    }

    /// Whether a key with this id was made on that process.
    pub(super) fn made(&self, id: &KeyId) -> bool {
        tag_in(id) == Some(self.as_text())
    }

    pub(super) fn as_text(&self) -> &str {
        &self.0
    }
}

fn tag_digits(run_id: &str) -> Option<&str> {
    run_id.get(..TAG_DIGITS).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The tag in a key's id; `None` of one that was made in a directory.
fn tag_in(id: &KeyId) -> Option<&str> {
    id.as_str().split('-').nth(2).and_then(tag_digits)
}

/// How one server stands.
struct Standing {
    /// The process, or why it may not be used.
    word: Result<RunTag, Arc<str>>,
    at: Instant,
}

/// How each server stands, in the order of the configuration.
pub(super) struct Standings(Mutex<Vec<Standing>>);

impl Standings {
    /// Nothing is known of any of them.
    pub(super) fn of_unknown(servers: usize) -> Self {
        let unknown = || Standing { word: Err("it was not asked yet".into()), at: Instant::now() };
        Self(Mutex::new((0..servers).map(|_| unknown()).collect()))
    }

    /// Notes what a server just said, or why it may not be used.
    pub(super) fn note_word(&self, server: usize, word: Result<RunTag, Arc<str>>) {
        if let Some(standing) = self.0.lock().get_mut(server) {
            *standing = Standing { word, at: Instant::now() };
        }
    }

    /// Whether the process that this key was made on may be relied on now.
    pub(super) fn is_usable(&self, id: &KeyId) -> bool {
        let is_its = |standing: &Standing| standing.word.as_ref().is_ok_and(|known| known.made(id));
        self.0.lock().iter().any(|standing| is_its(standing) && standing.at.elapsed() < LATELY)
    }

    /// Whether this key went with the process it was made on, as far as is known: every server may be
    /// used, and none is that process.
    pub(super) fn is_lost(&self, id: &KeyId) -> bool {
        let is_other = |standing: &Standing| standing.word.as_ref().is_ok_and(|known| !known.made(id));
        self.0.lock().iter().all(is_other)
    }

    /// Why servers may not be used, those of whom that holds.
    pub(super) fn troubles(&self) -> Vec<String> {
        let standings = self.0.lock();
        let trouble = |standing: &Standing| match &standing.word {
            Err(why) => Some(why.to_string()),
            Ok(_) if standing.at.elapsed() >= LATELY => Some("a server was not asked lately".to_owned()),
            Ok(_) => None,
        };
        standings.iter().filter_map(trouble).collect()
    }

    /// Why none of them may be used; nothing while one may.
    pub(super) fn outage(&self) -> Option<String> {
        let troubles = self.troubles();
        (troubles.len() == self.0.lock().len()).then(|| troubles.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_key_s_id_tells_the_process_it_was_made_on_and_one_of_a_directory_none() {
        let tag = RunTag::of_run(RUN).unwrap();
        let id = KeyId::parse(&format!("e500000-AbCdEf01-{}", tag.as_text())).unwrap();
        assert!(tag.made(&id));
        assert!(!tag.made(&KeyId::parse("e500000-AbCdEf01").unwrap()));
        assert_eq!(RunTag::of_run("0123"), None);
        assert_eq!(RunTag::of_run("not a run id of any server"), None);
    }

    #[test]
    fn a_key_is_usable_only_while_its_own_process_answers() {
        let (one, other) = (RunTag::of_run(RUN).unwrap(), RunTag::of_run(&RUN.replace('0', "f")).unwrap());
        let id = KeyId::parse(&format!("e500000-AbCdEf01-{}", one.as_text())).unwrap();
        let standings = Standings::of_unknown(2);
        assert!(!standings.is_usable(&id));
        assert!(standings.outage().unwrap().contains("not asked yet"));
        standings.note_word(1, Ok(one.clone()));
        assert!(standings.is_usable(&id) && standings.outage().is_none());
        assert!(!standings.is_lost(&id), "the other server was not asked yet");
        assert_eq!(standings.troubles().len(), 1);
        for word in [Ok(other), Err("gone".into())] {
            standings.note_word(1, word);
            assert!(!standings.is_usable(&id));
        }
        assert_eq!(standings.outage().as_deref(), Some("it was not asked yet; gone"));
        (0..2).for_each(|server| {
            standings.note_word(server, RunTag::of_run(&RUN.replace('0', "f")).ok_or("".into()))
        });
        assert!(standings.is_lost(&id));
        standings.note_word(0, Ok(one));
        assert!(!standings.is_lost(&id));
    }
}
