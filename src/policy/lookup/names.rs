//! Names and their rules: one arena, and the table of places in it.
//!
//! Promises: a walk over all names reads the arena from its beginning to its end, in the order in which they were added.
//! Must not: put names in the form for comparison.

use super::places::{Places, Tag};
use super::{InsertError, RuleId};

/// Before a name in the arena: its rule (four bytes), and its length (two).
const HEADER: usize = 6;

/// The names of a side.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    /// Of each name its header, then its bytes.
    arena: Vec<u8>,
    /// Where each header begins.
    places: Places,
}

/// A name that is sought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sought<'n> {
    pub(super) name: &'n str,
    tag: Tag,
}

impl<'n> Sought<'n> {
    pub(super) fn new(name: &'n str) -> Self {
        Self { name, tag: Tag::of_bytes(name.as_bytes()) }
    }
}

impl NameTable {
    /// The name that stands at a place, its rule, and where the next one begins.
    fn entry(&self, place: usize) -> Option<(&[u8], RuleId, usize)> {
        let (header, rest) = self.arena.get(place..)?.split_first_chunk::<HEADER>()?;
        let [r0, r1, r2, r3, l0, l1] = *header;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let rule = RuleId(u32::from_le_bytes([r0, r1, r2, r3]));
        Some((rest.get(..length)?, rule, place + HEADER + length))
    }

    /// Has the memory fetched that finding this name needs.
    pub(super) fn fetch(&self, sought: Sought<'_>) {
        self.places.fetch(sought.tag);
    }

    /// The rule of a name, and the name as it is kept.
    pub(super) fn get(&self, sought: Sought<'_>) -> Option<(&str, RuleId)> {
        let (name, rule) = self.places.find(sought.tag, |place| {
            let (name, rule, _) = self.entry(place as usize)?;
            (name == sought.name.as_bytes()).then_some((name, rule))
        })?;
        // Whole strings were copied in.
        Some((std::str::from_utf8(name).ok()?, rule))
    }

    /// Makes room for so many names of so many bytes in all.
    pub(super) fn reserve(&mut self, names: usize, bytes: usize) {
        self.arena.reserve(bytes.saturating_add(names.saturating_mul(HEADER)));
        self.places.reserve(names);
    }

    /// Adds a name.
    pub(super) fn insert(&mut self, name: &str, rule: RuleId) -> Result<(), InsertError> {
        let sought = Sought::new(name);
        if let Some((_, taken)) = self.get(sought) {
            return Err(InsertError::Taken(taken));
        }
        let length = u16::try_from(name.len()).map_err(|_| InsertError::Full)?;
        let place = u32::try_from(self.arena.len()).map_err(|_| InsertError::Full)?;
        let [r0, r1, r2, r3] = rule.0.to_le_bytes();
        let [l0, l1] = length.to_le_bytes();
        self.arena.extend_from_slice(&[r0, r1, r2, r3, l0, l1]);
        self.arena.extend_from_slice(name.as_bytes());
        self.places.add(sought.tag, place);
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
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let mut table = NameTable::default();
        assert_eq!(table.get(Sought::new("n0")), None);
        for n in 0..10_000 {
            assert_eq!(table.insert(&format!("n{n}"), RuleId::new(n)), Ok(()));
        }
        for n in 0..10_000 {
            let name = format!("n{n}");
            assert_eq!(table.get(Sought::new(&name)), Some((name.as_str(), RuleId::new(n))));
            assert_eq!(table.insert(&name, RuleId::new(0)), Err(InsertError::Taken(RuleId::new(n))));
            assert_eq!(table.get(Sought::new(&format!("x{n}"))), None);
        }
        assert_eq!(table.len(), 10_000);
        let order: Vec<usize> = table.iter().map(|(_, rule)| rule.index()).collect();
        assert_eq!(order, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn names_of_one_tag_are_told_apart() {
        let mut table = NameTable::default();
        table.insert("one", RuleId::new(1)).unwrap();
        let sought = Sought { name: "two", ..Sought::new("one") };
        assert_eq!(table.get(sought), None);
        table.places.add(sought.tag, u32::try_from(table.arena.len()).unwrap());
        table.arena.extend_from_slice(b"\x02\0\0\0\x03\0two");
        assert_eq!(table.get(sought), Some(("two", RuleId::new(2))));
        assert_eq!(table.get(Sought::new("one")), Some(("one", RuleId::new(1))));
    }

    #[test]
    fn a_name_too_long_for_the_arena_is_refused_and_leaves_nothing() {
        let mut table = NameTable::default();
        let long = "x".repeat(usize::from(u16::MAX) + 1);
        assert_eq!(table.insert(&long, RuleId::new(0)), Err(InsertError::Full));
        assert_eq!((table.len(), table.get(Sought::new(&long))), (0, None));
        assert_eq!(table.insert(&long[1..], RuleId::new(7)), Ok(()));
        assert_eq!(table.iter().map(|(name, _)| name.len()).collect::<Vec<_>>(), [65_535]);
    }
}
