//! How sendmail takes a value of its access map apart (`prescan`, with the default `OperatorChars`).
//!
//! Promises: the same tokens as sendmail's, each with its place in the text, for whatever stands there.
//! Blanks only separate. `(comments)` vanish, quotes make one token, operators are tokens of their own.

use std::borrow::Cow;
use std::ops::Range;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// What sendmail sees.
    pub text: Cow<'t, str>,
    /// Where it stands, in bytes of the value.
    pub span: Range<usize>,
}

impl Token<'_> {
    /// Whether the token is this word. sendmail compares in any case.
    pub fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is an operator, which stands for itself between two words.
    pub fn is_operator(&self) -> bool {
        self.text.len() == 1 && self.text.chars().all(is_operator)
    }
}

/// The default of `OperatorChars`, and what sendmail adds to it.
fn is_operator(c: char) -> bool {
    matches!(c, '.' | ':' | '%' | '@' | '!' | '^' | '/' | '[' | ']' | '+' | '<' | '>' | ',' | ';')
}

/// Takes a value apart.
pub fn prescan(value: &str) -> Vec<Token<'_>> {
    let mut scan = Scan { value, tokens: Vec::new(), atom: None };
    let mut chars = value.char_indices();
    let mut open = 0usize;
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        match c {
            '\\' => match chars.next() {
                Some((_, next)) => scan.push(&[c, next], at..end + next.len_utf8()),
                // At the end it escapes nothing, and vanishes.
                None => break,
            },
            '(' => {
                scan.close();
                if !skip_comment(&mut chars) {
                    break;
                }
            }
            '"' => {
                scan.close();
                scan.quoted(at, &mut chars);
            }
            // What closes nothing vanishes, and what stands around it is one word.
            ')' => {}
            '>' if open == 0 => {}
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => scan.close(),
            c if c.is_ascii_control() => {}
            c if is_operator(c) => {
                match c {
                    '<' => open += 1,
                    '>' => open -= 1,
                    _ => {}
                }
                scan.close();
                scan.push(&[c], at..end);
                scan.close();
            }
            c => scan.push(&[c], at..end),
        }
    }
    scan.close();
    for _ in 0..open {
        scan.push(&['>'], value.len()..value.len());
        scan.close();
    }
    scan.tokens
}

/// Runs to the end of a comment, which may hold others. Whether it has one.
fn skip_comment(chars: &mut std::str::CharIndices<'_>) -> bool {
    let mut depth = 1usize;
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return true;
        }
    }
    false
}

struct Scan<'t> {
    value: &'t str,
    tokens: Vec<Token<'t>>,
    /// The word that is being read: what it says, and where it stands.
    atom: Option<(String, Range<usize>)>,
}

impl Scan<'_> {
    fn push(&mut self, chars: &[char], span: Range<usize>) {
        let (text, at) = self.atom.get_or_insert_with(|| (String::new(), span.clone()));
        text.extend(chars);
        at.end = span.end;
    }

    fn close(&mut self) {
        if let Some((text, span)) = self.atom.take() {
            // All of it but for what vanished within: then it needs no text of its own.
            let text = match self.value.get(span.clone()) {
                Some(whole) if whole == text => Cow::Borrowed(whole),
                _ => Cow::Owned(text),
            };
            self.tokens.push(Token { text, span });
        }
    }

    /// A quoted string is one token, with its quotes; one that is not closed is closed at the end.
    fn quoted(&mut self, start: usize, chars: &mut std::str::CharIndices<'_>) {
        let mut text = String::from('"');
        let mut end = self.value.len();
        while let Some((at, c)) = chars.next() {
            text.push(c);
            match c {
                '\\' => text.extend(chars.next().map(|(_, next)| next)),
                '"' => {
                    end = at + 1;
                    break;
                }
                _ => {}
            }
        }
        if text.len() == 1 || !text.ends_with('"') {
            text.push('"');
        }
        self.tokens.push(Token { text: Cow::Owned(text), span: start..end });
    }
}

/// Tokens as sendmail puts them together again for a message: a blank between two words, none beside an
/// operator.
pub fn joined(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    let mut after_word = false;
    for token in tokens {
        let word = !token.is_operator();
        if after_word && word {
            out.push(' ');
        }
        out.push_str(&token.text);
        after_word = word;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        prescan(value).iter().map(|token| token.text.as_ref()).collect::<Vec<_>>().join(" ")
    }

    /// Each as `sendmail -bt` of 8.17 shows it.
    #[test]
    fn values_come_apart_as_sendmail_takes_them_apart() {
        for (value, tokens) in [
            ("ENCR:112", "ENCR : 112"),
            ("TEMP + ENCR : 112\r", "TEMP + ENCR : 112"),
            ("a(b)c", "a c"),
            ("a (b(c)d) e", "a e"),
            ("a(b", "a"),
            ("a)b", "ab"),
            ("a>b", "ab"),
            ("a<b", "a < b >"),
            ("<<a>", "< < a > >"),
            ("a<b>c", "a < b > c"),
            ("a,b;c", "a , b ; c"),
            ("a(b\\)c)d", "a d"),
            ("\"a b\"c", "\"a b\" c"),
            ("a\"b\"c", "a \"b\" c"),
            ("\"a\\\"b\"", "\"a\\\"b\""),
            ("\"a", "\"a\""),
            ("a\"", "a \"\""),
            ("a\\ b", "a\\ b"),
            ("a\\", "a"),
            ("a\u{1}b\u{7f}c", "abc"),
            ("a#b", "a#b"),
            ("a # b", "a # b"),
            ("/O=Rig+20CA", "/ O=Rig + 20CA"),
            ("(x)", ""),
            ("", ""),
        ] {
            assert_eq!(shown(value), tokens, "{value:?}");
        }
    }

    #[test]
    fn a_token_knows_its_place() {
        let value = "ENCR : 1\u{1}12 (x) \"é\" +";
        let places: Vec<_> = prescan(value).iter().map(|token| &value[token.span.clone()]).collect();
        assert_eq!(places, ["ENCR", ":", "1\u{1}12", "\"é\"", "+"]);
    }

    #[test]
    fn words_are_joined_with_blanks_and_operators_without() {
        assert_eq!(joined(&prescan("/O=Rig  CA / CN = x . y")), "/O=Rig CA/CN = x.y");
    }
}
