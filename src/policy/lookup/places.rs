//! Where things stand, by their hash: the one table under the index, for names as for networks.
//!
//! Promises: what is not there is told in one line of the processor's cache as a rule, and by branches that nearly
//! always go the same way; memory can be fetched for several that are sought before the first is looked at; growing reads
//! nothing but the table.
//! Must not: know what stands at a place. Nothing is ever taken out.

use foldhash::fast::{FixedState, FoldHasher};
use prefetch_index::prefetch_index;
use std::hash::{BuildHasher, Hash, Hasher};

/// How many slots a bucket has, so that it is one line of the cache.
const SLOTS: usize = 7;

/// How many slots of a bucket are taken on average, at the most: then one bucket of nine is full, and the next may
/// have what belongs there.
const FILLED: usize = 4;

/// Half of a hash. It says where something belongs in a table of whatever size, and tells things apart too: of those that
/// are met on the way to one in a million, one in a thousand has the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag(u32);

impl Tag {
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::hashed(|hasher| hasher.write(bytes))
    }

    pub(super) fn of(value: &impl Hash) -> Self {
        Self::hashed(|hasher| value.hash(hasher))
    }

    /// One seed for all: clients choose what is looked up, never what is stored, so no table can be flooded.
    fn hashed(write: impl FnOnce(&mut FoldHasher<'static>)) -> Self {
        let mut hasher = FixedState::default().build_hasher();
        write(&mut hasher);
        Self(u32::try_from(hasher.finish() >> 32).unwrap_or_default())
    }

    /// The bucket where it belongs, of so many: in their order, so that a table that grows is copied from its beginning to
    /// its end.
    fn home(self, buckets: usize) -> usize {
        usize::try_from((u64::from(self.0) * buckets as u64) >> 32).unwrap_or_default()
    }
}

/// Open addressing: a place is in the bucket where its tag belongs, or in the first one behind it that had room.
#[derive(Debug, Default)]
pub(super) struct Places {
    buckets: Vec<Bucket>,
    count: usize,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    tags: [Tag; SLOTS],
    places: [u32; SLOTS],
    taken: u32,
}

impl Bucket {
    /// The slots that have this tag, a bit each. All are compared: a branch for each would be foretold wrong.
    fn with(&self, tag: Tag) -> u32 {
        let mut found = 0;
        for (at, other) in self.tags.iter().enumerate() {
            found |= u32::from(*other == tag) << at;
        }
        found & ((1 << self.taken) - 1)
    }

    /// Takes a slot. Says whether there was one.
    fn add(&mut self, tag: Tag, place: u32) -> bool {
        let at = self.taken as usize;
        let (Some(tags), Some(places)) = (self.tags.get_mut(at), self.places.get_mut(at)) else {
            return false;
        };
        (*tags, *places) = (tag, place);
        self.taken += 1;
        true
    }

    fn is_full(&self) -> bool {
        self.taken as usize == SLOTS
    }
}

/// The bucket behind this one, of so many.
fn next(at: usize, buckets: usize) -> usize {
    if at + 1 == buckets { 0 } else { at + 1 }
}

impl Places {
    /// Has the memory fetched that this tag needs. Who has several does so for all before it looks at the first, and
    /// waits as long as for one.
    pub(super) fn fetch(&self, tag: Tag) {
        prefetch_index(&self.buckets, tag.home(self.buckets.len()));
    }

    /// What is at the first place of this tag where something is.
    pub(super) fn find<T>(&self, tag: Tag, mut is: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mut at = tag.home(self.buckets.len());
        loop {
            let bucket = self.buckets.get(at)?;
            let mut with = bucket.with(tag);
            while with > 0 {
                let place = bucket.places.get(with.trailing_zeros() as usize)?;
                if let Some(found) = is(*place) {
                    return Some(found);
                }
                with &= with - 1;
            }
            if !bucket.is_full() {
                return None;
            }
            at = next(at, self.buckets.len());
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let wanted = self.count.saturating_add(more).div_ceil(FILLED);
        if wanted > self.buckets.len() {
            self.grow(wanted);
        }
    }

    /// Adds a place. Whether it is there already is for [`Self::find`] to say.
    pub(super) fn add(&mut self, tag: Tag, place: u32) {
        if self.count == self.buckets.len() * FILLED {
            self.grow((self.buckets.len() * 2).max(2));
        }
        self.put(tag, place);
        self.count += 1;
    }

    fn put(&mut self, tag: Tag, place: u32) {
        let buckets = self.buckets.len();
        let mut at = tag.home(buckets);
        while self.buckets.get_mut(at).is_some_and(|bucket| !bucket.add(tag, place)) {
            at = next(at, buckets);
        }
    }

    fn grow(&mut self, buckets: usize) {
        for bucket in std::mem::replace(&mut self.buckets, vec![Bucket::default(); buckets]) {
            for (tag, place) in bucket.tags.into_iter().zip(bucket.places).take(bucket.taken as usize) {
                self.put(tag, place);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(places: &Places, tag: Tag) -> Vec<u32> {
        let mut found = Vec::new();
        let none: Option<()> = places.find(tag, |place| {
            found.push(place);
            None
        });
        assert_eq!(none, None);
        found
    }

    #[test]
    fn what_was_added_is_found_whatever_the_table_grew_through() {
        for reserved in [0, 3, 40_000] {
            let mut places = Places::default();
            assert_eq!(all_of(&places, Tag::of(&0)), [] as [u32; 0]);
            places.reserve(reserved);
            for n in 0..40_000_u32 {
                places.add(Tag::of(&n), n);
            }
            assert_eq!(places.len(), 40_000);
            for n in 0..40_000_u32 {
                places.fetch(Tag::of(&n));
                assert_eq!(places.find(Tag::of(&n), |place| (place == n).then_some(place)), Some(n));
            }
        }
    }

    #[test]
    fn places_of_one_tag_overflow_into_the_next_buckets_and_the_last_leads_to_the_first() {
        // All belong in the last of five buckets.
        let (tag, other) = (Tag(u32::MAX), Tag(u32::MAX - 1));
        let mut places = Places::default();
        places.reserve(20);
        for n in 0..16 {
            places.add(tag, n);
            places.add(other, 100 + n);
            if n == 1 {
                assert_eq!(
                    places.buckets.iter().map(|bucket| bucket.taken).collect::<Vec<_>>(),
                    [0, 0, 0, 0, 4]
                );
            }
            if n == 8 {
                assert_eq!(
                    places.buckets.iter().map(|bucket| bucket.taken).collect::<Vec<_>>(),
                    [7, 4, 0, 0, 7]
                );
            }
        }
        for buckets in [10, 11, 40] {
            places.grow(buckets);
            for (tag, expected) in [(tag, 0..16), (other, 100..116)] {
                let mut found = all_of(&places, tag);
                found.sort_unstable();
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_bucket_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Bucket>(), 64);
    }
}
