//! Where something stands in a text of a few bytes.
//!
//! Fields have some ten bytes, and a search that is made for kilobytes costs more to begin than these take: eight bytes are
//! compared at a time, in place. Promises: the same place as a search byte by byte finds.

/// A byte in each of eight places.
const ONES: u64 = 0x0101_0101_0101_0101;

/// In which of eight bytes the byte stands first, the lowest first.
#[inline]
fn first_of(eight: u64, byte: u8) -> Option<usize> {
    let odd = eight ^ (ONES * u64::from(byte));
    // The highest bit of each byte that is zero; of those above such a one it may be wrong.
    let found = odd.wrapping_sub(ONES) & !odd & (ONES << 7);
    (found != 0).then_some((found.trailing_zeros() / 8) as usize)
}

/// Where a byte stands first.
#[inline]
pub(super) fn position(byte: u8, text: &[u8]) -> Option<usize> {
    let mut rest = text;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        if let Some(place) = first_of(u64::from_le_bytes(*eight), byte) {
            return Some(text.len() - rest.len() + place);
        }
        rest = behind;
    }
    let place = rest.iter().position(|one| *one == byte)?;
    Some(text.len() - rest.len() + place)
}

/// Where it stands last.
#[inline]
pub(super) fn last_position(byte: u8, text: &[u8]) -> Option<usize> {
    let mut rest = text;
    while let Some((before, eight)) = rest.split_last_chunk() {
        if let Some(place) = first_of(u64::from_be_bytes(*eight), byte) {
            return Some(rest.len() - 1 - place);
        }
        rest = before;
    }
    rest.iter().rposition(|one| *one == byte)
}

/// What stands before a mark, and what behind it.
#[inline]
pub(super) fn before<'l, const N: usize>(text: &'l [u8], mark: &[u8; N]) -> Option<(&'l [u8], &'l [u8])> {
    let first = *mark.first()?;
    let mut from = 0;
    loop {
        let at = from + position(first, text.get(from..)?)?;
        let (head, rest) = text.split_at_checked(at)?;
        if let Some(behind) = rest.strip_prefix(mark) {
            return Some((head, behind));
        }
        from = at + 1;
    }
}

/// The same, of the last time it stands there.
#[inline]
pub(super) fn last<'l, const N: usize>(text: &'l [u8], mark: &[u8; N]) -> Option<(&'l [u8], &'l [u8])> {
    let first = *mark.first()?;
    let mut to = text.len();
    loop {
        let at = last_position(first, text.get(..to)?)?;
        let (head, rest) = text.split_at_checked(at)?;
        if let Some(behind) = rest.strip_prefix(mark) {
            return Some((head, behind));
        }
        to = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_is_that_which_a_search_byte_by_byte_finds(
            // Neighbours of what is looked for, and what differs from it in one bit.
            text in prop::collection::vec(prop::sample::select(b"+,-=\xac\x00 x\x01".to_vec()), 0..40),
        ) {
            let places = || text.iter().enumerate().filter(|(_, byte)| **byte == b',').map(|(at, _)| at);
            prop_assert_eq!(position(b',', &text), places().next());
            prop_assert_eq!(last_position(b',', &text), places().next_back());
            let marks = || (0..text.len()).filter(|at| text[*at..].starts_with(b", "));
            let around = |at: usize| (&text[..at], &text[at + 2..]);
            prop_assert_eq!(before(&text, b", "), marks().next().map(around));
            prop_assert_eq!(last(&text, b", "), marks().next_back().map(around));
        }
    }
}
