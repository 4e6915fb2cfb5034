//! The marked block of an access file: found, replaced, and held against the lines around it.
//!
//! Promises: works on bytes, for old files are no UTF-8; whatever is not within the block comes out as it went in.
//! The block's lines end as the file's do.
//! Damaged markers are never guessed at. Must not: read or write files, or know what stands in the block.

use super::access_map::MAX_LINE;
use super::tokens::{joined, prescan};
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

/// Whether all lines end as on DOS; `None` where none ends.
fn has_dos_ends(text: &[u8]) -> Option<bool> {
    let mut ends = text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")).peekable();
    ends.peek()?;
    Some(ends.all(|line| line.ends_with(b"\r\n")))
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
    let around = [has_dos_ends(before), has_dos_ends(after)];
    let known = around.into_iter().flatten().reduce(|one, other| one && other);
    // Where there is nothing else, the old block tells.
    let dos = known.or_else(|| has_dos_ends(text)).unwrap_or(false);
    let end = if dos { "\r\n" } else { "\n" };
    out.extend_from_slice(before);
    if !before.is_empty() && !before.ends_with(b"\n") {
        out.extend_from_slice(end.as_bytes());
    }
    for line in block.lines() {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(end.as_bytes());
    }
    out.extend_from_slice(after);
    Ok(out)
}

/// A line outside of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside<'t> {
    /// Its key, as it is written.
    pub key: &'t [u8],
    /// Where the key stands.
    pub span: Range<usize>,
    /// Its value, as it is written; none where makemap does not take the line.
    pub value: Option<&'t [u8]>,
    /// Its number, from 1.
    pub number: usize,
}

/// Whether two right-hand sides are one to sendmail: the same tokens, in any case.
pub fn say_the_same(one: &str, other: &str) -> bool {
    let tokens = |value| joined(&prescan(value)).to_ascii_lowercase();
    tokens(one) == tokens(other)
}

/// The keys outside of the block, as they are written, each with its place and value. makemap takes all up to the
/// first blank, and nothing of a line that begins with `#` or a blank.
pub fn keys_outside(text: &[u8]) -> Result<Vec<Outside<'_>>, Damaged> {
    let block = find(text)?.unwrap_or(0..0);
    let blank = |b: &u8| b.is_ascii_whitespace() || *b == b'\x0b';
    Ok(lines(text)
        .zip(1..)
        .filter(|((_, span), _)| !block.contains(&span.start))
        .filter_map(|((line, span), number)| {
            let length = line.iter().position(blank).unwrap_or(line.len());
            let key = line.get(..length).filter(|key| !key.is_empty() && !key.starts_with(b"#"))?;
            let value = line.get(length..).map(<[u8]>::trim_ascii);
            let value = value.filter(|value| !value.is_empty() && line.len() <= MAX_LINE);
            Some(Outside { key, span: span.start..span.start + length, value, number })
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
                b"\xe9\r\n\n# BEGIN encr-milter: x\nold\n# END encr-milter\n\xff",
                [b"\xe9\r\n\n", BLOCK.as_bytes(), b"\xff"].concat(),
            ),
            (b"# BEGIN encr-milter\n# END encr-milter", [b"", BLOCK.as_bytes(), b""].concat()),
            (
                b"# BEGIN encr-milters\n# END encr-milter2\n",
                [b"# BEGIN encr-milters\n# END encr-milter2\n", BLOCK.as_bytes(), b""].concat(),
            ),
            // The block's lines end as the others do.
            (
                b"a OK\r\n\r\n",
                b"a OK\r\n\r\n# BEGIN encr-milter: new\r\nTLS_Clt:a\tOK\r\n# END encr-milter\r\n".to_vec(),
            ),
            (
                b"# BEGIN encr-milter\nold\n# END encr-milter\na OK\r\nb",
                b"# BEGIN encr-milter: new\r\nTLS_Clt:a\tOK\r\n# END encr-milter\r\na OK\r\nb".to_vec(),
            ),
            (b"a OK\r\nb OK\n", [b"a OK\r\nb OK\n", BLOCK.as_bytes(), b""].concat()),
            (
                b"# BEGIN encr-milter\r\n# END encr-milter\r\n",
                b"# BEGIN encr-milter: new\r\nTLS_Clt:a\tOK\r\n# END encr-milter\r\n".to_vec(),
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
    fn values_are_compared_as_sendmail_takes_them_apart() {
        for (one, other, same) in [
            ("OK", "ok (an old friend)", true),
            ("PERM+ENCR:128", "perm + encr : 128", true),
            ("PERM+ENCR:128", "ENCR:128", false),
            ("OK", "OK # x", false),
        ] {
            assert_eq!(say_the_same(one, other), same, "{one} {other}");
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
        let values: Vec<_> = keys_outside(text.as_bytes()).unwrap();
        let values: Vec<_> = values.iter().map(|outside| (outside.number, outside.value)).collect();
        assert_eq!(values, [(2, Some(&b"OK"[..])), (8, Some(b"OK")), (9, None)]);
        let tags: Vec<_> = tags_outside(text.as_bytes()).unwrap().into_iter().collect();
        assert_eq!(tags, ["ca", "tls_clt"]);
    }
}
