//! What writing a record or a reply needs of its words and numbers, without asking for memory.

/// Whether any byte is outside printable ASCII from the first to `~`, or one of `also`. Sixteen are looked at at once, whatever
/// the length: words are short, and byte by byte would take longer than to write them.
#[inline]
pub(super) fn has_odd<const N: usize>(bytes: &[u8], first: u8, also: &[u8; N]) -> bool {
    const WIDTH: usize = 16;
    let odd = |byte: u8| {
        let outside = u8::from(byte.wrapping_sub(first) > b'~' - first);
        // Without a branch, so that all of them are compared by one instruction.
        also.iter().fold(outside, |found, other| found | u8::from(byte == *other))
    };
    let any = |chunk: &[u8; WIDTH]| chunk.iter().fold(0, |found, byte| found | odd(*byte)) != 0;
    if let Some(last) = bytes.last_chunk() {
        // The last ones overlap those before.
        any(last) || bytes.as_chunks().0.iter().any(any)
    } else if let [begin, ..] = bytes {
        let mut chunk = [*begin; WIDTH];
        if let Some(place) = chunk.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        any(&chunk)
    } else {
        false
    }
}

/// A number, written.
pub(super) struct Digits {
    text: [u8; Self::MOST],
    from: usize,
}

impl Digits {
    /// Of 4,294,967,295.
    const MOST: usize = 10;

    #[inline]
    pub(super) fn of(mut number: u32) -> Self {
        let mut digits = Self { text: [b'0'; Self::MOST], from: Self::MOST };
        for (place, digit) in digits.text.iter_mut().enumerate().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
            digits.from = place;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        self.text.get(self.from..).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_byte_is_found_wherever_it_stands() {
        for length in 0..50 {
            let mut bytes = vec![b'~'; length];
            assert!(!has_odd(&bytes, b'!', b"=,"), "{length}");
            for place in 0..length {
                for odd in 0..=u8::MAX {
                    bytes[place] = odd;
                    let expected = !odd.is_ascii_graphic() || b"=,".contains(&odd);
                    assert_eq!(has_odd(&bytes, b'!', b"=,"), expected, "{odd} at {place} of {length}");
                }
                bytes[place] = b'!';
            }
        }
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for number in [0, 1, 9, 10, 256, 65535, 99_999, 100_000, u32::MAX] {
            assert_eq!(Digits::of(number).as_str(), number.to_string());
        }
    }
}
