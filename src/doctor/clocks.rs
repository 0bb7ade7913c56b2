//! How far a clock elsewhere is from this machine's.

use std::time::Duration;

use super::finding::{Finding, Subject};
use crate::domain::clock::Timestamp;

/// What whole seconds and a network cannot explain.
const DOUBTFUL: Duration = Duration::from_secs(5);
/// Signatures live for minutes, grants end to the second.
const FAULTY: Duration = Duration::from_secs(60);

/// Judges a clock that was read at `now`, after the answer with its time had taken so long.
pub(super) fn compared(subject: &Subject, theirs: Timestamp, now: Timestamp, took: Duration) -> Finding {
    let apart = theirs.distance(now).saturating_sub(took);
    let side = if theirs > now { "ahead of" } else { "behind" };
    let told = format!("{:.1} s {side} ours", apart.as_secs_f64());
    if apart > FAULTY {
        return subject.faulty("clock", format!("{told}: one of the two is wrong"));
    }
    if apart > DOUBTFUL {
        return subject.doubtful("clock", told);
    }
    subject.good("clock", "agrees with ours")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Health;

    #[test]
    fn a_clock_is_judged_by_what_its_answer_cannot_explain() {
        let now = Timestamp::from_unix_seconds(1_790_000_000);
        let subject = Subject("merchant a".to_owned());
        let judged = |seconds: i64, took| {
            let theirs = Timestamp::from_unix_seconds(1_790_000_000 + seconds);
            compared(&subject, theirs, now, Duration::from_secs(took)).health
        };
        assert_eq!([judged(0, 0), judged(-5, 0), judged(6, 1), judged(-12, 8)], [Health::Good; 4]);
        assert_eq!([judged(6, 0), judged(-60, 0)], [Health::Warning; 2]);
        assert_eq!([judged(61, 0), judged(-61, 0)], [Health::Fault; 2]);
    }
}
