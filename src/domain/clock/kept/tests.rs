//! Clocks that are set, doubted and believed again.

use std::time::Duration;

use super::super::ManualClock;
use super::*;

const START: Timestamp = Timestamp::from_unix_seconds(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOURS_2: i64 = 2 * 3_600_000;

fn clocks() -> (Arc<ManualClock>, KeptClock) {
    let ours = Arc::new(ManualClock::new(START));
    let kept = KeptClock::new(ours.clone());
    kept.agree(None);
    (ours, kept)
}

/// Seconds after the start.
fn after(at: Timestamp) -> i64 {
    (at.unix_millis() - START.unix_millis()) / 1000
}

#[test]
fn a_wall_clock_that_was_set_is_believed_once_it_has_stood() {
    let (ours, kept) = clocks();
    ours.step(120_000);
    assert_eq!((after(kept.now()), after(kept.steady())), (0, 0));
    ours.advance(Duration::from_secs(9));
    assert_eq!(after(kept.now()), 9);
    ours.advance(Duration::from_secs(1));
    assert_eq!(after(kept.now()), 130);
    assert_eq!(after(kept.steady()), 10);
    assert_eq!(kept.moved(), [Moved { whose: Whose::Ours, by: 120_000 }]);
    assert_eq!(kept.moved(), []);
}

#[test]
fn a_clock_that_keeps_being_set_is_never_believed_and_a_correction_is_at_once() {
    let (ours, kept) = clocks();
    for n in 1..=20 {
        ours.step(60_000);
        assert_eq!(after(kept.now()), (n - 1) * 5);
        ours.advance(Duration::from_secs(5));
    }
    ours.step(-20 * 60_000 + 1_500);
    assert_eq!(kept.now(), START.plus(Duration::from_millis(101_500)));
    assert_eq!(kept.steady(), START.plus(Duration::from_secs(100)));
}

#[test]
fn a_forward_step_refuses_at_once_deletes_nothing_and_heals_when_it_is_undone() {
    let (ours, kept) = clocks();
    ours.step(HOURS_2);
    assert_eq!((after(kept.latest()), after(kept.earliest())), (7_200, 0));
    for _ in 0..59 {
        ours.advance(MINUTE);
        let _ = kept.now();
    }
    assert_eq!(after(kept.earliest()), 59 * 60);
    ours.step(-HOURS_2);
    ours.advance(MINUTE);
    let _ = kept.now();
    ours.advance(MINUTE);
    assert_eq!([kept.latest(), kept.earliest(), kept.now(), kept.steady()].map(after), [61 * 60; 4]);
}

#[test]
fn a_wall_clock_ahead_counts_for_deletion_after_an_hour_of_our_own() {
    let (ours, kept) = clocks();
    ours.step(HOURS_2);
    let _ = kept.now();
    ours.advance(Duration::from_secs(11));
    let _ = kept.now();
    ours.advance(Duration::from_secs(3_588));
    assert_eq!(after(kept.earliest()), 3_599);
    ours.advance(Duration::from_secs(1));
    assert_eq!(after(kept.earliest()), 10_800);
}

#[test]
fn a_backward_step_revives_nothing_and_waits_to_be_caught_up_with() {
    let (ours, kept) = clocks();
    ours.step(-HOURS_2);
    assert_eq!([kept.latest(), kept.earliest()].map(after), [0, -7_200]);
    ours.advance(Duration::from_secs(1_800));
    // Elapsed time goes on to expire what it expires.
    assert_eq!(after(kept.latest()), 1_800);
    let _ = kept.now();
    ours.advance(Duration::from_secs(9_000));
    assert_eq!(after(kept.now()), 3_600);
    assert!(after(kept.latest()) >= 3_600);
    ours.advance(MINUTE);
    assert!(after(kept.latest()) <= 10_800, "it does not run ahead for ever");
}

#[test]
fn what_the_store_had_agreed_on_bounds_deletion_and_refuses_after_a_start() {
    let ours = Arc::new(ManualClock::new(START));
    let kept = KeptClock::new(ours.clone());
    assert_eq!(kept.earliest().unix_millis(), 0);
    // Down for a day: nothing is deleted for an hour, then by the wall clock.
    kept.agree(Some(START.minus(Duration::from_secs(86_400))));
    assert_eq!([kept.earliest(), kept.latest()].map(after), [-86_400, 0]);
    ours.advance(Duration::from_secs(3_600));
    assert_eq!(after(kept.earliest()), 3_600);
    // A clock set back while it was down revives nothing.
    let set_back = KeptClock::new(Arc::new(ManualClock::new(START)));
    set_back.agree(Some(START.plus(MINUTE)));
    assert_eq!([set_back.earliest(), set_back.latest()].map(after), [0, 60]);
}

#[test]
fn what_is_read_at_once_is_what_is_read_one_by_one() {
    let (ours, kept) = clocks();
    kept.set_by_server(START.plus(MINUTE), kept.asking());
    ours.step(HOURS_2);
    kept.set_by_server(START.plus(MINUTE * 7), kept.asking());
    let one_by_one = Reading {
        steady: kept.steady(),
        latest: kept.latest(),
        earliest: kept.earliest(),
        unbroken_since: kept.unbroken_since(),
        jumped_at: kept.jumped_at(),
    };
    assert!(one_by_one.jumped_at.is_some() && one_by_one.latest > one_by_one.earliest);
    assert_eq!(kept.reading(), one_by_one);
}

#[test]
fn by_a_server_our_own_clock_does_not_count_and_whose_moved_is_told() {
    let (ours, kept) = clocks();
    let set = |seconds: i64| {
        kept.set_by_server(START.plus(Duration::from_secs(seconds.unsigned_abs())), kept.asking());
    };
    set(60);
    assert_eq!([kept.now(), kept.steady(), kept.latest()].map(after), [60; 3]);
    ours.step(-HOURS_2);
    ours.advance(Duration::from_secs(1));
    // The server's next answers are as true as before.
    set(61);
    assert_eq!([kept.now(), kept.steady(), kept.latest()].map(after), [61; 3]);
    assert_eq!(kept.moved(), [Moved { whose: Whose::Ours, by: -HOURS_2 }]);
    assert_eq!((after(kept.unbroken_since()), kept.jumped_at()), (60, None));
    // The server is set: spans begin anew, and others' clocks are not compared with it yet.
    set(361);
    assert_eq!([kept.steady(), kept.unbroken_since(), kept.now()].map(after), [361, 361, 61]);
    assert_eq!(kept.jumped_at().map(after), Some(361));
    assert_eq!(kept.moved(), [Moved { whose: Whose::Store, by: 300_000 }]);
    ours.advance(Duration::from_secs(10));
    assert_eq!(after(kept.now()), 371);
}
