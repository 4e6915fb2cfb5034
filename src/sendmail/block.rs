//! The marked block of an access file: found, replaced, and held against the lines around it.
//!
//! Promises: works on bytes, for old files are no UTF-8; whatever is not within the block comes out as it went in.
//! Damaged markers are never guessed at. Must not: read or write files, or know what stands in the block.

use std::collections::BTreeSet;
use std::ops::Range;

/// How the first line of the block begins.
pub const BEGIN: &str = "# BEGIN encr-milter";
/// The last line of the block.
pub const END: &str = "# END encr-milter";

/// Markers that do not fit together. Where the line at fault stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong.
    pub what: What,
    /// The line's bytes, without its line feed.
    pub span: Range<usize>,
}

/// What is wrong with the markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A beginning without an end.
    NoEnd,
    /// A second beginning before the end of the first.
    Nested,
    /// A second block.
    Second,
    /// An end without a beginning.
    NoBegin,
}

impl What {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoEnd => "the block begins here and never ends",
            Self::Nested => "the block begins again before it has ended",
            Self::Second => "a second block begins here",
            Self::NoBegin => "the block ends here and has not begun",
        }
    }
}

/// A line and where it stands, without its line feed.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let mut start = 0;
    text.split_inclusive(|b| *b == b'\n').map(move |whole| {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let span = start..start + line.len();
        start += whole.len();
        (line, span)
    })
}

/// Whether a line is this marker, and not a longer word that begins like it.
fn is_marker(line: &[u8], marker: &str) -> bool {
    let rest = line.strip_prefix(marker.as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_punctuation()))
}

/// Whether a line begins or ends a block.
pub fn delimits(line: &[u8]) -> bool {
    is_marker(line, BEGIN) || is_marker(line, END)
}

/// Where the block stands, from its first line to the line feed of its last.
pub fn find(text: &[u8]) -> Result<Option<Range<usize>>, Damaged> {
    let mut open: Option<Range<usize>> = None;
    let mut found: Option<Range<usize>> = None;
    for (line, span) in lines(text) {
        let begins = is_marker(line, BEGIN);
        if !begins && !is_marker(line, END) {
            continue;
        }
        match (begins, open.take()) {
            (true, Some(_)) => return Err(Damaged { what: What::Nested, span }),
            (true, None) if found.is_some() => return Err(Damaged { what: What::Second, span }),
            (true, None) => open = Some(span),
            (false, Some(first)) => found = Some(first.start..(span.end + 1).min(text.len())),
            (false, None) => return Err(Damaged { what: What::NoBegin, span }),
        }
    }
    match open {
        Some(span) => Err(Damaged { what: What::NoEnd, span }),
        None => Ok(found),
    }
}

/// The text with this block in the place of the old one, or at the end where there was none. The block ends with
/// a line feed.
pub fn replace(text: &[u8], block: &str) -> Result<Vec<u8>, Damaged> {
    let at = find(text)?;
    let mut out = Vec::with_capacity(text.len() + block.len() + 1);
    let (before, after) = match at {
        Some(at) => (text.get(..at.start).unwrap_or(text), text.get(at.end..).unwrap_or_default()),
        None => (text, &[] as &[u8]),
    };
    out.extend_from_slice(before);
    if !before.is_empty() && !before.ends_with(b"\n") {
        out.push(b'\n');
    }
    out.extend_from_slice(block.as_bytes());
    out.extend_from_slice(after);
    Ok(out)
}

/// The key of a line outside of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside<'t> {
    /// As it is written.
    pub key: &'t [u8],
    /// Where it stands.
    pub span: Range<usize>,
}

/// The keys outside of the block, as they are written, each with its place. makemap takes all up to the first
/// blank, and nothing of a line that begins with `#` or a blank.
pub fn keys_outside(text: &[u8]) -> Result<Vec<Outside<'_>>, Damaged> {
    let block = find(text)?.unwrap_or(0..0);
    let blank = |b: &u8| b.is_ascii_whitespace() || *b == b'\x0b';
    Ok(lines(text)
        .filter(|(_, span)| !block.contains(&span.start))
        .filter_map(|(line, span)| {
            let length = line.iter().position(blank).unwrap_or(line.len());
            let key = line.get(..length).filter(|key| !key.is_empty() && !key.starts_with(b"#"))?;
            Some(Outside { key, span: span.start..span.start + length })
        })
        .collect())
}

/// The tags of all keys outside of the block, in lower case.
pub fn tags_outside(text: &[u8]) -> Result<BTreeSet<String>, Damaged> {
    let tag = |key: &[u8]| {
        let end = key.iter().position(|b| *b == b':')?;
        key.get(..end).map(|tag| String::from_utf8_lossy(tag).to_ascii_lowercase())
    };
    Ok(keys_outside(text)?.into_iter().filter_map(|outside| tag(outside.key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# BEGIN encr-milter: new\nTLS_Clt:a\tOK\n# END encr-milter\n";

    #[test]
    fn a_block_is_put_in_the_place_of_the_old_one_or_at_the_end() {
        for (text, expected) in [
            (&b""[..], [b"", BLOCK.as_bytes(), b""].concat()),
            (b"a OK\n", [b"a OK\n", BLOCK.as_bytes(), b""].concat()),
            (b"a OK", [b"a OK\n", BLOCK.as_bytes(), b""].concat()),
            (
                b"\xe9\r\n# BEGIN encr-milter: x\nold\n# END encr-milter\n\xff",
                [b"\xe9\r\n", BLOCK.as_bytes(), b"\xff"].concat(),
            ),
            (b"# BEGIN encr-milter\r\n# END encr-milter", [b"", BLOCK.as_bytes(), b""].concat()),
            (
                b"# BEGIN encr-milters\n# END encr-milter2\n",
                [b"# BEGIN encr-milters\n# END encr-milter2\n", BLOCK.as_bytes(), b""].concat(),
            ),
            // What a comment of a rule says is no marker.
            (b"#   END encr-milter\n", [b"#   END encr-milter\n", BLOCK.as_bytes(), b""].concat()),
        ] {
            let once = replace(text, BLOCK).unwrap();
            assert_eq!(once, expected, "{}", text.escape_ascii());
            assert_eq!(replace(&once, BLOCK).unwrap(), once);
        }
    }

    #[test]
    fn damaged_markers_are_told_with_their_place() {
        let (begin, end) = (format!("{BEGIN}: x\n"), format!("{END}\n"));
        for (text, what, start) in [
            (format!("a\n{begin}b\n"), What::NoEnd, 2),
            (format!("{begin}{begin}{end}"), What::Nested, begin.len()),
            (format!("{begin}{end}{begin}{end}"), What::Second, begin.len() + end.len()),
            (format!("a\n{end}{begin}"), What::NoBegin, 2),
            (format!("{begin}{end}{end}"), What::NoBegin, begin.len() + end.len()),
        ] {
            let damaged = find(text.as_bytes()).unwrap_err();
            assert_eq!((damaged.what, damaged.span.start), (what, start), "{text}");
            assert_eq!(replace(text.as_bytes(), BLOCK), Err(damaged));
        }
    }

    #[test]
    fn the_keys_around_the_block_are_those_that_makemap_takes() {
        let text = format!("# TLS_Clt:c\nTLS_Clt:A\tOK\n b OK\n\n{BLOCK}ca:/O=x OK\r\nlone");
        let keys: Vec<_> = keys_outside(text.as_bytes()).unwrap();
        let keys: Vec<_> = keys
            .iter()
            .map(|outside| (String::from_utf8_lossy(outside.key), &text[outside.span.clone()]))
            .collect();
        assert_eq!(keys, ["TLS_Clt:A", "ca:/O=x", "lone"].map(|key| (key.into(), key)));
        let tags: Vec<_> = tags_outside(text.as_bytes()).unwrap().into_iter().collect();
        assert_eq!(tags, ["ca", "tls_clt"]);
    }
}
