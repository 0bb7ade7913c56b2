//! Places for connections. When all are taken, a stranger's connection that has been quiet the longest
//! gives way: whoever says nothing, and has shown nothing, must not keep others from being answered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::{Known, Standing};

/// Those that have been quiet the longest are looked for so many at a time, and again after a search
/// in vain only this much later: a flood of connections must not cause a search for each.
const FOUND_AT_ONCE: usize = 64;
const IN_VAIN: Duration = Duration::from_millis(10);

/// So many places, and who sits there.
pub(super) struct Seats {
    most: usize,
    /// What of it only guests may take.
    reserved: AtomicUsize,
    unread: Unread,
    hall: Mutex<Hall>,
}

/// Bytes of answers that may wait to be taken.
#[derive(Clone, Copy)]
pub(super) struct Unread {
    /// By one connection, unless it is one answer.
    pub(super) each: usize,
    /// By all together.
    pub(super) all: usize,
}

#[derive(Default)]
struct Hall {
    taken: HashMap<u64, Arc<Seat>>,
    next: u64,
    /// Taken by others than guests.
    common: usize,
    /// Bytes of answers that wait to be taken by those who have a place.
    unread: usize,
    /// Who was quiet when last looked for, and since when; the longest first.
    quiet: VecDeque<(Instant, Arc<Seat>)>,
    searched: Option<Instant>,
}

/// For whom a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anybody.
    Common,
    /// Who may have the reserved places too, and never gives way.
    Guest,
}

/// One connection's place.
pub(super) struct Seat {
    number: u64,
    state: Mutex<State>,
    standing: Standing,
    leave: CancellationToken,
}

struct State {
    kind: Kind,
    /// Requests being answered.
    busy: usize,
    /// Since when there is none.
    quiet: Instant,
    /// Bytes of answers that wait to be taken.
    unread: usize,
    /// Its place is another's.
    gone: bool,
}

impl Seats {
    /// So many places, of which so many, at most half, are for guests.
    pub(super) fn new(most: usize, reserved: usize, unread: Unread) -> Self {
        let seats = Self { most, reserved: AtomicUsize::new(0), unread, hall: Mutex::default() };
        seats.reserve(reserved);
        seats
    }

    /// From now on so many, at most half, are for guests. Nobody loses a place for it.
    pub(super) fn reserve(&self, reserved: usize) {
        self.reserved.store(reserved.min(self.most / 2), Ordering::Relaxed);
    }

    /// How many anybody may take.
    fn for_anybody(&self) -> usize {
        self.most - self.reserved.load(Ordering::Relaxed)
    }

    /// A place for a fresh connection, and whether another gave way for it; `None` when nobody can.
    pub(super) fn take(&self, kind: Kind) -> Option<(Arc<Seat>, bool)> {
        let mut hall = self.hall.lock();
        let evicted = self.room(&mut hall, kind)?;
        hall.next = hall.next.wrapping_add(1);
        let state = State { kind, busy: 0, quiet: Instant::now(), unread: 0, gone: false };
        let seat = Arc::new(Seat {
            number: hall.next,
            state: Mutex::new(state),
            standing: Standing::default(),
            leave: CancellationToken::new(),
        });
        hall.common += usize::from(kind == Kind::Common);
        hall.taken.insert(seat.number, Arc::clone(&seat));
        Some((seat, evicted))
    }

    /// A guest turns out to be anybody. As [`Self::take`]; its place is lost when there is none for it.
    pub(super) fn demote(&self, seat: &Arc<Seat>) -> Option<bool> {
        let mut hall = self.hall.lock();
        let others = hall.common;
        // It has a place already: of those for anybody one must be free.
        let evicted = if others < self.for_anybody() { false } else { hall.evict().then_some(true)? };
        seat.state.lock().kind = Kind::Common;
        hall.common += 1;
        Some(evicted)
    }

    fn room(&self, hall: &mut Hall, kind: Kind) -> Option<bool> {
        let full =
            hall.taken.len() >= self.most || (kind == Kind::Common && hall.common >= self.for_anybody());
        if full { hall.evict().then_some(true) } else { Some(false) }
    }

    /// An answer of so many bytes waits to be taken there, until what this returns is dropped; and how
    /// many connections had to go because too much was waiting: its own, when that has too much itself,
    /// else those with the most.
    pub(super) fn owe(self: &Arc<Self>, seat: &Arc<Seat>, bytes: usize) -> (Owed, usize) {
        let mut hall = self.hall.lock();
        let mut gone = 0;
        if hall.taken.contains_key(&seat.number) {
            hall.unread += bytes;
            let mut state = seat.state.lock();
            state.unread += bytes;
            let too_much = state.unread > self.unread.each && state.unread > bytes;
            drop(state);
            if too_much {
                hall.expel(seat);
                gone += 1;
            }
            while hall.unread > self.unread.all {
                let Some(most) = hall.most_unread(seat, bytes) else { break };
                hall.expel(&most);
                gone += 1;
            }
        }
        (Owed { seats: Arc::clone(self), seat: Arc::clone(seat), bytes }, gone)
    }

    /// Who has shown a credential that is none of these any more is a stranger.
    pub(super) fn forget_strangers(&self, known: &Known) {
        let mut hall = self.hall.lock();
        hall.taken.values().for_each(|seat| seat.standing.forget_unless(known));
        // There may be somebody who was not when it was looked last.
        hall.searched = None;
    }

    /// The connection has ended.
    pub(super) fn leave(&self, seat: &Seat) {
        self.hall.lock().remove(seat);
    }
}

impl Hall {
    fn remove(&mut self, seat: &Seat) {
        if self.taken.remove(&seat.number).is_some() {
            let state = seat.state.lock();
            self.common -= usize::from(state.kind == Kind::Common);
            self.unread = self.unread.saturating_sub(state.unread);
        }
    }

    /// Where the most waits, but for who has nothing but this one answer.
    fn most_unread(&self, newest: &Arc<Seat>, bytes: usize) -> Option<Arc<Seat>> {
        let others = self.taken.values().filter_map(|seat| {
            let unread = seat.state.lock().unread;
            let counts = unread > if Arc::ptr_eq(seat, newest) { bytes } else { 0 };
            counts.then_some((unread, seat))
        });
        others.max_by_key(|(unread, _)| *unread).map(|(_, seat)| Arc::clone(seat))
    }

    /// Takes a place away, whoever has it and whatever happens there.
    fn expel(&mut self, seat: &Seat) {
        seat.state.lock().gone = true;
        seat.leave.cancel();
        self.remove(seat);
    }

    /// Lets the stranger that has been quiet the longest give way; whether there was one.
    fn evict(&mut self) -> bool {
        loop {
            while let Some((since, seat)) = self.quiet.pop_front() {
                if self.taken.contains_key(&seat.number) && seat.give_way(since) {
                    self.remove(&seat);
                    return true;
                }
            }
            let now = Instant::now();
            if self.searched.is_some_and(|last| now < last + IN_VAIN) {
                return false;
            }
            let mut quiet: Vec<_> = self
                .taken
                .values()
                .filter_map(|seat| Some((seat.quiet_since()?, Arc::clone(seat))))
                .collect();
            self.searched = quiet.is_empty().then_some(now);
            let by_age = |(since, seat): &(Instant, Arc<Seat>)| (*since, seat.number);
            if quiet.len() > FOUND_AT_ONCE {
                quiet.select_nth_unstable_by_key(FOUND_AT_ONCE, by_age);
                quiet.truncate(FOUND_AT_ONCE);
            }
            quiet.sort_unstable_by_key(by_age);
            self.quiet = quiet.into();
        }
    }
}

impl Seat {
    /// Whether anybody there is known.
    pub(super) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// A request has arrived, and is being answered until what this returns is dropped; `None` when it
    /// came too late and nothing may begin.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Asked> {
        let mut state = self.state.lock();
        state.busy += usize::from(!state.gone);
        (!state.gone).then(|| Asked(Arc::clone(self)))
    }

    /// Completes when the place has been given to another.
    pub(super) async fn lost(&self) {
        self.leave.cancelled().await;
    }

    /// Since when it could give way.
    fn quiet_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        let may = state.busy == 0 && state.kind == Kind::Common && !self.standing.is_known();
        may.then_some(state.quiet)
    }

    /// Gives way, if nothing has happened there since.
    fn give_way(&self, since: Instant) -> bool {
        if self.quiet_since() != Some(since) {
            return false;
        }
        let mut state = self.state.lock();
        // It may have become busy since it was looked at.
        state.gone = state.busy == 0;
        if state.gone {
            self.leave.cancel();
        }
        state.gone
    }
}

/// A request that is being answered.
pub(super) struct Asked(Arc<Seat>);

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy = state.busy.saturating_sub(1);
        state.quiet = Instant::now();
    }
}

/// An answer that has not been taken whole.
pub(super) struct Owed {
    seats: Arc<Seats>,
    seat: Arc<Seat>,
    bytes: usize,
}

impl Drop for Owed {
    fn drop(&mut self) {
        let mut hall = self.seats.hall.lock();
        // What waited for who has gone is not counted any more.
        if hall.taken.contains_key(&self.seat.number) {
            hall.unread = hall.unread.saturating_sub(self.bytes);
            let mut state = self.seat.state.lock();
            state.unread = state.unread.saturating_sub(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREAD: Unread = Unread { each: 100, all: 250 };

    #[test]
    fn unread_answers_are_bounded_for_each_and_for_all_and_one_answer_is_always_kept() {
        let seats = Arc::new(Seats::new(10, 0, UNREAD));
        let [first, second, third, fourth] = [(); 4].map(|()| take(&seats, Kind::Guest));
        let owe = |seat: &Arc<Seat>, bytes, gone| {
            let (owed, went) = seats.owe(seat, bytes);
            assert_eq!(went, gone);
            owed
        };
        let kept = (owe(&first, 60, 0), owe(&first, 40, 0), owe(&second, 90, 0), owe(&third, 60, 0));
        assert_eq!(seats.hall.lock().unread, 250);
        let more = owe(&fourth, 1, 1);
        assert!(first.begin().is_none(), "the one with the most goes");
        assert_eq!(seats.hall.lock().unread, 151);
        drop(kept.0);
        assert_eq!(seats.hall.lock().unread, 151, "and is not counted twice");
        let _large = owe(&fourth, 1000, 1);
        assert!(fourth.begin().is_none() && second.begin().is_some(), "it has too much itself");
        let _one = owe(&second, 1, 0);
        let fifth = take(&seats, Kind::Guest);
        let _alone = owe(&fifth, 1000, 2);
        assert!(fifth.begin().is_some(), "one answer, however large");
        drop((kept.1, kept.2, kept.3, more));
    }

    fn take(seats: &Seats, kind: Kind) -> Arc<Seat> {
        seats.take(kind).unwrap().0
    }

    #[tokio::test]
    async fn who_was_quiet_longest_gives_way_and_nobody_known_busy_or_invited_does() {
        let seats = Seats::new(5, 0, UNREAD);
        let (known, busy, guest) =
            (take(&seats, Kind::Common), take(&seats, Kind::Common), take(&seats, Kind::Guest));
        known.standing().recognise(&[7; 32]);
        let _asked = busy.begin().unwrap();
        let (first, second) = (take(&seats, Kind::Common), take(&seats, Kind::Common));
        drop(first.begin().unwrap());
        let (third, evicted) = seats.take(Kind::Common).unwrap();
        assert!(evicted);
        second.lost().await;
        assert!(second.begin().is_none(), "nothing begins there any more");
        let _asked = (third.begin().unwrap(), first.begin().unwrap());
        assert!(seats.take(Kind::Common).is_none());
        seats.leave(&known);
        assert!(seats.take(Kind::Common).is_some());
        drop(guest);
    }

    #[test]
    fn reserved_places_are_for_guests_and_are_given_back() {
        let seats = Seats::new(4, 2, UNREAD);
        let common = [take(&seats, Kind::Common), take(&seats, Kind::Common)];
        common.iter().for_each(|seat| seat.standing().recognise(&[7; 32]));
        assert!(seats.take(Kind::Common).is_none());
        let guests = [take(&seats, Kind::Guest), take(&seats, Kind::Guest)];
        assert!(seats.take(Kind::Guest).is_none());
        assert_eq!(seats.demote(&guests[0]), None, "there is no place for another of anybody");
        seats.leave(&common[0]);
        seats.leave(&common[0]);
        assert_eq!(seats.demote(&guests[0]), Some(false));
        assert!(seats.take(Kind::Common).is_none());
        assert!(seats.take(Kind::Guest).is_some());
        let hall = seats.hall.lock();
        assert_eq!((hall.taken.len(), hall.common), (4, 2));
    }

    #[tokio::test]
    async fn many_give_way_in_the_order_in_which_they_fell_silent() {
        let most = 3 * FOUND_AT_ONCE;
        let seats = Seats::new(most, 0, UNREAD);
        let silent: Vec<_> = (0..most).map(|_| take(&seats, Kind::Common)).collect();
        for (at, oldest) in silent.iter().enumerate() {
            assert!(seats.take(Kind::Common).unwrap().1);
            assert!(oldest.begin().is_none(), "{at}");
            assert!(
                silent.get(at + 1).is_none_or(|next| next.quiet_since().is_some() && !next.state.lock().gone)
            );
        }
    }
}
