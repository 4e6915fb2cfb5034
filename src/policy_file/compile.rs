//! Documents to a policy: what takes all files together, and the calendar, to judge.
//!
//! Promises: a policy comes out only where nothing is wrong; every key is in the form for comparison, and
//! belongs to one rule of its side.

use super::schema::{Document, ExemptDoc, ModeDoc, RuleDoc, header};
use super::walk::{Located, nearest};
use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place};
use crate::policy::facts::plain_address;
use crate::policy::gate::Gate;
use crate::policy::lookup::{Index, InsertError, Key, RuleId};
use crate::policy::network::{Network, Written, parse_address};
use crate::policy::requirement::Requirement;
use crate::policy::rule::{Exempt, Exemption, Mode, ModeEntry, Modes, Rule, Side};
use crate::policy::{Day, Policy, domain};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// So many keys of a list are added at once.
const AT_ONCE: usize = 32;

/// A list file that a rule names, read.
pub(super) struct List<'t> {
    /// The rule, by its position among all rules.
    pub(super) rule: usize,
    /// The side of its keys.
    pub(super) side: Side,
    /// The file.
    pub(super) file: FileId,
    /// What it says.
    pub(super) text: &'t str,
}

/// Compiles all documents to one policy. `complete` says whether every file could be read: only then is
/// something that is missing a fault.
pub(super) fn compile(
    documents: &[Document<'_>],
    lists: &[List<'_>],
    today: Day,
    complete: bool,
    diagnostics: &mut Diagnostics,
) -> Policy {
    let mut compiler = Compiler {
        diagnostics,
        today,
        complete,
        requirements: HashMap::new(),
        used: HashSet::new(),
        rules: Vec::new(),
        names: HashSet::new(),
        index: Index::default(),
    };
    compiler.requirements(documents);
    let exempt = compiler.exempt(documents);
    let contact = compiler.contact(documents);
    let gate = compiler.gate(documents);
    for (id, doc) in documents.iter().flat_map(|document| &document.rules).enumerate() {
        compiler.rule(id, doc);
    }
    for list in lists {
        compiler.list(list);
    }
    compiler.unused(documents);
    Policy::new(compiler.rules, compiler.index, exempt, contact).with_gate(gate)
}

struct Compiler<'c> {
    diagnostics: &'c mut Diagnostics,
    today: Day,
    complete: bool,
    requirements: HashMap<&'c str, &'c Requirement>,
    used: HashSet<String>,
    rules: Vec<Rule>,
    names: HashSet<String>,
    index: Index,
}

impl<'c> Compiler<'c> {
    fn requirements(&mut self, documents: &'c [Document<'_>]) {
        for doc in documents.iter().flat_map(|document| &document.requirements) {
            if self.requirements.insert(&doc.name.value, &doc.requirement).is_some() {
                self.diagnostics.push(
                    Diagnostic::error(
                        "duplicate-requirement",
                        format!("requirement `{}` is defined twice", doc.name.value),
                    )
                    .at(doc.name.place.clone()),
                );
            }
        }
    }

    fn unused(&mut self, documents: &[Document<'_>]) {
        for doc in documents.iter().flat_map(|document| &document.requirements) {
            if self.complete && !self.used.contains(&doc.name.value) {
                self.diagnostics.push(
                    Diagnostic::warning(
                        "unused-requirement",
                        format!("no rule uses requirement `{}`", doc.name.value),
                    )
                    .at(doc.name.place.clone()),
                );
            }
        }
    }

    /// A section that may stand once in all files together.
    fn once(&mut self, name: &str, place: &Place) {
        self.diagnostics.push(
            Diagnostic::error("duplicate-section", format!("[{name}] stands in two files"))
                .at(place.clone())
                .hint("all files are one policy: give it once"),
        );
    }

    fn contact(&mut self, documents: &[Document<'_>]) -> Option<String> {
        let mut sections = documents.iter().filter_map(|document| document.reply.as_ref());
        let first = sections.next();
        for second in sections {
            self.once("reply", &second.place);
        }
        first.and_then(|reply| reply.contact.as_ref()).map(|contact| contact.value.to_string())
    }

    fn gate(&mut self, documents: &[Document<'_>]) -> Gate {
        let mut sections = documents.iter().filter_map(|document| document.gate.as_ref());
        let first = sections.next();
        for second in sections {
            self.once("gate", &second.place);
        }
        let default = Gate::default();
        first.map_or(default, |gate| Gate {
            min_days: gate.min_days.unwrap_or(default.min_days),
            min_messages: gate.min_messages.unwrap_or(default.min_messages),
            max_failures: gate.max_failures.unwrap_or(default.max_failures),
            every_peer_passed: gate.every_peer_passed.unwrap_or(default.every_peer_passed),
        })
    }

    fn exempt(&mut self, documents: &[Document<'_>]) -> Exempt {
        let mut sections = documents.iter().filter_map(|document| document.exempt.as_ref());
        let first = sections.next();
        for second in sections {
            self.once("exempt", &second.place);
        }
        let default = Exempt::default();
        let Some(ExemptDoc { authenticated, networks, recipients, .. }) = first else { return default };
        let mut exempt = Exempt {
            authenticated: authenticated.unwrap_or(default.authenticated),
            networks: networks.as_ref().map_or(default.networks, |list| {
                list.iter().filter_map(|text| self.exempt_network(text)).collect()
            }),
            recipients: recipients.as_ref().map_or(default.recipients, |list| {
                list.iter().filter_map(|text| self.exempt_recipient(text)).collect()
            }),
        };
        // Their order means nothing, and must not be seen in the fingerprint.
        exempt.networks.sort_unstable();
        exempt.networks.dedup();
        exempt.recipients.sort_unstable();
        exempt.recipients.dedup();
        exempt
    }

    fn exempt_network(&mut self, text: &Located<Cow<'_, str>>) -> Option<Network> {
        match Network::parse(&text.value) {
            Some(Ok(written)) => {
                self.host_bits(written, &text.value, &text.place);
                Some(written.network)
            }
            Some(Err(error)) => {
                self.bad_key(&text.value, &text.place, &error.to_string(), None);
                None
            }
            None => {
                let hint = "to exempt a host by its name, write a rule with `exempt`";
                self.bad_key(&text.value, &text.place, "not a network", Some(hint));
                None
            }
        }
    }

    fn exempt_recipient(&mut self, text: &Located<Cow<'_, str>>) -> Option<String> {
        let (local, domain) = domain::split_address(&text.value);
        if local.is_empty() {
            self.bad_key(&text.value, &text.place, "no local part", Some("write postmaster, or user@domain"));
            return None;
        }
        let Some(domain) = domain else { return Some(local.to_ascii_lowercase()) };
        match domain::key(domain) {
            Ok(domain) => Some(format!("{}@{domain}", local.to_ascii_lowercase())),
            Err(error) => {
                self.bad_key(&text.value, &text.place, &error.to_string(), None);
                None
            }
        }
    }

    fn rule(&mut self, id: usize, doc: &RuleDoc<'_>) {
        let name = doc.name.as_ref().map_or_else(String::new, |name| name.value.to_string());
        if let Some(name) = &doc.name
            && !self.names.insert(name.value.to_string())
        {
            self.diagnostics.push(
                Diagnostic::error("duplicate-rule", format!("two rules are named `{}`", name.value))
                    .at(name.place.clone())
                    .hint("a rule's name is unique in all files together"),
            );
        }
        if doc.keys.is_empty() && doc.lists.is_empty() && !doc.damaged {
            self.diagnostics.push(
                Diagnostic::error("no-keys", format!("rule `{name}` has no keys: it could never apply"))
                    .at(doc.name.as_ref().map_or_else(|| header(&doc.place), |name| name.place.clone()))
                    .hint(
                        "give it client, sender, recipient, server or recipient-outbound, or a …-file of one",
                    ),
            );
        }
        if let Some(skip) = &doc.skip
            && (!doc.modes.is_empty() || doc.exemption.is_some())
        {
            self.diagnostics.push(
                Diagnostic::error("skip-and-more", format!("rule `{name}` skips, and says something too"))
                    .at(skip.clone())
                    .hint("a rule with `skip = true` has no modes and no exempt: its keys only end the search among keys of their kind"),
            );
        }
        if doc.modes.is_empty() && doc.exemption.is_none() && doc.skip.is_none() && !doc.damaged {
            self.diagnostics.push(
                Diagnostic::error("no-modes", format!("rule `{name}` has no modes: it says nothing"))
                    .at(doc.name.as_ref().map_or_else(|| header(&doc.place), |name| name.place.clone()))
                    .hint("give it observe, soft-fail or enforce, or an exempt"),
            );
        }
        let mut modes = Modes::default();
        for (mode, entry) in &doc.modes {
            modes.set(*mode, Some(self.mode(entry)));
        }
        self.never_alone(&name, doc, &modes);
        // A failed handshake is no session, and may be refused to the exempt too.
        let dead = modes.in_force(Day(i64::MAX)).any(|(_, entry)| !entry.requirement.handshake);
        if doc.exemption.as_ref().is_some_and(|exemption| exemption.until.is_none()) && dead {
            self.diagnostics.push(
                Diagnostic::warning(
                    "dead-modes",
                    format!("rule `{name}` is exempt without an end: its modes can never act"),
                )
                .at(doc.name.as_ref().map_or_else(|| header(&doc.place), |name| name.place.clone()))
                .hint("give the exemption an `until`, or take the modes out"),
            );
        }
        let exemption = doc.exemption.as_ref().map(|doc| {
            if let Some(until) = &doc.until
                && until.value < self.today
            {
                self.diagnostics.push(
                    Diagnostic::warning(
                        "lapsed-exemption",
                        format!("the exemption of rule `{name}` has lapsed: it is as if it were not there"),
                    )
                    .at(until.place.clone())
                    .hint("take the rule out, or give it a later date"),
                );
            }
            Exemption {
                reason: doc.reason.as_ref().map(|text| text.value.to_string()),
                owner: doc.owner.as_ref().map(|text| text.value.to_string()),
                until: doc.until.as_ref().map(|until| until.value),
            }
        });
        let comment = doc.comment.as_ref().map(|text| text.value.to_string());
        self.rules.push(Rule { name, comment, exemption, modes, skip: doc.skip.is_some() });
        for (side, text) in &doc.keys {
            self.key(RuleId::new(id), *side, text.value.as_ref(), || text.place.clone());
        }
    }

    fn mode(&mut self, doc: &ModeDoc<'_>) -> ModeEntry {
        let requirement = match &doc.require {
            None => doc.requirement.clone(),
            Some(name) => {
                self.used.insert(name.value.to_string());
                match self.requirements.get(name.value.as_ref()) {
                    Some(requirement) => (*requirement).clone(),
                    None => {
                        if self.complete {
                            let known: Vec<&str> = self.requirements.keys().copied().collect();
                            let mut diagnostic = Diagnostic::error(
                                "unknown-requirement",
                                format!("no requirement is named `{}`", name.value),
                            )
                            .at(name.place.clone());
                            diagnostic.hint = Some(match nearest(&name.value, &known) {
                                Some(near) => format!("did you mean `{near}`?"),
                                None => format!("define it as [requirement.{}]", name.value),
                            });
                            self.diagnostics.push(diagnostic);
                        }
                        Requirement::default()
                    }
                }
            }
        };
        ModeEntry {
            requirement,
            from: doc.from,
            percent: doc.percent.filter(|percent| *percent < 100),
            max_delay: doc.max_delay,
        }
    }

    /// A softer mode that asks no more than a harder one beside it could never fail alone.
    fn never_alone(&mut self, name: &str, doc: &RuleDoc<'_>, modes: &Modes) {
        for (soft, place) in doc.modes.iter().map(|(mode, entry)| (*mode, &entry.place)) {
            let Some(softer) = modes.get(soft) else { continue };
            let harder = Mode::HARDEST_FIRST.into_iter().filter(|mode| *mode > soft).find(|mode| {
                modes.get(*mode).is_some_and(|harder| {
                    let from = |entry: &ModeEntry| entry.from.map_or(self.today, |from| from.max(self.today));
                    harder.requirement.implies(&softer.requirement)
                        && from(harder) <= from(softer)
                        && harder.percent.is_none()
                        && harder.max_delay.is_none()
                })
            });
            if let Some(harder) = harder
                && !softer.requirement.is_empty()
            {
                self.diagnostics.push(
                    Diagnostic::warning(
                        "never-alone",
                        format!("`{soft}` of rule `{name}` asks no more than its `{harder}`: it could never fail alone"),
                    )
                    .at(place.clone())
                    .hint("let the softer mode ask for more, to try out the next step, or take it out"),
                );
            }
        }
    }

    fn list(&mut self, list: &List<'_>) {
        if list.text.trim().is_empty() {
            self.diagnostics.push(
                Diagnostic::error("empty-list", "an empty list: it may be half-written")
                    .at(Place { file: list.file, span: 0..0 })
                    .hint("a list that is meant to have no keys has a comment: # none"),
            );
        }
        // Some editors begin a file with a byte order mark; TOML allows it, and a list does too.
        let mut start = if list.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let lines = memchr::memchr_iter(b'\n', list.text.as_bytes()).count() + 1;
        let side = self.index.side_mut(list.side);
        // A list is of names or of networks, as a rule, and its first key tells which.
        let mut keys = list.text.lines().map(|line| key_of(line).trim()).filter(|key| !key.is_empty());
        match keys.next().and_then(Network::parse) {
            Some(_) => side.reserve_networks(lines),
            None => side.reserve(lines, list.text.len()),
        }
        let rule = RuleId::new(list.rule);
        let mut plain = Vec::with_capacity(AT_ONCE);
        for line in list.text.get(start..).unwrap_or_default().split_inclusive('\n') {
            let whole = line.strip_suffix('\n').unwrap_or(line);
            let whole = whole.strip_suffix('\r').unwrap_or(whole);
            // Almost every line is a key and nothing else.
            if domain::is_plain(whole) {
                plain.push((start, whole));
                if plain.len() == AT_ONCE {
                    self.domains(list, &mut plain);
                }
            } else {
                self.domains(list, &mut plain);
                let text = key_of(whole);
                let key = text.trim();
                if !key.is_empty() {
                    let offset = start + (text.len() - text.trim_start().len());
                    let place = || Place { file: list.file, span: offset..offset + key.len() };
                    self.key(rule, list.side, key, place);
                }
            }
            start += line.len();
        }
        self.domains(list, &mut plain);
    }

    /// Adds domains that stand where it is said in a list.
    fn domains(&mut self, list: &List<'_>, names: &mut Vec<(usize, &str)>) {
        self.index.side(list.side).prepare(names.iter().map(|(_, name)| *name));
        for (start, name) in names.drain(..) {
            let place = || Place { file: list.file, span: start..start + name.len() };
            self.domain(RuleId::new(list.rule), list.side, name, place);
        }
    }

    /// Adds a domain that is in the form for comparison.
    fn domain(&mut self, rule: RuleId, side: Side, name: &str, place: impl Fn() -> Place) {
        self.single_label(side, name, &place);
        self.insert(rule, side, Key::Name(name), place);
    }

    /// Adds a key to the index.
    fn key(&mut self, rule: RuleId, side: Side, text: &str, place: impl Fn() -> Place) {
        if domain::is_plain(text) {
            return self.domain(rule, side, text, place);
        }
        let name: Cow<'_, str>;
        let key = if text == "*" {
            self.enforced_on_all(rule, side, &place);
            Key::Any
        } else {
            let written = Network::parse(text);
            match (side.is_host(), written) {
                (_, Some(Ok(written))) if text.starts_with('[') => {
                    self.host_bits(written, text, &place());
                    Key::Literal(written.network)
                }
                (true, Some(Ok(written))) => {
                    self.host_bits(written, text, &place());
                    if written.network.is_everything() {
                        self.enforced_on_all(rule, side, &place);
                    }
                    Key::Network(written.network)
                }
                (true, Some(Err(error))) => {
                    self.bad_key(text, &place(), &error.to_string(), None);
                    return;
                }
                (false, Some(Ok(_))) => {
                    let why = format!("an address or network, and `{side}` takes domains and mail addresses");
                    self.bad_key(text, &place(), &why, Some("hosts are keys of `client` or `server`"));
                    return;
                }
                _ => match name_key(side, text) {
                    Ok(found) => {
                        name = found;
                        self.single_label(side, &name, &place);
                        Key::Name(&name)
                    }
                    Err((why, hint)) => {
                        self.bad_key(text, &place(), &why, hint.as_deref());
                        return;
                    }
                },
            }
        };
        self.insert(rule, side, key, place);
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

    fn host_bits(&mut self, written: Written, text: &str, place: &Place) {
        if written.host_bits {
            self.diagnostics.push(
                Diagnostic::warning("host-bits", format!("`{text}` has bits set behind its prefix"))
                    .at(place.clone())
                    .hint(format!("it is taken as {}", written.network)),
            );
        }
    }

    fn bad_key(&mut self, text: &str, place: &Place, why: &str, hint: Option<&str>) {
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

/// What stands before a line's comment.
fn key_of(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// A key as a message shows it: a line of a binary file is long.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}
