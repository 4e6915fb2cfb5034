//! Keys of a policy, from a rule's arrays and from lists: read, judged, and put in the index.
//!
//! Promises: a key is in the form for comparison, and belongs to one rule of its side; a list of a million keys is read
//! once, and hardly anything is written that does not stay.

use super::Compiler;
use crate::diagnostics::{Diagnostic, FileId, Place};
use crate::policy::domain;
use crate::policy::facts::plain_address;
use crate::policy::lookup::{InsertError, Key, RuleId};
use crate::policy::network::{Network, Written, parse_address};
use crate::policy::rule::Side;
use std::borrow::Cow;
use std::ops::Range;

/// So many keys of a list are added at once.
const AT_ONCE: usize = 32;

/// A list file that a rule names, read.
pub(in crate::policy_file) struct List<'t> {
    /// The rule, by its position among all rules.
    pub(in crate::policy_file) rule: usize,
    /// The side of its keys.
    pub(in crate::policy_file) side: Side,
    /// The file.
    pub(in crate::policy_file) file: FileId,
    /// What it says.
    pub(in crate::policy_file) text: &'t str,
}

/// A key in the form for comparison, not yet in the index.
enum Read<'t> {
    Name(Cow<'t, str>),
    Network(Network),
    Literal(Network),
    Any,
}

impl Read<'_> {
    fn key(&self) -> Key<'_> {
        match self {
            Self::Name(name) => Key::Name(name),
            Self::Network(network) => Key::Network(*network),
            Self::Literal(network) => Key::Literal(*network),
            Self::Any => Key::Any,
        }
    }
}

impl Compiler<'_> {
    /// Adds the keys of a list.
    pub(super) fn list(&mut self, list: &List<'_>) {
        if list.text.trim().is_empty() {
            self.diagnostics.push(
                Diagnostic::error("empty-list", "an empty list: it may be half-written")
                    .at(Place { file: list.file, span: 0..0 })
                    .hint("a list that is meant to have no keys has a comment: # none"),
            );
        }
        // Some editors begin a file with a byte order mark; TOML allows it, and a list does too.
        let mut start = if list.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let mut waiting: Vec<(Read<'_>, Range<usize>)> = Vec::with_capacity(AT_ONCE);
        let mut is_first = true;
        let rule = RuleId::new(list.rule);
        for line in list.text.get(start..).unwrap_or_default().split_inclusive('\n') {
            let whole = line.strip_suffix('\n').unwrap_or(line);
            let whole = whole.strip_suffix('\r').unwrap_or(whole);
            // Almost every line is a key and nothing else.
            let is_plain = domain::is_plain(whole);
            let (indent, key) = if is_plain { (0, whole) } else { key_of(whole) };
            let span = start + indent..start + indent + key.len();
            let place = || Place { file: list.file, span: span.clone() };
            let read = if is_plain {
                Some(self.plain(list.side, key, place))
            } else if key.is_empty() {
                None
            } else {
                self.read(rule, list.side, key, place)
            };
            start += line.len();
            let Some(read) = read else { continue };
            if std::mem::take(&mut is_first) {
                // A list is of names or of networks, as a rule, and its first key tells which.
                let lines = memchr::memchr_iter(b'\n', list.text.as_bytes()).count() + 1;
                self.index.side_mut(list.side).reserve(read.key(), lines, list.text.len());
            }
            self.index.side(list.side).fetch(read.key());
            waiting.push((read, span));
            if waiting.len() == AT_ONCE {
                self.add(list, &mut waiting);
            }
        }
        self.add(list, &mut waiting);
    }

    /// Adds keys that stand where it is said in a list.
    fn add(&mut self, list: &List<'_>, waiting: &mut Vec<(Read<'_>, Range<usize>)>) {
        for (read, span) in waiting.drain(..) {
            let place = || Place { file: list.file, span: span.clone() };
            self.insert(RuleId::new(list.rule), list.side, read.key(), place);
        }
    }

    /// Adds a key.
    pub(super) fn key(&mut self, rule: RuleId, side: Side, text: &str, place: impl Fn() -> Place) {
        if let Some(read) = self.read(rule, side, text, &place) {
            self.insert(rule, side, read.key(), place);
        }
    }

    /// A domain that is in the form for comparison.
    fn plain<'t>(&mut self, side: Side, text: &'t str, place: impl Fn() -> Place) -> Read<'t> {
        self.single_label(side, text, &place);
        Read::Name(Cow::Borrowed(text))
    }

    /// Reads a key, and says what is wrong or odd about it.
    fn read<'t>(
        &mut self,
        rule: RuleId,
        side: Side,
        text: &'t str,
        place: impl Fn() -> Place,
    ) -> Option<Read<'t>> {
        if domain::is_plain(text) {
            return Some(self.plain(side, text, place));
        }
        if text == "*" {
            self.enforced_on_all(rule, side, &place);
            return Some(Read::Any);
        }
        match (side.is_host(), Network::parse(text)) {
            (_, Some(Ok(written))) if text.starts_with('[') => {
                self.host_bits(written, text, &place);
                Some(Read::Literal(written.network))
            }
            (true, Some(Ok(written))) => {
                self.host_bits(written, text, &place);
                if written.network.is_everything() {
                    self.enforced_on_all(rule, side, &place);
                }
                Some(Read::Network(written.network))
            }
            (true, Some(Err(error))) => {
                self.bad_key(text, &place(), &error.to_string(), None);
                None
            }
            (false, Some(Ok(_))) => {
                let why = format!("an address or network, and `{side}` takes domains and mail addresses");
                self.bad_key(text, &place(), &why, Some("hosts are keys of `client` or `server`"));
                None
            }
            _ => match name_key(side, text) {
                Ok(name) => {
                    self.single_label(side, &name, &place);
                    Some(Read::Name(name))
                }
                Err((why, hint)) => {
                    self.bad_key(text, &place(), &why, hint.as_deref());
                    None
                }
            },
        }
    }

    fn insert(&mut self, rule: RuleId, side: Side, key: Key<'_>, place: impl Fn() -> Place) {
        match self.index.side_mut(side).insert(key, rule) {
            Ok(()) => {}
            Err(InsertError::Taken(taken)) if taken == rule => self.diagnostics.push(
                Diagnostic::warning("duplicate-key", format!("`{key}` stands twice in this rule"))
                    .at(place()),
            ),
            Err(InsertError::Taken(taken)) => {
                let other = self.rules.get(taken.index()).map_or("another", |rule| rule.name.as_str());
                let message = format!("`{key}` is already a {side} key of rule `{other}`");
                self.diagnostics.push(
                    Diagnostic::error("duplicate-key", message)
                        .at(place())
                        .hint("a key belongs to one rule of its side: let one of them go"),
                );
            }
            Err(InsertError::Full) => self
                .diagnostics
                .push(Diagnostic::error("too-large", format!("more than 4 GiB of {side} keys")).at(place())),
        }
    }

    fn enforced_on_all(&mut self, rule: RuleId, side: Side, place: &impl Fn() -> Place) {
        let Some(rule) = self.rules.get(rule.index()) else { return };
        if rule.modes.enforce.is_some() && matches!(side, Side::Client | Side::Sender | Side::Recipient) {
            let message = format!("rule `{}` enforces TLS on everyone ({side})", rule.name);
            self.diagnostics.push(
                Diagnostic::warning("enforce-all", message)
                    .at(place())
                    .hint("a public mail server must not require STARTTLS of all (RFC 3207 section 4); for a private one this is fine"),
            );
        }
    }

    /// `recipient = ["sales"]`: a top-level domain, where perhaps a local part was meant.
    fn single_label(&mut self, side: Side, name: &str, place: &impl Fn() -> Place) {
        if !side.is_host() && !name.contains(['.', '@']) {
            self.diagnostics.push(
                Diagnostic::warning("single-label", format!("`{name}` is taken as a top-level domain"))
                    .at(place())
                    .hint(format!("for the mail of one user, write `{name}@` and the domain")),
            );
        }
    }

    pub(super) fn host_bits(&mut self, written: Written, text: &str, place: &impl Fn() -> Place) {
        if written.host_bits {
            self.diagnostics.push(
                Diagnostic::warning("host-bits", format!("`{text}` has bits set behind its prefix"))
                    .at(place())
                    .hint(format!("it is taken as {}", written.network)),
            );
        }
    }

    pub(super) fn bad_key(&mut self, text: &str, place: &Place, why: &str, hint: Option<&str>) {
        let mut diagnostic =
            Diagnostic::error("bad-key", format!("`{}` cannot be a key: {why}", shortened(text)))
                .at(place.clone());
        diagnostic.hint = hint.map(str::to_owned);
        self.diagnostics.push(diagnostic);
    }
}

/// A domain or a mail address in the form for comparison; or why it is none, and what to write.
fn name_key(side: Side, text: &str) -> Result<Cow<'_, str>, (String, Option<String>)> {
    let why = |error: domain::NameError| {
        let bare = text.trim_start_matches("*.").trim_matches('.');
        let hint = match error {
            domain::NameError::LeadingDot | domain::NameError::Wildcard | domain::NameError::TrailingDot => {
                Some(format!("write `{bare}`: it covers the name and all its subdomains"))
            }
            _ => None,
        };
        (error.to_string(), hint)
    };
    let Some((local, host)) = text.rsplit_once('@') else {
        return domain::key(text).map_err(why);
    };
    if side.is_host() {
        let hint = format!("a {side} is a host: write `{host}`, or use `sender`");
        return Err(("a mail address".to_owned(), Some(hint)));
    }
    if local.is_empty() {
        return Err(("no local part".to_owned(), Some(format!("write `{host}` for the whole domain"))));
    }
    if !local.starts_with('"') && local.contains(['@', ' ']) {
        return Err(("a local part with a blank or `@` that is not quoted".to_owned(), None));
    }
    let local = plain_address(local);
    if local.len() > 64 {
        return Err(("a local part of more than 64 characters".to_owned(), None));
    }
    if host.is_empty() && side == Side::RecipientOutbound {
        return Ok(Cow::Owned(format!("{}@", local.to_ascii_lowercase())));
    }
    if host.is_empty() {
        let hint = format!("write `{local}@` and a domain");
        return Err(("no domain".to_owned(), Some(hint)));
    }
    // An address literal stays as it is written: mail addresses are compared as text.
    let host = match parse_address(host).filter(|_| host.starts_with('[')) {
        Some(_) => Cow::Owned(host.to_ascii_lowercase()),
        None => domain::key(host).map_err(why)?,
    };
    let is_plain = matches!((&local, &host), (Cow::Borrowed(_), Cow::Borrowed(_)));
    if is_plain && !local.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(format!("{}@{host}", local.to_ascii_lowercase())))
}

/// What stands before a line's comment, and how far from the line's beginning.
fn key_of(line: &str) -> (usize, &str) {
    let text = line.split('#').next().unwrap_or_default();
    (text.len() - text.trim_start().len(), text.trim())
}

/// A key as a message shows it: a line of a binary file is long.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}
