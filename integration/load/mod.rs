//! An MTA under load: SMTP sessions as sendmail 8.17 tells a milter of them, many at once, every answer held against
//! the right one.
//!
//! Promises: a session honours what was negotiated (stages left out, macros asked for); what must be answered is
//! worked out here, from a table of four kinds of clients, by no code of the daemon's. A wrong answer is told with its
//! session; a connection that was cut is told apart from it. The same seed gives the same sessions.
//!
//! Must not: know files, processes or logs of the daemon. Whoever wants load in front of a listener takes this.

// Each of its users takes what it needs.
#![allow(dead_code)]

pub(crate) mod dialect;
pub(crate) mod drive;
pub(crate) mod engine;
pub(crate) mod script;
pub(crate) mod session;
pub(crate) mod tally;
pub(crate) mod wire;

/// splitmix64: numbers that look random, the same ones for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below a bound that is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// In so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn one<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(at).copied().unwrap_or(otherwise)
    }
}
