//! The faults of one line of an access map: where it does not do what it was written for.
//!
//! Promises: of each fault what sendmail does, where it stands, and what to write instead; nothing of a line
//! that is sound. Needs no other line, so that `import` can ask about the line that it is at.

use super::super::access_map::{Content, Line, MAX_LINE, Matches, Refused, Rule, tag_of, too_long_from};
use super::super::rhs::{
    self, Accepted, Bits, Demand, Extension, ExtensionDemand, Ignored, Value, Why, can_match,
};
use super::{keys, tags};
use crate::diagnostics::{Diagnostic, FileId, Place};
use crate::policy::requirement::Attribute;
use crate::policy::rule::Side;
use crate::policy::{domain, network::Network};
use std::borrow::Cow;
use std::ops::Range;

/// No cipher has more bits.
pub(super) const MOST_BITS: u16 = 256;

/// A text as a message shows it: one of a million characters is cut, and a tab is a blank.
pub(in crate::sendmail) fn shown(text: &str) -> Cow<'_, str> {
    let (start, more) = match text.char_indices().nth(60) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    if more.is_empty() && !start.contains(char::is_control) {
        return Cow::Borrowed(start);
    }
    Cow::Owned(start.replace(char::is_control, " ") + more)
}

/// Where the parts of a rule stand.
pub(super) struct At<'r> {
    pub(super) file: FileId,
    pub(super) rule: &'r Rule<'r>,
}

impl At<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file, span }
    }

    pub(super) fn key(&self) -> Place {
        // The default has no key: its tag stands for it.
        if self.rule.key.is_empty() { self.tag_and_key() } else { self.place(self.rule.key_span.clone()) }
    }

    pub(super) fn tag_and_key(&self) -> Place {
        let tag = tag_of(self.rule.side).unwrap_or_default().len() + 1;
        self.place(self.rule.key_span.start.saturating_sub(tag)..self.rule.key_span.end)
    }

    pub(super) fn separator(&self) -> Place {
        self.place(self.rule.key_span.end..self.rule.value_start)
    }

    /// A part of the value.
    pub(super) fn value(&self, span: Range<usize>) -> Place {
        self.place(self.rule.value_start + span.start..self.rule.value_start + span.end)
    }
}

/// The faults of a line of this text.
pub fn of_line(file: FileId, text: &str, line: &Line<'_>) -> Vec<Diagnostic> {
    match &line.content {
        Content::Rule(rule) => of_rule(file, rule, &rhs::parse(rule.value)),
        Content::Refused(why) => vec![refused(file, text, line, *why)],
        Content::Other { key, value } => tags::slip(file, text, line, key, value).into_iter().collect(),
        Content::Blank | Content::Comment(_) => Vec::new(),
    }
}

/// The faults of a rule whose right-hand side is `value`.
pub fn of_rule(file: FileId, rule: &Rule<'_>, value: &Value) -> Vec<Diagnostic> {
    let at = At { file, rule };
    if let Some((key, rest)) = blank_behind_tag(rule, value) {
        return vec![tag_without_key(&at, key, rest)];
    }
    let mut found = Vec::new();
    if let Matches::Nothing(dead) = rule.matches {
        found.push(keys::never_matches(&at, dead));
    }
    match value {
        Value::Ok => {}
        Value::Skip => found.extend(skip(&at)),
        Value::Accepted(accepted) => found.push(silently_accepted(&at, accepted)),
        Value::Demand(demand) => demanded(&at, demand, &mut found),
    }
    found
}

fn refused(file: FileId, text: &str, line: &Line<'_>, why: Refused) -> Diagnostic {
    let whole = text.get(line.span.clone()).unwrap_or_default();
    let written = whole.trim();
    let start = line.span.start + whole.len() - whole.trim_start().len();
    match why {
        Refused::LeadingBlank => Diagnostic::error("leading-blank", "makemap refuses a line that begins with a blank")
            .at(Place { file, span: line.span.start..start })
            .hint("let the tag begin the line; makemap leaves this one out, and exits with 65"),
        Refused::NoValue => Diagnostic::error("no-value", format!("makemap refuses `{}`: it has no value", shown(written)))
            .at(Place { file, span: start..start + written.len() })
            .hint("give it one behind a tab (`OK` exempts), or take it out; makemap leaves this one out, and exits with 65"),
        Refused::TooLong => {
            let from = line.span.start + too_long_from(whole).unwrap_or_default();
            let message =
                format!("makemap refuses a line of more than {MAX_LINE} bytes, and takes the rest of it for another line");
            Diagnostic::error("line-too-long", message)
                .at(Place { file, span: from..line.span.end })
                .hint("make it shorter, or several lines of it: the rest may be a rule that holds; makemap exits with 65")
        }
    }
}

/// `TLS_Clt: partner.example ENCR:168`: what was meant as the key, and what stands behind it.
pub(super) fn blank_behind_tag<'r>(rule: &Rule<'r>, value: &Value) -> Option<(&'r str, &'r str)> {
    if rule.matches != Matches::Default || !matches!(value, Value::Accepted(_)) {
        return None;
    }
    let (word, rest) = rule.value.split_once([' ', '\t']).unwrap_or((rule.value.trim_end(), ""));
    let rest = rest.trim();
    let dotted = word.contains(['.', ':', '@', '[']);
    let name = word.rsplit_once('@').map_or(word, |(_, domain)| domain);
    let is_key = dotted
        && matches!(rhs::parse(word), Value::Accepted(_))
        && (domain::key(name.trim_start_matches(['*', '.'])).is_ok()
            || Network::parse(name).is_some_and(|network| network.is_ok()));
    let is_single_label = domain::key(word).is_ok()
        && !["TEMP", "PERM", "ENCR", "VERIFY", "OK"].iter().any(|w| word.eq_ignore_ascii_case(w));
    let is_value = !rest.is_empty() && !matches!(rhs::parse(rest), Value::Accepted(_));
    (is_key || (is_single_label && is_value)).then_some((word, rest))
}

fn tag_without_key(at: &At<'_>, key: &str, rest: &str) -> Diagnostic {
    let tag = tag_of(at.rule.side).unwrap_or_default();
    let value = if rest.is_empty() { "its value" } else { rest };
    Diagnostic::error(
        "blank-behind-tag",
        format!(
            "a blank behind `{tag}:` makes this the rule for everyone, and sendmail accepts its value, `{}`",
            shown(at.rule.value.trim_end())
        ),
    )
    .at(at.value(0..key.len()))
    .label("this is no key, but the beginning of the value")
    .hint(format!("write `{tag}:{}` without a blank, then a tab, then `{}`", shown(key), shown(value)))
}

/// Whom a rule exempts.
fn whom(rule: &Rule<'_>) -> String {
    match &rule.matches {
        Matches::Default => "everyone without a rule is exempt".to_owned(),
        Matches::Nothing(_) => "the rule would demand nothing".to_owned(),
        Matches::Name(name) if name.contains('@') => format!("mail to `{}` is exempt", shown(rule.key)),
        Matches::Name(name) if name.contains('.') => {
            format!("`{}` is exempt, whatever is demanded of its parents", shown(rule.key))
        }
        _ => format!("`{}` is exempt", shown(rule.key)),
    }
}

/// Why `SKIP` is no more than `OK` to a rule, where that is so.
pub fn cannot_skip(rule: &Rule<'_>) -> Option<&'static str> {
    match &rule.matches {
        Matches::Default => Some("nothing is looked up after the default"),
        Matches::Name(name) if rule.side == Side::RecipientOutbound && name.contains('@') => {
            Some("only a domain's key can skip here")
        }
        _ => None,
    }
}

fn skip(at: &At<'_>) -> Option<Diagnostic> {
    let why = cannot_skip(at.rule)?;
    Some(
        Diagnostic::error(
            "silently-accepted",
            format!("sendmail accepts `SKIP` here as it does `OK`: {}", whom(at.rule)),
        )
        .at(at.value(0..at.rule.value.trim_end().len()))
        .label(why)
        .hint("write `OK` if that is meant, or take the rule out"),
    )
}

fn silently_accepted(at: &At<'_>, accepted: &Accepted) -> Diagnostic {
    let value = at.rule.value.trim_end();
    let diagnostic = Diagnostic::error(
        "silently-accepted",
        format!("sendmail accepts what it does not understand: {}", whom(at.rule)),
    )
    .at(at.value(accepted.span.start.min(value.len())..accepted.span.end.min(value.len())))
    .label(accepted.why.words());
    diagnostic.hint(match &accepted.meant {
        Some(meant) => {
            let prefix = match value.split_once('+') {
                Some((prefix, _)) if prefix.len() < accepted.span.start => format!("{prefix}+"),
                _ => String::new(),
            };
            format!("did you mean `{prefix}{meant}`?")
        }
        None => hint_for(value, accepted),
    })
}

/// What to write instead of a value that demands nothing.
fn hint_for(value: &str, accepted: &Accepted) -> String {
    let before = value.get(..accepted.span.start).unwrap_or_default().trim_end();
    let fault = value.get(accepted.span.clone()).unwrap_or_default();
    if let Some((sound, _)) = value.split_once('#')
        && !matches!(rhs::parse(sound.trim_end()), Value::Accepted(_))
    {
        return format!(
            "a `#` begins a comment only where it begins a line: put it on a line of its own above, and leave `{}` here",
            shown(sound.trim_end())
        );
    }
    let number = fault.trim_start_matches([' ', ':', '=']);
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match accepted.why {
        Why::Empty => "a demand is `ENCR:bits` or `VERIFY`; `OK` exempts".to_owned(),
        Why::NoBits if fault.to_ascii_uppercase().starts_with("VERIFY") => {
            "write `VERIFY` for a verified certificate, or `VERIFY:128` for one and 128 bits".to_owned()
        }
        Why::NoBits => "write `ENCR:128` for 128 bits, or `ENCR:1` for any encryption at all".to_owned(),
        Why::NoColon if is_number => format!("write `{before}:{number}`"),
        Why::NoColon if fault.starts_with('+') => {
            format!("write `{before}:1{}` for any encryption, and the names", shown(fault))
        }
        Why::NoColon => "write `ENCR:` and the bits, as in `ENCR:128`".to_owned(),
        Why::Trailing if is_number && before.to_ascii_uppercase().ends_with("VERIFY") => {
            format!("write `{before}:{number}`")
        }
        Why::Trailing => format!("write `{}` and nothing behind it", shown(before)),
        Why::Prefix => {
            let near = ["TEMP", "PERM"]
                .into_iter()
                .find(|known| strsim::damerau_levenshtein(&fault.to_ascii_uppercase(), known) <= 2);
            match near {
                Some(near) => format!("did you mean `{near}+`?"),
                None => {
                    "write `PERM+`, `TEMP+`, or no prefix (`454 4.7.0`, or `554 5.7.0` with TLS_PERM_ERR)"
                        .to_owned()
                }
            }
        }
        Why::Word => word_hint(value),
    }
}

fn word_hint(value: &str) -> String {
    let bare = value.trim_matches(|c| "\"'<>`".contains(c));
    if bare.len() < value.len() && !matches!(rhs::parse(bare), Value::Accepted(_)) {
        return format!("write `{}` as it stands, without quotes or brackets", shown(bare));
    }
    let end = value.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(value.len());
    let (word, rest) = value.split_at_checked(end).unwrap_or((value, ""));
    let upper = word.to_ascii_uppercase();
    if ["REJECT", "DISCARD", "RELAY", "ERROR", "QUARANTINE", "HOLD"].contains(&upper.as_str()) {
        return format!(
            "`{word}` is a word of other tags (`Connect:`, `From:`, `To:`); a TLS rule demands: `ENCR:bits` or `VERIFY`, or exempts: `OK`"
        );
    }
    if ["TEMP", "PERM"].contains(&upper.as_str()) {
        let demand = rest.rsplit(['+', ' ', '\t']).next().unwrap_or_default();
        let demand = if matches!(rhs::parse(demand), Value::Demand(_)) { demand } else { "ENCR:128" };
        return format!("one prefix stands before a demand, with a `+`: `{word}+{}`", shown(demand));
    }
    let near = ["ENCR", "VERIFY", "SKIP"]
        .into_iter()
        .find(|known| word.len() > 2 && strsim::damerau_levenshtein(&upper, known) <= known.len() / 3);
    match near {
        Some(near) => format!("did you mean `{near}{}`?", shown(rest)),
        None => "a TLS rule demands: `ENCR:bits` or `VERIFY`, or exempts: `OK`".to_owned(),
    }
}

fn demanded(at: &At<'_>, demand: &Demand, found: &mut Vec<Diagnostic>) {
    if let Some(bits) = &demand.bits {
        found.extend(misread_bits(at, demand, bits));
    }
    let mut firsts: Vec<(Attribute, &str)> = Vec::new();
    for extension in &demand.extensions {
        let ExtensionDemand::Name(attribute, name) = &extension.demand else { continue };
        found.extend(name_fault(at, extension, attribute.extension(), name));
        match firsts.iter().find(|(other, _)| other == attribute) {
            None => firsts.push((*attribute, name)),
            Some((_, first)) if first.eq_ignore_ascii_case(name) => {}
            Some((_, first)) => found.push(
                Diagnostic::error(
                    "contradiction",
                    format!(
                        "everyone is refused: no certificate has both {} `{}` and `{}`",
                        attribute.extension(),
                        shown(first),
                        shown(name)
                    ),
                )
                .at(at.value(extension.span.clone()))
                .hint("extensions must hold all together; for a choice of issuers there is `CITag:tag`"),
            ),
        }
    }
    if let Some((span, why)) = &demand.ignored {
        let text = at.rule.value.get(span.clone()).unwrap_or_default();
        let (message, hint) = match why {
            Ignored::OpenEnd => (
                "a `++` at the end: sendmail looks at none of the extensions".to_owned(),
                format!("write `{}`", shown(text.trim_end_matches(['+', ' ', '\t']))),
            ),
            Ignored::Unknown => (
                format!("sendmail does not know `{}`, and accepts without looking further", shown(text)),
                extension_hint(text),
            ),
        };
        found.push(Diagnostic::error("ignored-extension", message).at(at.value(span.clone())).hint(hint));
    }
}

fn extension_hint(text: &str) -> String {
    let known =
        "an extension is `CN`, `CN:name`, `CS:dn`, `CI:dn` or `CITag:tag`, and `++` stands between two";
    let trimmed = text.trim_start_matches(['+', ' ']);
    if trimmed.len() < text.len() {
        return format!("one `+` stands before the first extension: `+{}`", shown(trimmed));
    }
    match text.trim_end().strip_suffix(':') {
        Some(name) if !name.contains([':', '+']) => {
            format!("a name must stand behind `{}:`; {known}", shown(name))
        }
        _ => known.to_owned(),
    }
}

/// Bits that count otherwise than they look.
fn misread_bits(at: &At<'_>, demand: &Demand, bits: &Bits) -> Option<Diagnostic> {
    let plain = !bits.text.is_empty() && bits.text.bytes().all(|b| b.is_ascii_digit());
    let zero = plain && bits.text.bytes().all(|b| b == b'0');
    if zero || (plain && !bits.text.starts_with('0')) {
        return None;
    }
    let (text, number) = (shown(&bits.text), bits.number);
    let place = at.value(bits.span.clone());
    let hint = "write a decimal number without leading zeros: `112`, `128` or `256`";
    if number <= 0 {
        let nothing = format!("`{text}` counts as {number} bits: that demands no encryption");
        let diagnostic = if demand.verify {
            Diagnostic::warning(
                "misread-bits",
                format!("`{text}` counts as {number} bits: only the certificate counts"),
            )
        } else {
            Diagnostic::error("misread-bits", nothing)
        };
        return Some(diagnostic.at(place).hint(hint));
    }
    let message = if plain {
        format!("`{text}` is octal: sendmail demands {number} bits")
    } else if bits.text.to_ascii_lowercase().starts_with("0x") {
        format!("`{text}` is hexadecimal: sendmail demands {number} bits")
    } else {
        format!("sendmail reads `{text}` up to where it is no number: {number} bits")
    };
    // No cipher has so many: everyone is refused.
    let refuses = number > i64::from(MOST_BITS);
    let told = if refuses { Diagnostic::error } else { Diagnostic::warning };
    Some(told("misread-bits", message).at(place).hint(hint))
}

fn name_fault(at: &At<'_>, extension: &Extension, attribute: &str, name: &str) -> Option<Diagnostic> {
    let value = at.rule.value;
    // A comment that touches the name was meant as a part of it; one behind a blank is a comment.
    let behind = value.get(extension.span.end..).filter(|behind| behind.starts_with('(')).unwrap_or_default();
    let end = extension.span.end + behind.find("++").unwrap_or(behind.trim_end().len());
    let written = value.get(extension.span.start..end).unwrap_or_default();
    let written = written.split_once(':').map_or(written, |(_, name)| name).trim();
    let place = at.value(extension.span.clone());
    let lower = name.to_ascii_lowercase();
    if ["+cn:", "+cs:", "+ci:", "+citag:"].iter().any(|next| lower.contains(next)) {
        return Some(
            Diagnostic::error(
                "single-plus",
                format!(
                    "a single `+` ends no name: no {attribute} is ever `{}`, and everyone is refused",
                    shown(name)
                ),
            )
            .at(place)
            .hint("write `++` between two extensions"),
        );
    }
    if can_match(name) && !written.contains('(') {
        return None;
    }
    let spelt = written.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(written);
    let hint = if spelt.is_ascii() {
        format!("write it in xtext, as sendmail's macros have it: `{attribute}:{}`", shown(&xtext(spelt)))
    } else {
        "write it in xtext, as sendmail's log and its macros have it: a blank is `+20`".to_owned()
    };
    let message = if can_match(name) {
        format!("what stands in parentheses is a comment to sendmail: it wants {attribute} `{}`", shown(name))
    } else {
        format!("no {attribute} is ever `{}`: everyone is refused", shown(name))
    };
    Some(Diagnostic::error("unmatchable-name", message).at(place).hint(hint))
}

/// What sendmail's `xtextify` makes of a name; what is encoded in it already stays.
fn xtext(name: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len() + 8);
    for (at, byte) in name.bytes().enumerate() {
        let encoded = byte == b'+'
            && name.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let plain = (b'!'..=b'~').contains(&byte) && !b"<>\"()\\+".contains(&byte);
        if plain || encoded {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "+{byte:02X}");
        }
    }
    out
}
