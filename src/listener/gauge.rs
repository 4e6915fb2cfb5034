//! How many connections there are, were at most, and were in all: for whoever watches.
//!
//! Promises: counting costs an atomic operation; a connection that ends in whatever way is counted as ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The connections of all listeners of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit: usize,
    live: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicU64,
    turned_away: AtomicU64,
}

/// A connection that is counted as live until this is dropped.
#[derive(Debug)]
pub(super) struct Live(Gauge);

impl Gauge {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Counts {
            limit,
            live: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }))
    }

    pub(super) fn opened(&self) -> Live {
        let live = self.0.live.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most.fetch_max(live, Ordering::Relaxed);
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        Live(self.clone())
    }

    pub(super) fn turned_away(&self) {
        self.0.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// How many may be served at once.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// How many are served now.
    pub fn live(&self) -> usize {
        self.0.live.load(Ordering::Relaxed)
    }

    /// How many were served at once, at most.
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// How many were served so far, those of now included.
    pub fn total(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// How many were closed at once, for all were in use.
    pub fn total_turned_away(&self) -> u64 {
        self.0.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}
