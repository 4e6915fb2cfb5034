//! From sendmail's TLS rules to a policy that decides as they do.
//!
//! Promises: every TLS_* line is in the policy or, as a comment that says why, beside it; what the policy
//! decides is what sendmail's rulesets answer, in verdict, class of code and words (`docs/guide.md` lists the
//! exceptions, which are told as diagnostics too). Must not: read what a line was meant for.

use super::access_map::{Content, IssuerTags, Line, Matches, Refused, Rule, lines, tag_at_start};
use super::block;
use super::lint::faults;
use super::lower::{Lowered, lower};
use super::rhs::{ExtensionDemand, Prefix, Value, parse};
use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place, Severity};
use crate::policy::reply::MAX_RULE_NAME;
use crate::policy::requirement::{Attribute, Requirement, Wanted};
use crate::policy::rule::{Mode, Side};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use toml_writer::TomlStringBuilder;

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

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// The policy, as TOML.
    pub policy: String,
    /// How many lines are TLS rules.
    pub rules: usize,
    /// How many of them are in the policy.
    pub taken: usize,
    /// Whether the policy decides otherwise than sendmail somewhere.
    pub inexact: bool,
}

/// Makes a policy of a map's text, which is this file of the diagnostics. `name` is what the text is called.
pub fn import(text: &str, file: FileId, name: &str, options: Options, told: &mut Diagnostics) -> Imported {
    let mut import = Import {
        file,
        options,
        told,
        tags: IssuerTags::collect(text, wanted_tags(text)),
        seen: HashSet::new(),
        items: Vec::new(),
        groups: Vec::new(),
        by_body: HashMap::new(),
        names: HashMap::new(),
        sides: Vec::new(),
        defaults: Vec::new(),
        rules: 0,
        taken: 0,
        inexact: false,
    };
    let mut comments = Comments::default();
    for line in lines(text) {
        match &line.content {
            Content::Rule(rule) => import.rule(text, &line, rule, comments.of_rule()),
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
    let policy = import.write(name);
    Imported { policy, rules: import.rules, taken: import.taken, inexact: import.inexact }
}

/// The tags that `CITag` extensions name, in lower case.
fn wanted_tags(text: &str) -> Vec<String> {
    let tag = |extension: ExtensionDemand| match extension {
        ExtensionDemand::IssuerTag(tag) => Some(tag.to_ascii_lowercase()),
        _ => None,
    };
    lines(text)
        .filter_map(|line| match line.content {
            Content::Rule(rule) => match parse(rule.value) {
                Value::Demand(demand) => Some(demand.extensions),
                _ => None,
            },
            _ => None,
        })
        .flatten()
        .filter_map(|extension| tag(extension.demand))
        .collect()
}

/// The comment lines that stand above a rule, or above the rules that follow each other.
#[derive(Default)]
struct Comments {
    lines: Vec<String>,
    /// Whether the next comment line begins anew.
    over: bool,
}

impl Comments {
    fn add(&mut self, comment: &str) {
        if std::mem::take(&mut self.over) {
            self.lines.clear();
        }
        let comment = clean(comment.trim());
        if !comment.is_empty() {
            self.lines.push(comment);
        }
    }

    /// A rule has them; those that follow at once have them too.
    fn of_rule(&mut self) -> String {
        self.over = true;
        self.lines.join("\n")
    }

    /// A blank line ends what the comment stands above, unless there was nothing yet.
    fn end(&mut self) {
        if self.over {
            self.lines.clear();
        }
    }
}

/// Text for a comment or a string: TOML has no control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What stands in the policy, in order.
enum Item {
    /// The rule at this place.
    Group(usize),
    /// A line that is no part of it, as comment lines.
    Left(String),
}

/// The lines of one requirement: a rule to be.
struct Group {
    name: String,
    /// `soft-fail = { min-bits = 168 }`
    body: String,
    keys: Vec<Key>,
}

struct Key {
    side: Side,
    text: String,
    line: usize,
    comment: String,
    /// What is to be known of this line.
    notes: Vec<String>,
}

struct Import<'i, 't> {
    file: FileId,
    options: Options,
    told: &'i mut Diagnostics,
    tags: IssuerTags<'t>,
    /// Tags and keys that makemap has.
    seen: HashSet<(Side, String)>,
    items: Vec<Item>,
    groups: Vec<Group>,
    /// By whether it stands in no line, and by body.
    by_body: HashMap<(bool, String), usize>,
    /// The names that rules have, each with the last number that was put behind it.
    names: HashMap<String, usize>,
    /// The sides that have rules, and those that have a default.
    sides: Vec<Side>,
    defaults: Vec<Side>,
    rules: usize,
    taken: usize,
    inexact: bool,
}

impl Import<'_, '_> {
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
        self.items.push(Item::Left(format!("# line {}, not imported: {why}\n#     {whole}\n", line.number)));
    }

    /// A line that makemap does not take, or whose tag is a slip of the pen.
    fn ignored(&mut self, text: &str, line: &Line<'_>) {
        let faults = faults::of_line(self.file, text, line);
        let Some(fault) = faults.first() else { return };
        let why = fault.message.clone();
        // What is too long is perhaps no rule.
        let too_long = line.content == Content::Refused(Refused::TooLong);
        let whole = text.get(line.span.clone()).unwrap_or_default();
        self.rules += usize::from(!too_long || tag_at_start(whole).is_some());
        self.tell(faults);
        self.leave(text, line, &why);
    }

    fn rule(&mut self, text: &str, line: &Line<'_>, rule: &Rule<'_>, comment: String) {
        self.rules += 1;
        if !self.sides.contains(&rule.side) {
            self.sides.push(rule.side);
        }
        if !self.seen.insert((rule.side, rule.key.to_ascii_lowercase())) {
            let why = "makemap keeps the first of two lines with one key";
            let place = Place { file: self.file, span: rule.key_span.clone() };
            self.tell(vec![Diagnostic::warning("duplicate-key", why).at(place)]);
            return self.leave(text, line, why);
        }
        let value = parse(rule.value);
        let mut faults = faults::of_rule(self.file, rule, &value);
        let key = match &rule.matches {
            Matches::Default => {
                self.defaults.push(rule.side);
                "*".to_owned()
            }
            Matches::Name(name) => name.clone(),
            Matches::Network(network) => network.to_string(),
            Matches::Literal(network) => format!("[{network}]"),
            Matches::Nothing(dead) => {
                self.tell(faults);
                return self.leave(text, line, &format!("never matches: {}", dead.words()));
            }
        };
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
                self.inexact |= !exact;
                let mode = self.options.mode(demand.prefix);
                let prefix = if demand.prefix == Prefix::Perm { "perm-" } else { "" };
                let name = format!("{prefix}{}", name_of(&requirement));
                (name, format!("{mode} = {}\n", inline(&requirement)), notes)
            }
        };
        // What sendmail accepts without a word is the rule's reason already.
        let of_faults = of_faults.into_iter().chain(notes).collect();
        self.tell(faults);
        self.taken += 1;
        self.add(
            &name,
            body,
            Key { side: rule.side, text: key, line: line.number, comment, notes: of_faults },
        );
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
                let key =
                    Key { side, text: "*".to_owned(), line: 0, comment: String::new(), notes: Vec::new() };
                self.add("handshake", body, key);
            }
        }
    }

    fn add(&mut self, name: &str, body: String, key: Key) {
        // What no line says is a rule of its own.
        let kind = (key.line == 0, body);
        let place = match self.by_body.get(&kind) {
            Some(place) => *place,
            None => {
                let place = self.groups.len();
                let name = self.unique(name);
                self.groups.push(Group { name, body: kind.1.clone(), keys: Vec::new() });
                self.by_body.insert(kind, place);
                self.items.push(Item::Group(place));
                place
            }
        };
        if let Some(group) = self.groups.get_mut(place) {
            group.keys.push(key);
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

    fn write(&self, name: &str) -> String {
        let mut out = format!(
            "# The TLS rules of {}: {} of {}, by `encr-milter access import`.\n\nversion = 1\n",
            clean(name),
            self.taken,
            self.rules
        );
        out.push_str(EXEMPT);
        for item in &self.items {
            out.push('\n');
            match item {
                Item::Left(comment) => out.push_str(comment),
                Item::Group(place) => {
                    if let Some(group) = self.groups.get(*place) {
                        group.write(&mut out);
                    }
                }
            }
        }
        out
    }
}

/// So many characters are shown of a line that is too long for makemap.
const MAX_LEFT: usize = 200;

const EXEMPT: &str = "
# sendmail's rules hold for everyone: for clients that have authenticated, for this host itself, for mail to
# postmaster. encr-milter's own defaults are milder; without this section they hold.
[exempt]
authenticated = false
networks = []
recipients = []
";

impl Group {
    fn write(&self, out: &mut String) {
        let mut comments: Vec<&str> = Vec::new();
        let mut known = HashSet::new();
        for key in &self.keys {
            if !key.comment.is_empty() && known.insert(key.comment.as_str()) {
                comments.push(&key.comment);
            }
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "[[rule]]\nname = {}", quoted(&self.name));
        if self.name == "handshake" {
            out.push_str(
                "comment = \"sendmail refuses a session whose handshake failed, with a rule or without\"\n",
            );
        } else if !comments.is_empty() {
            let _ = writeln!(out, "comment = {}", quoted(&comments.join("\n")));
        }
        for side in Side::ALL {
            let keys: Vec<&Key> = self.keys.iter().filter(|key| key.side == side).collect();
            match keys.as_slice() {
                [] => {}
                [key] if key.line == 0 => {
                    let _ = writeln!(out, "{side} = [{}]", quoted(&key.text));
                }
                [key] if key.notes.is_empty() && comments.len() < 2 => {
                    let _ = writeln!(out, "{side} = [{}] # line {}", quoted(&key.text), key.line);
                }
                keys => {
                    let _ = writeln!(out, "{side} = [");
                    let mut comment = "";
                    for key in keys {
                        if comments.len() > 1 && key.comment != comment {
                            comment = &key.comment;
                            for line in comment.lines() {
                                let _ = writeln!(out, "    # {line}");
                            }
                        }
                        for note in &key.notes {
                            let _ = writeln!(out, "    # {}", clean(note));
                        }
                        let _ = writeln!(out, "    {}, # line {}", quoted(&key.text), key.line);
                    }
                    out.push_str("]\n");
                }
            }
        }
        out.push_str(&self.body);
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    use toml_writer::TomlWrite;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = out.value(TomlStringBuilder::new(text).as_basic());
    out
}

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
