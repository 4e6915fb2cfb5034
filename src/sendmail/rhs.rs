//! The right-hand side of a TLS_* line: what sendmail's `TLS_connection` and `TLS_req` make of it.
//!
//! ```text
//! [TEMP+ | PERM+] (VERIFY [:bits] | ENCR:bits) [+ extension [++ extension]…]
//! extension: CN[:name] | CS:dn | CI:dn | CITag:tag
//! ```
//!
//! Promises: what comes out is what sendmail does with the value, not what it was meant for; everything that
//! sendmail does not understand it accepts without a word, and why that is so is told ([`Why`]).

use super::tokens::{Token, joined, prescan};
use crate::policy::requirement::Attribute;
use std::ops::Range;

/// What a value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `OK`: exempt.
    Ok,
    /// `SKIP`: ends this stage of the lookup (where FEATURE(`access_db') has `skip`, as Debian's).
    Skip,
    /// A demand.
    Demand(Demand),
    /// Anything else: sendmail accepts.
    Accepted(Accepted),
}

/// Why sendmail takes a value for no demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Why.
    pub why: Why,
    /// What is at fault, in bytes of the value.
    pub span: Range<usize>,
    /// What was perhaps meant.
    pub meant: Option<String>,
    /// The prefix that sendmail has understood: it still chooses the code for a handshake that failed.
    pub prefix: Prefix,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `REJECT`: no word of TLS rules.
    Word,
    /// `FOO+ENCR:112`: neither TEMP nor PERM.
    Prefix,
    /// `ENCR128`, `ENCR=128`: no colon.
    NoColon,
    /// `ENCR`, `ENCR:`, `VERIFY:`: no number.
    NoBits,
    /// `ENCR:112 # note`: something behind it.
    Trailing,
    /// `(…)`: nothing but a comment.
    Empty,
}

impl Why {
    /// Why, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Word => "neither VERIFY nor ENCR",
            Self::Prefix => "only TEMP+ and PERM+ may stand before VERIFY and ENCR",
            Self::NoColon => "a colon must stand before the bits",
            Self::NoBits => "a number of bits is missing",
            Self::Trailing => "something stands behind it",
            Self::Empty => "nothing but a comment",
        }
    }
}

/// The prefix, which chooses the reply's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// None: `454 4.7.0`, or `554 5.7.0` where sendmail.mc defines `TLS_PERM_ERR`.
    Bare,
    /// `TEMP+`: `403 4.7.0`.
    Temp,
    /// `PERM+`: `503 5.7.0`.
    Perm,
}

/// What is demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// `TEMP+`, `PERM+`, or neither.
    pub prefix: Prefix,
    /// Where the prefix stands.
    pub prefix_span: Range<usize>,
    /// `VERIFY`, not `ENCR`.
    pub verify: bool,
    /// The bits.
    pub bits: Option<Bits>,
    /// The extensions that sendmail looks at.
    pub extensions: Vec<Extension>,
    /// Where the extensions stand that it does not look at, and why.
    pub ignored: Option<(Range<usize>, Ignored)>,
    /// Where `VERIFY` or `ENCR` stands.
    pub span: Range<usize>,
}

/// The number of bits, as it is written and as sendmail reckons with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// As it is written.
    pub text: String,
    /// As C's `strtol` reads it: `0112` is octal, `0x70` hexadecimal, `112bits` is 112, `abc` is 0.
    pub number: i64,
    /// Where it stands.
    pub span: Range<usize>,
}

/// Why sendmail does not look at extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// One that it does not know: it accepts at once, whatever follows.
    Unknown,
    /// A `++` at the end: it looks at none of them.
    OpenEnd,
}

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What is demanded.
    pub demand: ExtensionDemand,
    /// Where it stands.
    pub span: Range<usize>,
}

/// What an extension demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtensionDemand {
    /// `CN`: the certificate's common name is the name of the other side.
    CnOfPeer,
    /// `CN:name`, `CS:dn`, `CI:dn`, the name as sendmail puts it together.
    Name(Attribute, String),
    /// `CITag:tag`: the access map has a line `tag:issuer`.
    IssuerTag(String),
}

/// Reads a value.
pub fn parse(value: &str) -> Value {
    let tokens = prescan(value);
    let accepted =
        |why, span: Range<usize>, meant| Value::Accepted(Accepted { why, span, meant, prefix: Prefix::Bare });
    let (prefix, prefix_span, rest) = match tokens.as_slice() {
        [] => return accepted(Why::Empty, 0..value.len(), None),
        [only] if only.is("OK") => return Value::Ok,
        [only] if only.is("SKIP") => return Value::Skip,
        [first, plus, rest @ ..] if plus.is("+") && !is_keyword(first) => {
            let prefix = if first.is("TEMP") {
                Prefix::Temp
            } else if first.is("PERM") {
                Prefix::Perm
            } else {
                return accepted(Why::Prefix, first.span.clone(), None);
            };
            (prefix, first.span.clone(), rest)
        }
        all => (Prefix::Bare, 0..0, all),
    };
    let Some((keyword, rest)) = rest.split_first().filter(|(first, _)| is_keyword(first)) else {
        let span = rest.first().map_or(prefix_span, |first| first.span.start..value.trim_end().len());
        let meant = rest.first().and_then(|first| meant(first));
        return accepted(if meant.is_some() { Why::NoColon } else { Why::Word }, span, meant);
    };
    let accepted = |why, span: Range<usize>| Value::Accepted(Accepted { why, span, meant: None, prefix });
    let verify = keyword.is("VERIFY");
    let (bits, extensions) = match rest {
        [] if verify => (None, &[] as &[Token<'_>]),
        [] => return accepted(Why::NoBits, keyword.span.clone()),
        [plus, extensions @ ..] if verify && plus.is("+") && !extensions.is_empty() => (None, extensions),
        [colon, bits] if colon.is(":") => (Some(bits), &[] as &[Token<'_>]),
        [colon, bits, plus, extensions @ ..] if colon.is(":") && plus.is("+") && !extensions.is_empty() => {
            (Some(bits), extensions)
        }
        [colon] if colon.is(":") => return accepted(Why::NoBits, keyword.span.start..colon.span.end),
        [colon, _, after, ..] if colon.is(":") => {
            return accepted(Why::Trailing, after.span.start..value.trim_end().len());
        }
        [after, ..] => {
            let why = if verify { Why::Trailing } else { Why::NoColon };
            return accepted(why, after.span.start..value.trim_end().len());
        }
    };
    let (extensions, ignored) = read_extensions(extensions);
    Value::Demand(Demand {
        prefix,
        prefix_span,
        verify,
        bits: bits.map(|bits| Bits {
            text: bits.text.to_string(),
            number: strtol(&bits.text),
            span: bits.span.clone(),
        }),
        extensions,
        ignored,
        span: keyword.span.clone(),
    })
}

fn is_keyword(token: &Token<'_>) -> bool {
    token.is("VERIFY") || token.is("ENCR")
}

/// `ENCR128`, `ENCR=128`, `ENCR-128`: what was perhaps meant.
fn meant(token: &Token<'_>) -> Option<String> {
    ["ENCR", "VERIFY"].into_iter().find_map(|keyword| {
        let (word, rest) = token.text.split_at_checked(keyword.len())?;
        let bits = rest.trim_start_matches(['=', '-', '_']);
        let number = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        (word.eq_ignore_ascii_case(keyword) && number).then(|| format!("{keyword}:{bits}"))
    })
}

/// The extensions, and those that sendmail does not look at.
fn read_extensions(tokens: &[Token<'_>]) -> (Vec<Extension>, Option<(Range<usize>, Ignored)>) {
    let whole = |tokens: &[Token<'_>]| match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => first.span.start..last.span.end,
        _ => 0..0,
    };
    if let [.., one, two] = tokens
        && one.is("+")
        && two.is("+")
    {
        return (Vec::new(), Some((whole(tokens), Ignored::OpenEnd)));
    }
    let mut extensions = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        // A separator has something on both of its sides.
        let end = (1..rest.len().saturating_sub(2))
            .find(|&at| rest.get(at..at + 2).is_some_and(|pair| pair.iter().all(|token| token.is("+"))));
        let (one, after) = match end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 2..)?))) {
            Some(split) => split,
            None => (rest, &[] as &[Token<'_>]),
        };
        match extension(one, after.is_empty()) {
            Some(demand) => extensions.push(Extension { demand, span: whole(one) }),
            None => return (extensions, Some((whole(rest), Ignored::Unknown))),
        }
        rest = after;
    }
    (extensions, None)
}

/// What one extension demands; `None` where sendmail does not know it.
fn extension(tokens: &[Token<'_>], last: bool) -> Option<ExtensionDemand> {
    match tokens {
        [cn] if cn.is("CN") => Some(ExtensionDemand::CnOfPeer),
        [tag, colon, one] if tag.is("CITag") && colon.is(":") => {
            Some(ExtensionDemand::IssuerTag(one.text.to_string()))
        }
        // `CN:` is known where something follows it: sendmail takes that for the name.
        [name, colon, value @ ..] if colon.is(":") && !(last && value.is_empty()) => {
            let attribute = Attribute::ALL.into_iter().find(|attribute| name.is(attribute.extension()))?;
            Some(ExtensionDemand::Name(attribute, joined(value)))
        }
        _ => None,
    }
}

/// C's `strtol` with base 0, as sendmail's `arith` map has it.
fn strtol(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (radix, digits) = match hexadecimal {
        Some(rest) => (16, rest),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let mut number = 0i64;
    for digit in digits.chars().map_while(|c| c.to_digit(radix)) {
        number = number.saturating_mul(i64::from(radix)).saturating_add(i64::from(digit));
    }
    if negative { -number } else { number }
}

/// Whether a name can be what a macro of sendmail's says: xtext has no blank, quote, angle bracket or byte
/// beyond ASCII. One that cannot never matches.
pub fn can_match(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (b'!'..=b'~').contains(&b) && !b"<>()\"\\".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `prefix keyword bits extensions`, or why it is accepted.
    fn shown(value: &str) -> String {
        match parse(value) {
            Value::Ok => "ok".into(),
            Value::Skip => "skip".into(),
            Value::Accepted(Accepted { why, meant, .. }) => format!("{why:?} {}", meant.unwrap_or_default()),
            Value::Demand(demand) => {
                let bits = demand.bits.map_or_else(String::new, |bits| format!(" {}", bits.number));
                let extensions: Vec<_> = demand
                    .extensions
                    .iter()
                    .map(|extension| match &extension.demand {
                        ExtensionDemand::CnOfPeer => "CN".to_owned(),
                        ExtensionDemand::Name(attribute, name) => format!("{attribute:?}={name}"),
                        ExtensionDemand::IssuerTag(tag) => format!("tag={tag}"),
                    })
                    .collect();
                let ignored = demand.ignored.map_or_else(String::new, |(_, why)| format!(" {why:?}"));
                let keyword = if demand.verify { "VERIFY" } else { "ENCR" };
                format!("{:?} {keyword}{bits} {}{ignored}", demand.prefix, extensions.join(" "))
            }
        }
        .trim_end()
        .to_owned()
    }

    /// Each as the rulesets of 8.17 took it, asked by `sendmail -bt`.
    #[test]
    fn a_value_is_what_sendmail_makes_of_it() {
        for (value, expected) in [
            ("OK", "ok"),
            ("ok", "ok"),
            ("SKIP", "skip"),
            ("ENCR:112", "Bare ENCR 112"),
            ("encr : 112", "Bare ENCR 112"),
            ("TEMP + ENCR:112", "Temp ENCR 112"),
            ("perm+verify", "Perm VERIFY"),
            ("VERIFY:112", "Bare VERIFY 112"),
            ("ENCR:0112", "Bare ENCR 74"),
            ("ENCR:0x70", "Bare ENCR 112"),
            ("ENCR:112bits", "Bare ENCR 112"),
            ("ENCR:1e3", "Bare ENCR 1"),
            ("ENCR:-5", "Bare ENCR -5"),
            ("ENCR:abc", "Bare ENCR 0"),
            ("ENCR:112 (a comment)", "Bare ENCR 112"),
            ("ENCR:112>", "Bare ENCR 112"),
            ("ENCR:112+CN", "Bare ENCR 112 CN"),
            ("VERIFY+CN:mx.x", "Bare VERIFY CommonName=mx.x"),
            ("ENCR:1+CN:a++CI:/O=b+20c", "Bare ENCR 1 CommonName=a Issuer=/O=b+20c"),
            ("ENCR:1+cs : /O=b", "Bare ENCR 1 Subject=/O=b"),
            ("ENCR:1+CITag:ca++CN", "Bare ENCR 1 tag=ca CN"),
            ("ENCR:1+CN:zz+CS:/O=a", "Bare ENCR 1 CommonName=zz+CS:/O=a"),
            ("ENCR:1+CN:zz+", "Bare ENCR 1 CommonName=zz+"),
            ("ENCR:1+CN:zz yy", "Bare ENCR 1 CommonName=zz yy"),
            ("ENCR:1+CN:", "Bare ENCR 1  Unknown"),
            ("ENCR:1+CN:++CI:x", "Bare ENCR 1 CommonName= Issuer=x"),
            ("ENCR:1+FOO++CN", "Bare ENCR 1  Unknown"),
            ("ENCR:1+CN++FOO", "Bare ENCR 1 CN Unknown"),
            ("ENCR:1+CN+CN", "Bare ENCR 1  Unknown"),
            ("ENCR:1++CN:zz", "Bare ENCR 1  Unknown"),
            ("ENCR:1+CN:zz++", "Bare ENCR 1  OpenEnd"),
            ("ENCR", "NoBits"),
            ("ENCR:", "NoBits"),
            ("VERIFY:", "NoBits"),
            ("ENCR128", "NoColon ENCR:128"),
            ("ENCR=128", "NoColon ENCR:128"),
            ("TEMP+ENCR128", "NoColon ENCR:128"),
            ("ENCR 128", "NoColon"),
            ("ENCR:112 # note", "Trailing"),
            ("ENCR:112;", "Trailing"),
            ("ENCR:112:4", "Trailing"),
            ("ENCR:112+", "Trailing"),
            ("VERIFY+", "Trailing"),
            ("VERIFY 112", "Trailing"),
            ("FOO+ENCR:112", "Prefix"),
            ("TEMP+PERM+ENCR:112", "Word"),
            ("TEMP ENCR:112", "Word"),
            ("TEMP+", "Word"),
            ("REJECT", "Word"),
            ("\"ENCR:112\"", "Word"),
            ("<ENCR:112>", "Word"),
            ("(x)", "Empty"),
            ("OK # x", "Word"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }
}
