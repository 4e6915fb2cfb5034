//! Bytes to lines.
//!
//! Promises: memory is bounded whatever comes, a line of any length among it; no line is copied but one that lies on
//! the border of two pieces.

use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;

/// The longest line that is looked at. sendmail's have some 2,000 bytes, a decision record rarely more.
pub const LONGEST: usize = 1024 * 1024;

/// What is read at once: little enough to leave room in a processor's cache for all else.
const PIECE: usize = 64 * 1024;

/// What is between two line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'b> {
    /// A line, without its line feed.
    Whole(&'b [u8]),
    /// A line that is longer than [`LONGEST`].
    TooLong,
}

/// What comes of a source.
pub(super) trait Lines {
    /// A line.
    fn line(&mut self, line: Line<'_>) -> ControlFlow<()>;
    /// So many bytes more were read.
    fn read(&mut self, bytes: u64) -> ControlFlow<()>;
}

/// Reads lines to the end of the source. `buffer` is used again from source to source.
///
/// What stands behind the last line feed counts as a line at the end, but not where reading failed: it is cut then.
pub(super) fn each(
    buffer: &mut Vec<u8>,
    source: &mut impl Read,
    to: &mut impl Lines,
) -> io::Result<ControlFlow<()>> {
    if buffer.is_empty() {
        // Zeros as the system gives them: the most of it is never touched.
        *buffer = vec![0; LONGEST + PIECE];
    }
    let mut held = 0;
    let mut skipping = false;
    loop {
        let room = buffer.get_mut(held..held + PIECE).unwrap_or_default();
        let read = match source.read(room) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let filled = held + read;
        let mut start = 0;
        for feed in memchr::memchr_iter(b'\n', buffer.get(held..filled).unwrap_or_default()) {
            let end = held + feed;
            if !std::mem::take(&mut skipping) {
                let line = Line::Whole(buffer.get(start..end).unwrap_or_default());
                if to.line(line).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            start = end + 1;
        }
        held = filled - start;
        if held > LONGEST || skipping {
            if !skipping && to.line(Line::TooLong).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            skipping = true;
            held = 0;
        } else if start > 0 {
            buffer.copy_within(start..filled, 0);
        }
        if to.read(read as u64).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    match buffer.get(..held) {
        Some(last) if held > 0 => Ok(to.line(Line::Whole(last))),
        _ => Ok(ControlFlow::Continue(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a size, then an error if there is one.
    struct Pieces<'b> {
        bytes: &'b [u8],
        size: usize,
        error: Option<ErrorKind>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let size = self.size.min(room.len()).min(self.bytes.len());
            let (piece, rest) = self.bytes.split_at(size);
            room[..size].copy_from_slice(piece);
            self.bytes = rest;
            match self.error.take_if(|_| size == 0) {
                Some(error) => Err(error.into()),
                None => Ok(size),
            }
        }
    }

    #[derive(Default)]
    struct Seen {
        lines: Vec<Vec<u8>>,
        too_long: usize,
        bytes: u64,
    }

    impl Lines for Seen {
        fn line(&mut self, line: Line<'_>) -> ControlFlow<()> {
            match line {
                Line::Whole(line) => self.lines.push(line.to_vec()),
                Line::TooLong => self.too_long += 1,
            }
            ControlFlow::Continue(())
        }

        fn read(&mut self, bytes: u64) -> ControlFlow<()> {
            self.bytes += bytes;
            ControlFlow::Continue(())
        }
    }

    fn seen(bytes: &[u8], size: usize, error: Option<ErrorKind>) -> (Seen, bool) {
        let mut seen = Seen::default();
        let end = each(&mut Vec::new(), &mut Pieces { bytes, size, error }, &mut seen);
        (seen, end.is_ok())
    }

    #[test]
    fn lines_are_the_same_in_whatever_pieces_they_come() {
        let text = b"one\n\ntwo\r\n\xff\0three\nlast";
        let expected: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        for size in 1..=text.len() {
            let (seen, whole) = seen(text, size, None);
            assert_eq!((seen.lines, whole), (expected.iter().map(|l| l.to_vec()).collect(), true), "{size}");
            assert_eq!(seen.bytes, text.len() as u64);
        }
        assert_eq!(seen(b"", 1, None).0.lines.len(), 0);
        assert_eq!(seen(b"a\n", 1, None).0.lines.len(), 1);
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_a_long_one() {
        let mut text = b"first\n".to_vec();
        text.resize(text.len() + 3 * LONGEST, b'x');
        text.extend_from_slice(b"\nsecond\n");
        text.resize(text.len() + 2 * LONGEST, b'y');
        for size in [1000, PIECE, PIECE + 1] {
            let mut buffer = Vec::new();
            let mut seen = Seen::default();
            let mut pieces = Pieces { bytes: &text, size, error: None };
            assert!(each(&mut buffer, &mut pieces, &mut seen).is_ok());
            assert_eq!((seen.lines, seen.too_long), (vec![b"first".to_vec(), b"second".to_vec()], 2));
            assert!(buffer.capacity() <= 2 * (LONGEST + PIECE));
        }
    }

    #[test]
    fn what_is_cut_by_a_fault_is_no_line() {
        let (seen, whole) = seen(b"one\ntwo\nthr", 4, Some(ErrorKind::InvalidData));
        assert_eq!((seen.lines, whole), (vec![b"one".to_vec(), b"two".to_vec()], false));
    }
}
