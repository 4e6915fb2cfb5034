//! Names and their rules: one arena, and one table of places in it.
//!
//! Promises: a name that is not there is told by the table alone, which has eight bytes a slot; growing reads no name
//! again; a walk over all names reads the arena from its beginning to its end, in the order in which they were added.
//! Must not: put names in the form for comparison.

use super::{InsertError, RuleId, hasher};
use std::hash::Hasher;

/// Before a name in the arena: its rule (four bytes), and its length (two).
const HEADER: usize = 6;

/// A table is at most half full: then a name that is not there meets one or two others on the way, on one line of the
/// cache as a rule.
const FULL: (usize, usize) = (1, 2);

/// The names of a side.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    /// Of each name its header, then its bytes.
    arena: Vec<u8>,
    /// Open addressing: a name's slot is that where its tag belongs, or the next one behind it that was free.
    slots: Vec<Slot>,
    count: usize,
}

/// Where a name stands, and half of its hash. That half says where the slot belongs in a table of whatever size, and
/// tells names apart too: of those that are met on the way to one in a million, one in a thousand has the same.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    /// Where its header begins in the arena, counted from 1; 0 where the slot is free.
    place: u32,
}

/// Where a search ended.
enum Probe<'t> {
    /// At the name.
    Found(&'t [u8], RuleId),
    /// It is not there; this slot is free for it.
    Free(usize),
}

fn tag_of(name: &[u8]) -> u32 {
    let mut hasher = hasher();
    hasher.write(name);
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// Where a tag belongs among so many slots: in their order, so that a table that grows is copied from its beginning to its
/// end.
fn home(tag: u32, slots: usize) -> usize {
    usize::try_from((u64::from(tag) * slots as u64) >> 32).unwrap_or_default()
}

impl NameTable {
    /// The name that stands at a slot's place, its rule, and where the next one begins.
    fn entry(&self, start: usize) -> Option<(&[u8], RuleId, usize)> {
        let (header, rest) = self.arena.get(start..)?.split_first_chunk::<HEADER>()?;
        let [r0, r1, r2, r3, l0, l1] = *header;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let rule = RuleId(u32::from_le_bytes([r0, r1, r2, r3]));
        Some((rest.get(..length)?, rule, start + HEADER + length))
    }

    /// Searches behind a tag's home. Nothing where there are no slots.
    fn probe(&self, name: &[u8], tag: u32) -> Option<Probe<'_>> {
        let mut at = home(tag, self.slots.len());
        loop {
            let slot = self.slots.get(at)?;
            let Some(start) = slot.place.checked_sub(1) else { return Some(Probe::Free(at)) };
            if slot.tag == tag
                && let Some((found, rule, _)) = self.entry(start as usize)
                && found == name
            {
                return Some(Probe::Found(found, rule));
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }

    /// The rule of a name, and the name as it is kept.
    pub(super) fn get(&self, name: &str) -> Option<(&str, RuleId)> {
        match self.probe(name.as_bytes(), tag_of(name.as_bytes()))? {
            // Whole strings were copied in.
            Probe::Found(name, rule) => Some((std::str::from_utf8(name).ok()?, rule)),
            Probe::Free(_) => None,
        }
    }

    /// Makes room for so many names of so many bytes in all.
    pub(super) fn reserve(&mut self, names: usize, bytes: usize) {
        self.arena.reserve(bytes.saturating_add(names.saturating_mul(HEADER)));
        let (filled, of) = FULL;
        let wanted = (self.count.saturating_add(names)).saturating_mul(of) / filled + 1;
        if wanted > self.slots.len() {
            self.grow(wanted);
        }
    }

    /// Has the slots of these names fetched: what waits for several at once waits as long as for one.
    pub(super) fn prepare<'n>(&self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            let slot = self.slots.get(home(tag_of(name.as_bytes()), self.slots.len()));
            std::hint::black_box(slot.map(|slot| slot.place));
        }
    }

    fn grow(&mut self, slots: usize) {
        let before = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        for slot in before.into_iter().filter(|slot| slot.place > 0) {
            let mut at = home(slot.tag, slots);
            while self.slots.get(at).is_some_and(|slot| slot.place > 0) {
                at = if at + 1 == slots { 0 } else { at + 1 };
            }
            if let Some(free) = self.slots.get_mut(at) {
                *free = slot;
            }
        }
    }

    /// Adds a name.
    pub(super) fn insert(&mut self, name: &str, rule: RuleId) -> Result<(), InsertError> {
        let (filled, of) = FULL;
        if (self.count + 1).saturating_mul(of) > self.slots.len().saturating_mul(filled) {
            self.grow(self.slots.len().saturating_mul(2).max(8));
        }
        let tag = tag_of(name.as_bytes());
        let free = match self.probe(name.as_bytes(), tag) {
            Some(Probe::Found(_, taken)) => return Err(InsertError::Taken(taken)),
            Some(Probe::Free(free)) => free,
            None => return Err(InsertError::Full),
        };
        let length = u16::try_from(name.len()).map_err(|_| InsertError::Full)?;
        let place = u32::try_from(self.arena.len() + 1).map_err(|_| InsertError::Full)?;
        let [r0, r1, r2, r3] = rule.0.to_le_bytes();
        let [l0, l1] = length.to_le_bytes();
        self.arena.extend_from_slice(&[r0, r1, r2, r3, l0, l1]);
        self.arena.extend_from_slice(name.as_bytes());
        if let Some(slot) = self.slots.get_mut(free) {
            *slot = Slot { tag, place };
        }
        self.count += 1;
        Ok(())
    }

    /// Every name with its rule, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, RuleId)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, rule, next) = self.entry(at)?;
            at = next;
            Some((std::str::from_utf8(name).unwrap_or_default(), rule))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_whatever_the_table_grew_through() {
        for reserved in [0, 3, 10_000] {
            let mut table = NameTable::default();
            assert_eq!(table.get("n0"), None);
            table.reserve(reserved, 0);
            for n in 0..10_000 {
                assert_eq!(table.insert(&format!("n{n}"), RuleId::new(n)), Ok(()));
            }
            for n in 0..10_000 {
                let name = format!("n{n}");
                assert_eq!(table.get(&name), Some((name.as_str(), RuleId::new(n))));
                assert_eq!(table.insert(&name, RuleId::new(0)), Err(InsertError::Taken(RuleId::new(n))));
                assert_eq!(table.get(&format!("x{n}")), None);
            }
            assert_eq!(table.len(), 10_000);
            let order: Vec<usize> = table.iter().map(|(_, rule)| rule.index()).collect();
            assert_eq!(order, (0..10_000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn names_of_one_tag_are_told_apart_and_the_last_slots_lead_to_the_first() {
        // All at the end of a table of eight: five of six go on at its beginning.
        let mut table = NameTable { slots: vec![Slot::default(); 8], ..NameTable::default() };
        for n in 0..6_u32 {
            let name = format!("name{n}");
            let Some(Probe::Free(free)) = table.probe(name.as_bytes(), u32::MAX) else {
                panic!("{n} is there")
            };
            assert_eq!(free, (7 + n as usize) % 8);
            table.slots[free] = Slot { tag: u32::MAX, place: u32::try_from(table.arena.len()).unwrap() + 1 };
            table.arena.extend_from_slice(&n.to_le_bytes());
            table.arena.extend_from_slice(&5_u16.to_le_bytes());
            table.arena.extend_from_slice(name.as_bytes());
        }
        for _ in 0..2 {
            for n in 0..6 {
                let name = format!("name{n}");
                let found = match table.probe(name.as_bytes(), u32::MAX) {
                    Some(Probe::Found(_, rule)) => rule.index(),
                    _ => panic!("{name} is gone"),
                };
                assert_eq!(found, n);
            }
            table.grow(16);
        }
    }

    #[test]
    fn a_name_too_long_for_the_arena_is_refused_and_leaves_nothing() {
        let mut table = NameTable::default();
        let long = "x".repeat(usize::from(u16::MAX) + 1);
        assert_eq!(table.insert(&long, RuleId::new(0)), Err(InsertError::Full));
        assert_eq!((table.len(), table.get(&long)), (0, None));
        assert_eq!(table.insert(&long[1..], RuleId::new(7)), Ok(()));
        assert_eq!(table.iter().map(|(name, _)| name.len()).collect::<Vec<_>>(), [65_535]);
    }
}
