//! From sendmail's TLS rules to a policy that decides as they do.
//!
//! Promises: every TLS_* line is in the policy or, as a comment that says why, beside it; what the policy
//! decides is what sendmail's rulesets answer, in verdict, class of code and words (`docs/guide.md` lists the
//! exceptions, which are told as diagnostics too). Must not: read what a line was meant for.

mod output;

use super::access_map::{Content, IssuerTags, Line, Matches, Refused, Rule, lines, tag_at_start};
use super::block;
use super::keys::{Chain, CommentId, KeyId, Keys};
use super::lint::faults;
use super::lower::{Lowered, lower};
use super::rhs::{ExtensionDemand, Prefix, Value, parse};
use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place, Severity};
use crate::policy::reply::MAX_RULE_NAME;
use crate::policy::requirement::{Attribute, Requirement, Wanted};
use crate::policy::rule::{Mode, Side};
pub use output::Imported;
use output::{Group, Item, clean, quoted};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// How the rules are to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// sendmail.mc defines `TLS_PERM_ERR`: rules without a prefix refuse for good.
    pub tls_perm_err: bool,
    /// FEATURE(`access_db') is without `skip`: SKIP is no word, and accepted as any other.
    pub no_skip: bool,
    /// Every rule in this mode, whatever its prefix.
    pub mode: Option<Mode>,
}

impl Options {
    fn mode(self, prefix: Prefix) -> Mode {
        self.mode.unwrap_or(match prefix {
            Prefix::Perm => Mode::Enforce,
            Prefix::Bare if self.tls_perm_err => Mode::Enforce,
            Prefix::Bare | Prefix::Temp => Mode::SoftFail,
        })
    }
}

/// Of so many right-hand sides it is remembered what they come to: a map of a million lines has few.
const REMEMBERED: usize = 10_000;

/// Makes a policy of a map's text, which is this file of the diagnostics. `name` is what the text is called.
pub fn import<'t>(
    text: &'t str,
    file: FileId,
    name: &str,
    options: Options,
    told: &mut Diagnostics,
) -> Imported<'t> {
    let mut import = Import {
        file,
        options,
        told,
        tags: IssuerTags::collect(text, wanted_tags(text)),
        by_body: HashMap::new(),
        by_value: HashMap::new(),
        names: HashMap::new(),
        sides: Vec::new(),
        defaults: Vec::new(),
        made: Imported {
            name: name.to_owned(),
            rules: 0,
            taken: 0,
            inexact: false,
            items: Vec::new(),
            groups: Vec::new(),
            keys: Keys::of(text),
            notes: HashMap::new(),
            comments: Vec::new(),
        },
    };
    let mut comments = Comments::default();
    for line in lines(text) {
        match &line.content {
            Content::Rule(rule) => {
                let comment = comments.of_rule(&mut import.made.comments);
                import.rule(text, &line, rule, comment);
            }
            Content::Refused(_) => import.ignored(text, &line),
            Content::Comment(_)
                if block::delimits(text.as_bytes().get(line.span.clone()).unwrap_or_default()) =>
            {
                comments = Comments::default();
            }
            Content::Comment(comment) => comments.add(comment),
            Content::Blank => comments.end(),
            Content::Other { key, .. } => {
                comments = Comments::default();
                if !import.tags.has(key) {
                    import.ignored(text, &line);
                }
            }
        }
    }
    import.handshake();
    import.made
}

/// The tags that `CITag` extensions name, in lower case.
fn wanted_tags(text: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut seen = HashSet::new();
    for line in lines(text) {
        let Content::Rule(rule) = line.content else { continue };
        if seen.contains(rule.value) {
            continue;
        }
        if seen.len() < REMEMBERED {
            seen.insert(rule.value);
        }
        let Value::Demand(demand) = parse(rule.value) else { continue };
        for extension in demand.extensions {
            if let ExtensionDemand::IssuerTag(tag) = extension.demand {
                tags.push(tag.to_ascii_lowercase());
            }
        }
    }
    tags
}

/// The comment lines that stand above a rule, or above the rules that follow each other.
#[derive(Default)]
struct Comments {
    lines: Vec<String>,
    /// Whether the next comment line begins anew.
    over: bool,
    /// As it has been given to a rule.
    id: Option<CommentId>,
}

impl Comments {
    fn add(&mut self, comment: &str) {
        self.id = None;
        if std::mem::take(&mut self.over) {
            self.lines.clear();
        }
        let comment = clean(comment.trim());
        if !comment.is_empty() {
            self.lines.push(comment);
        }
    }

    /// A rule has them; those that follow at once have them too.
    fn of_rule(&mut self, all: &mut Vec<String>) -> Option<CommentId> {
        self.over = true;
        if self.id.is_none() && !self.lines.is_empty() {
            self.id = CommentId::try_from(all.len()).ok();
            all.push(self.lines.join("\n"));
        }
        self.id
    }

    /// A blank line ends what the comment stands above, unless there was nothing yet.
    fn end(&mut self) {
        if self.over {
            self.lines.clear();
            self.id = None;
        }
    }
}

struct Import<'i, 't> {
    file: FileId,
    options: Options,
    told: &'i mut Diagnostics,
    tags: IssuerTags<'t>,
    /// By whether it stands in no line, and by body.
    by_body: HashMap<(bool, String), usize>,
    /// By right-hand side, where nothing is to be told of it.
    by_value: HashMap<&'t str, usize>,
    /// The names that rules have, each with the last number that was put behind it.
    names: HashMap<String, usize>,
    /// The sides that have rules, and those that have a default.
    sides: Vec<Side>,
    defaults: Vec<Side>,
    made: Imported<'t>,
}

impl<'t> Import<'_, 't> {
    /// Tells what `lint` finds: here nothing is refused for it.
    fn tell(&mut self, faults: Vec<Diagnostic>) {
        for fault in faults {
            self.told.push(Diagnostic { severity: Severity::Warning, ..fault });
        }
    }

    /// A line that is no part of the policy stands in it as a comment.
    fn leave(&mut self, text: &str, line: &Line<'_>, why: &str) {
        let mut whole = clean(text.get(line.span.clone()).unwrap_or_default());
        if line.content == Content::Refused(Refused::TooLong)
            && let Some((end, _)) = whole.char_indices().nth(MAX_LEFT)
        {
            whole.truncate(end);
            whole.push('…');
        }
        self.made
            .items
            .push(Item::Left(format!("# line {}, not imported: {why}\n#     {whole}\n", line.number)));
    }

    /// A line that makemap does not take, or whose tag is a slip of the pen.
    fn ignored(&mut self, text: &str, line: &Line<'_>) {
        let faults = faults::of_line(self.file, text, line);
        let Some(fault) = faults.first() else { return };
        let why = fault.message.clone();
        // What is too long is perhaps no rule.
        let too_long = line.content == Content::Refused(Refused::TooLong);
        let whole = text.get(line.span.clone()).unwrap_or_default();
        self.made.rules += usize::from(!too_long || tag_at_start(whole).is_some());
        self.tell(faults);
        self.leave(text, line, &why);
    }

    fn rule(&mut self, text: &str, line: &Line<'_>, rule: &Rule<'t>, comment: Option<CommentId>) {
        self.made.rules += 1;
        if !self.sides.contains(&rule.side) {
            self.sides.push(rule.side);
        }
        let Ok(key) = self.made.keys.add(rule.side, rule.key_span.clone(), line.number, comment) else {
            let why = "makemap keeps the first of two lines with one key";
            let place = Place { file: self.file, span: rule.key_span.clone() };
            self.tell(vec![Diagnostic::warning("duplicate-key", why).at(place)]);
            return self.leave(text, line, why);
        };
        let matches_something = match &rule.matches {
            Matches::Default => {
                self.defaults.push(rule.side);
                true
            }
            Matches::Name(_) | Matches::Network(_) | Matches::Literal(_) => true,
            Matches::Nothing(_) => false,
        };
        if matches_something && let Some(place) = self.by_value.get(rule.value).copied() {
            self.made.taken += 1;
            return self.put(place, key);
        }
        let value = parse(rule.value);
        let mut faults = faults::of_rule(self.file, rule, &value);
        if let Matches::Nothing(dead) = &rule.matches {
            self.tell(faults);
            return self.leave(text, line, &format!("never matches: {}", dead.words()));
        }
        let said = |fault: &&Diagnostic| fault.code != "silently-accepted";
        let of_faults: Vec<String> = faults.iter().filter(said).map(|fault| fault.message.clone()).collect();
        let (name, body, notes) = match &value {
            Value::Ok => self.exemption("ok", "OK in the access map", Prefix::Bare),
            Value::Skip if faults::cannot_skip(rule).is_none() && !self.options.no_skip => {
                ("skip".to_owned(), "skip = true\n".to_owned(), Vec::new())
            }
            Value::Skip => self.exemption("accepts-skip", "sendmail accepts `SKIP` here", Prefix::Bare),
            Value::Accepted(accepted) => {
                let written = clean(rule.value.trim());
                let reason = format!("sendmail accepts `{written}` silently: {}", accepted.why.words());
                self.exemption(&format!("accepts-{}", slug(&written)), &reason, accepted.prefix)
            }
            Value::Demand(demand) => {
                let Lowered { requirement, note, exact } = lower(demand, &self.tags);
                let notes = note.clone().into_iter().collect();
                if let Some(note) = note.as_ref().filter(|_| !exact || faults.is_empty()) {
                    let span = rule.value_start..rule.value_start + rule.value.trim_end().len();
                    let code = if exact { "differs" } else { "inexact" };
                    faults.push(Diagnostic::warning(code, note).at(Place { file: self.file, span }));
                }
                self.made.inexact |= !exact;
                let mode = self.options.mode(demand.prefix);
                let prefix = if demand.prefix == Prefix::Perm { "perm-" } else { "" };
                let name = format!("{prefix}{}", name_of(&requirement));
                (name, format!("{mode} = {}\n", inline(&requirement)), notes)
            }
        };
        // What sendmail accepts without a word is the rule's reason already.
        let notes: Vec<String> = of_faults.into_iter().chain(notes).collect();
        // The faults of a demand are those of its right-hand side: what has none has none at another key.
        let sound = faults.is_empty() && notes.is_empty() && matches!(value, Value::Demand(_));
        self.tell(faults);
        self.made.taken += 1;
        let place = self.group(&name, (false, body));
        self.put(place, key);
        if !notes.is_empty() {
            self.made.notes.insert(key, notes);
        } else if sound && self.by_value.len() < REMEMBERED {
            self.by_value.insert(rule.value, place);
        }
    }

    /// An exemption, but not from what sendmail exempts nobody from.
    fn exemption(&self, name: &str, reason: &str, prefix: Prefix) -> (String, String, Vec<String>) {
        let mode = self.options.mode(prefix);
        let body = format!("exempt = {{ reason = {} }}\n{mode} = {{ handshake = true }}\n", quoted(reason));
        (name.to_owned(), body, Vec::new())
    }

    /// sendmail refuses a session whose handshake failed, rule or no rule: `tls_client` and `tls_server` do so
    /// by default, `tls_rcpt` only where it has a rule.
    fn handshake(&mut self) {
        let only_recipients = self.sides == [Side::RecipientOutbound];
        for side in [Side::Client, Side::Server] {
            let silent = side == Side::Server && only_recipients;
            if !silent && !self.defaults.contains(&side) {
                let body = format!("{} = {{ handshake = true }}\n", self.options.mode(Prefix::Bare));
                let place = self.group("handshake", (true, body));
                let key = self.made.keys.unwritten(side);
                self.put(place, key);
            }
        }
    }

    /// The rule of a body. What no line says is a rule of its own.
    fn group(&mut self, name: &str, kind: (bool, String)) -> usize {
        if let Some(place) = self.by_body.get(&kind) {
            return *place;
        }
        let place = self.made.groups.len();
        let name = self.unique(name);
        self.made.groups.push(Group { name, body: kind.1.clone(), keys: Chain::default() });
        self.by_body.insert(kind, place);
        self.made.items.push(Item::Group(place));
        place
    }

    fn put(&mut self, place: usize, key: KeyId) {
        if let Some(group) = self.made.groups.get_mut(place) {
            self.made.keys.link(&mut group.keys, key);
        }
    }

    /// A rule's name is unique.
    fn unique(&mut self, name: &str) -> String {
        let mut numbered = name.to_owned();
        while self.names.contains_key(&numbered) {
            let last = self.names.entry(name.to_owned()).or_insert(1);
            *last += 1;
            numbered = format!("{name}-{last}");
        }
        self.names.insert(numbered.clone(), 1);
        numbered
    }
}

/// So many characters are shown of a line that is too long for makemap.
const MAX_LEFT: usize = 200;

/// A requirement as an inline table, its names in the order in which they are demanded.
fn inline(requirement: &Requirement) -> String {
    let mut parts = Vec::new();
    if requirement.handshake {
        parts.push("handshake = true".to_owned());
    }
    parts.extend(requirement.min_bits.map(|bits| format!("min-bits = {bits}")));
    if requirement.verify {
        parts.push("verify = true".to_owned());
    }
    parts.extend(requirement.certificate.iter().map(|name| {
        let value = match &name.wanted {
            Wanted::OfPeer => "true".to_owned(),
            Wanted::Is(name) => quoted(name),
            Wanted::OneOf(names) => {
                format!("[{}]", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{} = {value}", name.attribute.field())
    }));
    format!("{{ {} }}", parts.join(", "))
}

/// A rule's name that says what it demands: `encr-168`, `verify-112-cn`.
fn name_of(requirement: &Requirement) -> String {
    let mut name = String::from(if requirement.verify { "verify" } else { "encr" });
    if let Some(bits) = requirement.min_bits {
        let _ = write!(name, "-{bits}");
    } else if !requirement.verify {
        name.push_str("-0");
    }
    for demand in &requirement.certificate {
        name.push_str(match demand.attribute {
            Attribute::CommonName => "-cn",
            Attribute::Subject => "-cs",
            Attribute::Issuer => "-ci",
        });
        if let Wanted::Is(wanted) = &demand.wanted
            && demand.attribute == Attribute::CommonName
        {
            let _ = write!(name, "-{}", slug(wanted));
        }
    }
    name.chars().take(MAX_RULE_NAME - 8).collect()
}

/// What of a text may stand in a name.
fn slug(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let dashed: String = text.chars().map(kept).take(40).collect();
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests;
