//! Where something stands in a text of a few bytes, and what number stands there.
//!
//! Fields have some ten bytes, and a search that is made for kilobytes costs more to begin than these take: eight bytes are
//! looked at at a time, in place. Promises: the same as is found byte by byte.

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

/// Reads eight digits.
#[inline]
pub(super) fn eight_digits(text: [u8; 8]) -> Option<u32> {
    let text = u64::from_le_bytes(text);
    (others(text) == 0).then(|| joined(text))
}

/// How many digits stand at the beginning, up to eight.
#[inline]
pub(super) fn digits(text: &[u8]) -> usize {
    match text.first_chunk() {
        Some(eight) => (others(u64::from_le_bytes(*eight)).trailing_zeros() / 8) as usize,
        None => text.iter().take_while(|byte| byte.is_ascii_digit()).count(),
    }
}

/// A number at the beginning, of nine digits at the most, and what is behind it.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    if let Some(eight) = text.first_chunk() {
        let eight = u64::from_le_bytes(*eight);
        let length = others(eight).trailing_zeros() / 8;
        if (1..8).contains(&length) {
            // As if zeros stood before it.
            return Some((joined(eight << (64 - 8 * length)), text.get(length as usize..)?));
        }
    }
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = text.get(..length).filter(|_| (1..=9).contains(&length))?;
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some((number, text.get(length..)?))
}

/// The highest bit of each of eight bytes that is no digit.
#[inline]
fn others(eight: u64) -> u64 {
    let odd = eight ^ (ONES * u64::from(b'0'));
    // Added to what has no highest bit, so that nothing is carried.
    (((odd & (ONES * 0x7f)) + ONES * (0x80 - 10)) | odd) & (ONES << 7)
}

/// What eight digits say, of which zero bytes may stand for the first: ones to twos, twos to fours, fours to eight.
#[inline]
fn joined(text: u64) -> u32 {
    let ones = text & (ONES * 0xf);
    let twos = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    let all = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    u32::try_from(all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_that_which_its_digits_say(
            // Neighbours of digits, and what differs from one in one bit.
            text in prop::collection::vec(prop::sample::select(b"0123456789950/:\xb0\x10".to_vec()), 0..12),
        ) {
            let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let digits = std::str::from_utf8(&text[..length]).unwrap();
            let says = digits.parse().ok().filter(|_| length < 10).map(|number: u32| (number, &text[length..]));
            prop_assert_eq!(number(&text), says);
            prop_assert_eq!(super::digits(&text), length.min(8));
            if let Some(eight) = text.first_chunk() {
                let says = (length >= 8).then(|| digits[..8].parse().unwrap());
                prop_assert_eq!(eight_digits(*eight), says);
            }
        }

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
