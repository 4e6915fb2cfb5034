//! A table that forgets what was not used for long, and never grows beyond its bound.
//!
//! Two halves: what is used goes to the young one. When that is full, or has been the young one for as long as a value
//! may lie idle, the other is emptied and the halves change places. So what is idle goes after once to twice that time, what
//! is in use stays, and no list is kept of who was used when.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use jiff::{SignedDuration, Timestamp};
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::ops::Range;

/// Values are not moved when it grows.
type Half<K, V> = HashTable<(K, Box<V>)>;

/// A bounded table. Keys are ours or sendmail's, never a client's to choose: a fixed seed will do.
#[derive(Clone, Debug)]
pub(super) struct Table<K, V> {
    young: Half<K, V>,
    old: Half<K, V>,
    /// Of each half.
    bound: usize,
    idle: Option<SignedDuration>,
    /// When the halves last changed places.
    turned: Option<Timestamp>,
    /// In these seconds nothing can have been idle for long enough.
    quiet: Range<i64>,
}

impl<K: Eq + Hash + Copy, V> Table<K, V> {
    /// At most `bound` values; each is kept for `idle` at least, if that is said and there is room.
    pub(super) fn new(bound: usize, idle: Option<SignedDuration>) -> Self {
        Self {
            young: Half::new(),
            old: Half::new(),
            bound: (bound / 2).max(1),
            quiet: if idle.is_some() { 0..0 } else { i64::MIN..i64::MAX },
            idle,
            turned: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// What has to go now: before anything is put in, and as time goes by. `full`: whether for want of room.
    #[inline]
    pub(super) fn turn(&mut self, now: Timestamp) -> Option<Gone<K, V>> {
        let full = self.young.len() >= self.bound;
        // This is asked at every entry.
        if !full && self.quiet.contains(&now.as_second()) { None } else { self.turn_if_due(now, full) }
    }

    fn turn_if_due(&mut self, now: Timestamp, full: bool) -> Option<Gone<K, V>> {
        let over = self.idle.is_some_and(|idle| {
            // Another host's log may begin earlier.
            let since = self.turned.filter(|turned| *turned <= now).unwrap_or(now);
            self.turned_at(since);
            now.duration_since(since) >= idle
        });
        if !full && !over {
            return None;
        }
        self.turned_at(now);
        // Its memory serves again.
        mem::swap(&mut self.young, &mut self.old);
        Some(Gone { values: self.young.drain().collect(), full })
    }

    fn turned_at(&mut self, turned: Timestamp) {
        self.turned = Some(turned);
        if let Some(idle) = self.idle {
            self.quiet = turned.as_second() + 1..turned.as_second() + idle.as_secs() - 1;
        }
    }

    /// A value, which counts as used.
    pub(super) fn get(&mut self, key: K) -> Option<&mut V> {
        let hash = hash_of(&key);
        match self.young.find_entry(hash, |(known, _)| *known == key) {
            Ok(found) => Some(&mut found.into_mut().1),
            Err(absent) => {
                let found = take(&mut self.old, hash, &key)?;
                Some(put(absent.into_table(), hash, key, found))
            }
        }
    }

    /// A value, made where there is none. Who calls has asked [`Self::turn`].
    pub(super) fn get_or_insert(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let hash = hash_of(&key);
        match self.young.find_entry(hash, |(known, _)| *known == key) {
            Ok(found) => &mut found.into_mut().1,
            Err(absent) => {
                let value = take(&mut self.old, hash, &key).unwrap_or_else(|| Box::new(new()));
                put(absent.into_table(), hash, key, value)
            }
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(key);
        put(&mut self.young, hash_of(&key), key, Box::new(value));
    }

    /// Puts back what [`Self::turn`] has let go, where it was.
    pub(super) fn keep(&mut self, key: K, value: Box<V>) {
        put(&mut self.old, hash_of(&key), key, value);
    }

    pub(super) fn remove(&mut self, key: K) -> Option<Box<V>> {
        let hash = hash_of(&key);
        take(&mut self.young, hash, &key).or_else(|| take(&mut self.old, hash, &key))
    }

    /// All values, to be changed.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut (K, Box<V>)> {
        self.young.iter_mut().chain(&mut self.old)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> Vec<(K, Box<V>)> {
        self.old.drain().chain(self.young.drain()).collect()
    }
}

fn hash_of<K: Hash>(key: &K) -> u64 {
    FixedState::default().hash_one(key)
}

fn take<K: Eq, V>(half: &mut Half<K, V>, hash: u64, key: &K) -> Option<Box<V>> {
    let found = half.find_entry(hash, |(known, _)| known == key).ok()?;
    Some(found.remove().0.1)
}

/// Puts a value where none has its key.
fn put<K: Hash, V>(half: &mut Half<K, V>, hash: u64, key: K, value: Box<V>) -> &mut V {
    &mut half.insert_unique(hash, (key, value), |(key, _)| hash_of(key)).into_mut().1
}

/// What a table has let go.
#[derive(Clone, Debug)]
pub(super) struct Gone<K, V> {
    pub(super) values: Vec<(K, Box<V>)>,
    /// For want of room, not of use.
    pub(super) full: bool,
}
