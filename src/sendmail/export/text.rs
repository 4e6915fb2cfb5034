//! Comments of the exported block.
//!
//! Promises: whatever a comment says, each line of it is short enough for makemap, and none is a marker of the block:
//! what does not fit goes on in lines that are indented. Must not: know what the text is about.

use std::borrow::Cow;

/// So many characters a comment line has, behind its `# `.
const WIDTH: usize = 98;

/// How lines go on. No marker begins so.
const INDENT: &str = "    ";

/// Free text on one line, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A comment of one line as lines that are not too wide. A word that is too long for a line is cut.
pub(super) fn wrapped(comment: &str) -> Vec<Cow<'_, str>> {
    if comment.chars().count() <= WIDTH {
        return vec![Cow::Borrowed(comment)];
    }
    let own = comment.len() - comment.trim_start().len();
    let mut lines = Vec::new();
    let mut line = comment.get(..own).unwrap_or_default().to_owned();
    let mut width = own;
    let mut empty = true;
    for word in comment.split_whitespace() {
        let length = word.chars().count();
        if !empty && width + 1 + length > WIDTH {
            lines.push(Cow::Owned(std::mem::replace(&mut line, INDENT.to_owned())));
            (width, empty) = (INDENT.len(), true);
        }
        if !std::mem::take(&mut empty) {
            line.push(' ');
            width += 1;
        }
        for c in word.chars() {
            if width == WIDTH {
                lines.push(Cow::Owned(std::mem::replace(&mut line, INDENT.to_owned())));
                width = INDENT.len();
            }
            line.push(c);
            width += 1;
        }
    }
    lines.push(Cow::Owned(line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wide_goes_on_below() {
        assert_eq!(wrapped("  short enough"), ["  short enough"]);
        let fits = format!("  {}", "x".repeat(WIDTH - 2));
        assert_eq!(wrapped(&fits), [fits.as_str()]);
        let long = format!("  {} TLS_Clt:evil.example OK {} end", "y".repeat(95), "\u{fc}".repeat(200));
        assert_eq!(
            wrapped(&long),
            [
                format!("  {}", "y".repeat(95)),
                "    TLS_Clt:evil.example OK".to_owned(),
                format!("    {}", "\u{fc}".repeat(94)),
                format!("    {}", "\u{fc}".repeat(94)),
                format!("    {} end", "\u{fc}".repeat(12)),
            ]
        );
        // The first word too may be longer than a line.
        assert_eq!(wrapped(&"z".repeat(WIDTH + 1)), ["z".repeat(WIDTH), "    z".to_owned()]);
    }
}
