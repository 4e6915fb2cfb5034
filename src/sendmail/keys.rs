//! The keys of an access map's rules, each once.
//!
//! Promises: a key costs some thirty bytes beside the map's text, which has its characters; a second of one key is told from
//! the first as makemap tells them. Must not: know what a key matches.

use crate::policy::rule::Side;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::ops::Range;

/// A key, by its place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyId(u32);

/// A comment, by its place among all.
pub(super) type CommentId = u32;

/// A key and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Where it stands in the text.
    pub(super) start: usize,
    /// The line that it stands in; 0 where it is said by no line.
    pub(super) line: u32,
    /// What stands above it.
    pub(super) comment: Option<CommentId>,
    /// The next one of its rule.
    next: Option<KeyId>,
    length: u16,
    /// Whom it is held against.
    pub(super) side: Side,
}

/// The keys of one rule, in the order of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain(Option<(KeyId, KeyId)>);

/// All keys of a map's text.
#[derive(Debug)]
pub(super) struct Keys<'t> {
    text: &'t str,
    list: Vec<Key>,
    places: HashTable<KeyId>,
}

fn hash_of(side: Side, key: &str) -> u64 {
    let has_capitals = key.bytes().any(|b| b.is_ascii_uppercase());
    let lower = if has_capitals { Cow::Owned(key.to_ascii_lowercase()) } else { Cow::Borrowed(key) };
    FixedState::default().hash_one((side, lower))
}

impl<'t> Keys<'t> {
    /// Of this text.
    pub(super) fn of(text: &'t str) -> Self {
        // Room for all at once: to grow, the table would have every key read and hashed again, here and there in the text.
        let lines = memchr::memchr_iter(b'\n', text.as_bytes()).count() + 1;
        Self { text, list: Vec::with_capacity(lines), places: HashTable::with_capacity(lines) }
    }

    /// Adds a key; the one that is there already where makemap has it.
    pub(super) fn add(
        &mut self,
        side: Side,
        span: Range<usize>,
        line: usize,
        comment: Option<CommentId>,
    ) -> Result<KeyId, KeyId> {
        let Self { text, list, places } = self;
        let written = |key: &KeyId| list.get(key.0 as usize).map_or("", |key| key.text(text));
        let of = |key: &KeyId| list.get(key.0 as usize).map(|key| key.side);
        let key = text.get(span.clone()).unwrap_or_default();
        let same = |other: &KeyId| of(other) == Some(side) && written(other).eq_ignore_ascii_case(key);
        let hash_of_other = |other: &KeyId| hash_of(of(other).unwrap_or(side), written(other));
        // A map has far fewer lines: the keys alone would be 4 GiB.
        let id = KeyId(u32::try_from(list.len()).unwrap_or(u32::MAX));
        match places.entry(hash_of(side, key), same, hash_of_other) {
            Entry::Occupied(first) => return Err(*first.get()),
            Entry::Vacant(free) => free.insert(id),
        };
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        list.push(Key { start: span.start, line, comment, next: None, length: length(&span), side });
        Ok(id)
    }

    /// A key that stands in no line.
    pub(super) fn unwritten(&mut self, side: Side) -> KeyId {
        let id = KeyId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(Key { start: 0, line: 0, comment: None, next: None, length: 0, side });
        id
    }

    /// Adds a key to those of a rule.
    pub(super) fn link(&mut self, chain: &mut Chain, key: KeyId) {
        let Chain(Some((_, last))) = chain else {
            *chain = Chain(Some((key, key)));
            return;
        };
        let before = std::mem::replace(last, key);
        if let Some(before) = self.list.get_mut(before.0 as usize) {
            before.next = Some(key);
        }
    }

    /// The keys of a rule.
    pub(super) fn of_rule(&self, chain: Chain) -> impl Iterator<Item = (KeyId, &Key)> {
        let get = |id: KeyId| Some((id, self.list.get(id.0 as usize)?));
        let first = chain.0.and_then(|(first, _)| get(first));
        std::iter::successors(first, move |(_, key)| key.next.and_then(get))
    }

    /// A key.
    pub(super) fn get(&self, id: KeyId) -> Option<&Key> {
        self.list.get(id.0 as usize)
    }

    /// A key as it is written.
    pub(super) fn written(&self, key: &Key) -> &'t str {
        key.text(self.text)
    }
}

impl Key {
    fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.start + usize::from(self.length)).unwrap_or_default()
    }
}

/// No line that makemap takes is as long as what does not fit.
fn length(span: &Range<usize>) -> u16 {
    u16::try_from(span.len()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_once_for_a_side_and_stays_with_its_rule() {
        let text = "a.example b.example A.Example c.example";
        let mut keys = Keys::of(text);
        let mut chains = [Chain::default(); 2];
        for (chain, side, span) in [
            (0, Side::Client, 0..9),
            (1, Side::Client, 10..19),
            (1, Side::Server, 20..29),
            (0, Side::Client, 30..39),
        ] {
            let key = keys.add(side, span, 1, None).unwrap();
            keys.link(&mut chains[chain], key);
        }
        assert_eq!(keys.add(Side::Client, 20..29, 1, None), Err(KeyId(0)));
        let of = |chain| keys.of_rule(chain).map(|(_, key)| keys.written(key)).collect::<Vec<_>>();
        assert_eq!(of(chains[0]), ["a.example", "c.example"]);
        assert_eq!(of(chains[1]), ["b.example", "A.Example"]);
    }
}
