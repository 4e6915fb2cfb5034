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

/// When each message was first tried.
#[derive(Debug, Default)]
pub struct Table {
    first: HashTable<(Attempt, i64)>,
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
fn hash(entry: &(Attempt, i64)) -> u64 {
    entry.0.0
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
        match self.first.entry(attempt.0, |known| known.0 == attempt, hash) {
            Entry::Occupied(mut known) => known.get_mut().1 = known.get().1.min(first),
            Entry::Vacant(vacant) => {
                vacant.insert((attempt, first));
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
        match self.first.entry(attempt.0, |known| known.0 == attempt, hash) {
            Entry::Occupied(mut known) => {
                let waited = now - known.get().1;
                if waited > i64::from(delay.0) + PASSAGE {
                    known.get_mut().1 = now;
                    self.order.push_back((attempt, now));
                    return Waited::Begins;
                }
                u32::try_from(waited).map_or(Waited::InDoubt, Waited::For)
            }
            Entry::Vacant(_) if full => Waited::InDoubt,
            Entry::Vacant(vacant) => {
                vacant.insert((attempt, now));
                self.order.push_back((attempt, now));
                Waited::Begins
            }
        }
    }

    /// Forgets the oldest, if it is old enough.
    fn forget_one(&mut self, now: i64) {
        let Some((attempt, first)) = self.order.front().copied().filter(|(_, first)| first + LONGEST < now)
        else {
            return;
        };
        self.order.pop_front();
        if let Ok(known) = self.first.find_entry(attempt.0, |known| *known == (attempt, first)) {
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
    fn what_cannot_be_told_is_in_doubt() {
        let mut table = Table::new(1);
        assert_eq!(table.ask(A, DELAY, 1000), Waited::Begins);
        assert_eq!(table.ask(B, DELAY, 1000), Waited::InDoubt);
        assert_eq!(table.ask(A, DELAY, 999), Waited::InDoubt);
        assert_eq!(table.len(), 1);
        // What is older than any queue keeps makes room.
        assert_eq!(table.ask(B, DELAY, 1001 + LONGEST), Waited::Begins);
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
