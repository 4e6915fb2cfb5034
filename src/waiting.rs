//! How long a message has been tried that a `max-delay` defers.
//!
//! Promises: whoever asks is answered from memory, and never waits for a disk. What is known survives a restart
//! ([`keeper`]), is bounded, and where it is in doubt (the table is full, what was kept was damaged, it cannot be
//! kept, the clock went back) the answer is that the message has waited long enough: it is accepted, for one
//! that is deferred time and again would in the end be given back to its sender.

pub mod keeper;

use crate::policy::attempt::Attempt;
use crate::policy::rule::Delay;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::VecDeque;

/// The most messages that are waited for at once: some 20 MB.
pub const MOST: usize = 500_000;

/// How long a message's sender and recipient have free passage once the wait is over: another message of theirs
/// that was deferred meanwhile is tried again in that time, and must not begin to wait anew.
const PASSAGE: i64 = 86_400;

/// The longest that anything is kept: longer than any queue keeps a message.
const LONGEST: i64 = 14 * 86_400;

/// The same where there is no room left: most queues give a message back after five days. So 80,000 messages a day may
/// begin to wait, most of which are spam that nobody tries again, before the answer is in doubt.
const LONGEST_WHEN_FULL: i64 = 6 * 86_400;

/// When a message was first tried.
#[derive(Clone, Copy, Debug)]
struct Known {
    attempt: Attempt,
    first: i64,
    /// When it was first told that the wait is over. Not kept over a restart: passage then ends later.
    over: Option<i64>,
}

/// When each message was first tried.
#[derive(Debug, Default)]
pub struct Table {
    first: HashTable<Known>,
    /// In the order in which they were first tried; one that was begun anew stands there twice.
    order: VecDeque<(Attempt, i64)>,
    most: usize,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It has been tried for so many seconds.
    For(u32),
    /// It is tried for the first time.
    Begins,
    /// Nobody can tell.
    InDoubt,
}

/// The hash of an attempt: it is one.
fn hash(known: &Known) -> u64 {
    known.attempt.0
}

impl Table {
    /// An empty one, for so many messages.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// How many messages it knows.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// What was kept. Of the same message the earlier counts.
    pub fn restore(&mut self, attempt: Attempt, first: i64) {
        match self.first.entry(attempt.0, |known| known.attempt == attempt, hash) {
            Entry::Occupied(mut known) => known.get_mut().first = known.get().first.min(first),
            Entry::Vacant(vacant) => {
                vacant.insert(Known { attempt, first, over: None });
                self.order.push_back((attempt, first));
            }
        }
    }

    /// How long a message has been tried, at `now` in seconds; it is known from now on.
    pub fn ask(&mut self, attempt: Attempt, delay: Delay, now: i64) -> Waited {
        // A little with each question, so that none pays for many.
        for _ in 0..2 {
            self.forget_one(now);
        }
        let full = self.first.len() >= self.most;
        match self.first.entry(attempt.0, |known| known.attempt == attempt, hash) {
            Entry::Occupied(mut occupied) => {
                let known = occupied.get_mut();
                let waited = now - known.first;
                // By when it was told, not by when it might have been: who tries again late has waited all the same.
                let passed = known.over.is_some_and(|over| over + PASSAGE < now);
                if passed || waited > LONGEST {
                    *known = Known { attempt, first: now, over: None };
                    self.order.push_back((attempt, now));
                    return Waited::Begins;
                }
                if waited >= i64::from(delay.0) {
                    known.over.get_or_insert(now);
                }
                u32::try_from(waited).map_or(Waited::InDoubt, Waited::For)
            }
            Entry::Vacant(_) if full => Waited::InDoubt,
            Entry::Vacant(vacant) => {
                vacant.insert(Known { attempt, first: now, over: None });
                self.order.push_back((attempt, now));
                Waited::Begins
            }
        }
    }

    /// All that it knows: each message, and when it was first tried.
    pub fn known(&self) -> Vec<(Attempt, i64)> {
        self.first.iter().map(|known| (known.attempt, known.first)).collect()
    }

    /// Forgets the oldest, if it is old enough; or of a time that no clock can have meant, which would hold up all
    /// behind it.
    fn forget_one(&mut self, now: i64) {
        let longest = if self.first.len() >= self.most { LONGEST_WHEN_FULL } else { LONGEST };
        let old = |first: i64| first + longest < now || first - LONGEST > now;
        let Some((attempt, first)) = self.order.front().copied().filter(|(_, first)| old(*first)) else {
            return;
        };
        self.order.pop_front();
        let same = |known: &Known| (known.attempt, known.first) == (attempt, first);
        if let Ok(known) = self.first.find_entry(attempt.0, same) {
            known.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Delay = Delay(14_400);
    const A: Attempt = Attempt(1);
    const B: Attempt = Attempt(2);

    #[test]
    fn a_message_waits_from_its_first_attempt_and_then_has_passage() {
        let mut table = Table::new(10);
        assert_eq!(table.ask(A, DELAY, 1000), Waited::Begins);
        assert_eq!(table.ask(A, DELAY, 1000), Waited::For(0));
        assert_eq!(table.ask(B, DELAY, 2000), Waited::Begins);
        assert_eq!(table.ask(A, DELAY, 15_400), Waited::For(14_400));
        // Another message of the same sender, deferred meanwhile, need not wait anew.
        assert_eq!(table.ask(A, DELAY, 15_400 + PASSAGE), Waited::For(14_400 + 86_400));
        assert_eq!(table.ask(A, DELAY, 15_401 + PASSAGE), Waited::Begins);
        assert_eq!(table.ask(A, DELAY, 15_402 + PASSAGE), Waited::For(1));
    }

    #[test]
    fn who_tries_again_late_has_waited_all_the_same() {
        let mut table = Table::new(10);
        assert_eq!(table.ask(A, DELAY, 0), Waited::Begins);
        // As a host that is switched off over the weekend, or an outage of ours.
        assert_eq!(table.ask(A, DELAY, 3 * PASSAGE), Waited::For(3 * 86_400));
        assert_eq!(table.ask(A, DELAY, 4 * PASSAGE), Waited::For(4 * 86_400));
        assert_eq!(table.ask(A, DELAY, 4 * PASSAGE + 1), Waited::Begins);
    }

    #[test]
    fn a_clock_that_was_far_ahead_holds_nothing_up() {
        let mut table = Table::new(2);
        assert_eq!(table.ask(A, DELAY, 100 * LONGEST), Waited::Begins);
        assert_eq!(table.ask(B, DELAY, 0), Waited::Begins);
        assert_eq!(table.ask(Attempt(3), DELAY, 0), Waited::Begins);
        assert_eq!(table.known().len(), 2);
    }

    #[test]
    fn what_cannot_be_told_is_in_doubt() {
        let mut table = Table::new(1);
        assert_eq!(table.ask(A, DELAY, 1000), Waited::Begins);
        assert_eq!(table.ask(B, DELAY, 1000), Waited::InDoubt);
        assert_eq!(table.ask(A, DELAY, 999), Waited::InDoubt);
        assert_eq!(table.len(), 1);
        // What is older than queues keep makes room.
        assert_eq!(table.ask(B, DELAY, 1000 + LONGEST_WHEN_FULL), Waited::InDoubt);
        assert_eq!(table.ask(B, DELAY, 1001 + LONGEST_WHEN_FULL), Waited::Begins);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn what_was_kept_counts_from_its_first_attempt() {
        let mut table = Table::new(10);
        table.restore(A, 500);
        table.restore(A, 400);
        table.restore(A, 600);
        assert_eq!(table.ask(A, DELAY, 1000), Waited::For(600));
        assert_eq!(table.ask(A, DELAY, 401 + LONGEST), Waited::Begins);
        assert!(!table.is_empty());
    }

    #[test]
    fn it_does_not_grow_beyond_its_bound() {
        let mut table = Table::new(100);
        for n in 0..10_000u64 {
            table.ask(Attempt(n), DELAY, i64::try_from(n).unwrap() * 86_400);
            assert!(table.len() <= 100 && table.order.len() <= 200);
        }
    }
}
