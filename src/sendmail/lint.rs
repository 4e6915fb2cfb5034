//! What is wrong with the TLS rules of an access map, and what is odd.
//!
//! Two layers: [`faults`] are those of one line, whatever else the file says; here is what takes the whole
//! file (duplicates, tags of issuers, names that go before addresses), and the advice of [`advice`].
//!
//! Promises: what is told is what sendmail does, and each hint what to write instead; in the order of the
//! lines, in time and room proportional to them. Lines of other tags are left alone. Must not: read files,
//! or judge by what sendmail.mc might say; where that matters, the message names it.

pub mod faults;

mod advice;
mod keys;
mod tags;

use super::access_map::{Content, Line, Matches, Rule, lines, tag_of};
use super::keys::Keys;
use super::rhs::{self, Demand, ExtensionDemand, Prefix, Value};
use super::tokens::{joined, prescan};
use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place};
use crate::policy::network::Network;
use crate::policy::rule::Side;
use faults::At;
pub(in crate::sendmail) use faults::shown;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What was found in a file.
#[derive(Debug)]
pub struct Findings {
    /// All that is wrong or odd.
    pub diagnostics: Diagnostics,
    /// How many TLS rules the file has.
    pub rules: usize,
}

/// Examines the text of an access map.
pub fn lint(text: &str, file: FileId) -> Findings {
    let survey = Survey::of(text);
    let mut pass = Pass { text, file, survey: &survey, keys: Keys::of(text), told: HashSet::new() };
    let mut findings = Findings { rules: survey.rules, diagnostics: Diagnostics::up_to(super::MAX_SHOWN) };
    for line in lines(text) {
        let mut found = pass.line(&line);
        found.sort_by_key(|diagnostic| diagnostic.place.as_ref().map(|place| place.span.start));
        for diagnostic in found {
            findings.diagnostics.push(diagnostic);
        }
    }
    findings
}

/// What a rule says, in a form to compare: sendmail's tokens, in lower case. Whatever sendmail accepts is `ok`.
fn said_by(rule: &Rule<'_>, value: &Value) -> String {
    match value {
        Value::Ok | Value::Accepted(_) => "ok".to_owned(),
        Value::Skip => "skip".to_owned(),
        Value::Demand(_) => joined(&prescan(rule.value)).to_ascii_lowercase(),
    }
}

/// What a rule demands, in a form to compare: what it says but for the reply's code.
fn demand_of(rule: &Rule<'_>, value: &Value) -> String {
    let said = said_by(rule, value);
    let demand = said.strip_prefix("temp+").or_else(|| said.strip_prefix("perm+"));
    demand.map(str::to_owned).unwrap_or(said)
}

/// The tags that the extensions of a rule name.
fn issuer_tags(demand: &Demand) -> impl Iterator<Item = (&str, &rhs::Extension)> {
    demand.extensions.iter().filter_map(|extension| match &extension.demand {
        ExtensionDemand::IssuerTag(tag) => Some((tag.as_str(), extension)),
        _ => None,
    })
}

/// What holds for many rules of a file alike. What is of the file's manner rather than of a rule is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Habit {
    Blanks,
    Skip,
    Temp,
    ClientCertificate,
}

impl Habit {
    /// Those of a rule.
    fn of(rule: &Rule<'_>, value: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        if !rule.separator.contains('\t') {
            found.push(Self::Blanks);
        }
        match value {
            Value::Skip if faults::cannot_skip(rule).is_none() => found.push(Self::Skip),
            Value::Demand(demand) => {
                if demand.prefix == Prefix::Temp {
                    found.push(Self::Temp);
                }
                if rule.side == Side::Client && (demand.verify || !demand.extensions.is_empty()) {
                    found.push(Self::ClientCertificate);
                }
            }
            Value::Ok | Value::Skip | Value::Accepted(_) => {}
        }
        found
    }

    fn diagnostic(self, at: &At<'_>, value: &Value) -> Diagnostic {
        match self {
            Self::Blanks => Diagnostic::warning(
                "blank-separator",
                "blanks separate the key from its value, not a tab",
            )
            .at(at.separator())
            .hint(
                "makemap takes both; sendmail's documentation and other tools that read the file want tabs",
            ),
            Self::Skip => Diagnostic::warning(
                "skip-feature",
                "`SKIP` needs FEATURE(`access_db', …, `skip'), as Debian's sendmail.mc has it",
            )
            .at(at.value(0..at.rule.value.trim_end().len()))
            .hint("without it sendmail takes `SKIP` for `OK`, and accepts without a word"),
            Self::Temp => {
                let span = match value {
                    Value::Demand(demand) => demand.prefix_span.clone(),
                    _ => 0..0,
                };
                Diagnostic::warning("temp-prefix", "`TEMP+` replies `403 4.7.0`, and 403 is no code of RFC 5321")
                    .at(at.value(span))
                    .hint("senders take it as any 4xx, and try again until they give up; without a prefix the reply is `454 4.7.0` (unless sendmail.mc defines TLS_PERM_ERR)")
            }
            Self::ClientCertificate => {
                let span = match value {
                    Value::Demand(demand) if demand.verify => demand.span.clone(),
                    Value::Demand(demand) => {
                        demand.extensions.first().map_or(0..0, |first| first.span.clone())
                    }
                    _ => 0..0,
                };
                Diagnostic::warning("client-certificate", "this wants a certificate of a client, and few clients present one")
                    .at(at.value(span))
                    .hint("sendmail asks for one only where it has a CA (confCACERT, confCACERT_PATH) and TLSSrvOptions is without `V`; else everyone is refused here")
            }
        }
    }
}

/// The rules for names of one side.
#[derive(Debug, Default)]
struct Names<'t> {
    total: usize,
    by_demand: HashMap<String, usize>,
    /// At most three of each demand: whichever demand is left out, three remain where there are three.
    examples: Vec<(&'t str, String)>,
}

/// What has to be known of the whole file before a line can be judged.
#[derive(Debug, Default)]
struct Survey<'t> {
    rules: usize,
    habits: BTreeMap<Habit, usize>,
    names: BTreeMap<Side, Names<'t>>,
    /// The tags that `CITag` names, and whether they have a line `tag:issuer OK`.
    issuer_tags: HashMap<String, bool>,
}

impl<'t> Survey<'t> {
    fn of(text: &'t str) -> Self {
        let mut survey = Self::default();
        for line in lines(text) {
            if let Content::Rule(rule) = line.content {
                survey.rule(&rule);
            }
        }
        if !survey.issuer_tags.is_empty() {
            for line in lines(text) {
                if let Content::Other { key, value } = line.content
                    && matches!(rhs::parse(value), Value::Ok)
                    && let Some(has) = key
                        .split_once(':')
                        .and_then(|(tag, _)| survey.issuer_tags.get_mut(&tag.to_ascii_lowercase()))
                {
                    *has = true;
                }
            }
        }
        survey
    }

    fn rule(&mut self, rule: &Rule<'t>) {
        self.rules += 1;
        let value = rhs::parse(rule.value);
        for habit in Habit::of(rule, &value) {
            *self.habits.entry(habit).or_default() += 1;
        }
        if let Value::Demand(demand) = &value {
            self.issuer_tags.extend(issuer_tags(demand).map(|(tag, _)| (tag.to_ascii_lowercase(), false)));
        }
        // A name that skips leaves the address its say.
        if rule.side.is_host() && matches!(rule.matches, Matches::Name(_)) && value != Value::Skip {
            let names = self.names.entry(rule.side).or_default();
            let demand = demand_of(rule, &value);
            names.total += 1;
            if names.examples.len() < 6
                && names.examples.iter().filter(|(_, other)| *other == demand).count() < 3
            {
                names.examples.push((rule.key, demand.clone()));
            }
            *names.by_demand.entry(demand).or_default() += 1;
        }
    }
}

/// The pass that tells.
struct Pass<'t, 's> {
    text: &'t str,
    file: FileId,
    survey: &'s Survey<'t>,
    /// Where each key stands first.
    keys: Keys<'t>,
    told: HashSet<Habit>,
}

impl<'t> Pass<'t, '_> {
    fn line(&mut self, line: &Line<'t>) -> Vec<Diagnostic> {
        match &line.content {
            Content::Rule(rule) => {
                let value = rhs::parse(rule.value);
                let mut found = faults::of_rule(self.file, rule, &value);
                found.extend(self.duplicate(line.number, rule, &value));
                // A slip of the tag is all that can be said of its line.
                if faults::blank_behind_tag(rule, &value).is_none() {
                    self.issuers(rule, &value, &mut found);
                    found.extend(self.after_names(rule, &value));
                    found.extend(advice::of_rule(self.file, rule, &value));
                    self.habits(rule, &value, &mut found);
                }
                found
            }
            Content::Refused(_) => faults::of_line(self.file, self.text, line),
            Content::Other { key, value } => {
                let tags = &self.survey.issuer_tags;
                let is_issuer = |tag: &str| !tags.is_empty() && tags.contains_key(&tag.to_ascii_lowercase());
                match key.split_once(':') {
                    Some((tag, _)) if is_issuer(tag) => self.issuer(line, key, value).into_iter().collect(),
                    _ => faults::of_line(self.file, self.text, line),
                }
            }
            Content::Blank | Content::Comment(_) => Vec::new(),
        }
    }

    /// The right-hand side of the rule whose key stands there.
    fn value_at(&self, start: usize) -> Option<&'t str> {
        let (before, _) = self.text.split_at_checked(start)?;
        let line = self.text.get(before.rfind('\n').map_or(0, |end| end + 1)..)?;
        match lines(line).next()?.content {
            Content::Rule(rule) => Some(rule.value),
            _ => None,
        }
    }

    fn duplicate(&mut self, number: usize, rule: &Rule<'t>, value: &Value) -> Option<Diagnostic> {
        let first = self.keys.add(rule.side, rule.key_span.clone(), number, None).err()?;
        let (first, other) =
            self.keys.get(first).and_then(|first| Some((first.line, self.value_at(first.start)?)))?;
        let at = At { file: self.file, rule };
        let key = format!("`{}:{}`", tag_of(rule.side).unwrap_or_default(), shown(rule.key));
        let same = other.trim_end().eq_ignore_ascii_case(rule.value.trim_end())
            || demand_of(&Rule { value: other, ..rule.clone() }, &rhs::parse(other))
                == demand_of(rule, value);
        let message =
            format!("{key} stands at line {first} already{}", if same { "" } else { ", with another value" });
        let diagnostic = if same {
            Diagnostic::warning("duplicate-key", message)
        } else {
            Diagnostic::error("duplicate-key", message)
        };
        Some(
            diagnostic
                .at(at.tag_and_key())
                .hint("makemap keeps the first of them, complains, and exits with 65: let one go"),
        )
    }

    fn issuers(&self, rule: &Rule<'_>, value: &Value, found: &mut Vec<Diagnostic>) {
        let Value::Demand(demand) = value else { return };
        for (tag, extension) in issuer_tags(demand) {
            if self.survey.issuer_tags.get(&tag.to_ascii_lowercase()) == Some(&false) {
                found.push(
                    Diagnostic::error(
                        "no-issuers",
                        format!(
                            "no line `{}:issuer` with `OK` is in this file: everyone is refused",
                            shown(tag)
                        ),
                    )
                    .at(At { file: self.file, rule }.value(extension.span.clone()))
                    .hint(format!(
                        "give the issuers a line each, in xtext: `{}:/C=DE/O=Some+20CA`, a tab, `OK`",
                        shown(tag)
                    )),
                );
            }
        }
    }

    /// A line of issuers, `tag:issuer`.
    fn issuer(&self, line: &Line<'_>, key: &str, value: &str) -> Option<Diagnostic> {
        let (_, issuer) = key.split_once(':')?;
        let whole = self.text.get(line.span.clone()).unwrap_or_default();
        let start = line.span.start + whole.len() - whole.trim_start().len();
        let value_start = line.span.start + whole.rfind(value).unwrap_or_default();
        if !rhs::can_match(issuer) {
            return Some(
                Diagnostic::error(
                    "unmatchable-name",
                    format!("no issuer is ever called `{}`", shown(issuer)),
                )
                .at(Place { file: self.file, span: start..start + key.len() })
                .hint("write it as sendmail tells it, in xtext: a blank is `+20`"),
            );
        }
        (rhs::parse(value) != Value::Ok).then(|| {
            Diagnostic::warning(
                "issuer-value",
                format!("an issuer with `{}` is accepted all the same, and what stands behind the CITag is not looked at", shown(value.trim_end())),
            )
            .at(Place { file: self.file, span: value_start..value_start + value.trim_end().len() })
            .hint("write `OK` for an issuer that is trusted (a blank in its name is `+20`), and no line for one that is not")
        })
    }

    /// A rule for an address that rules for names go before.
    fn after_names(&self, rule: &Rule<'_>, value: &Value) -> Option<Diagnostic> {
        let Matches::Network(network) = &rule.matches else { return None };
        let names = self.survey.names.get(&rule.side)?;
        // What comes from the machine itself has its own name.
        let loopback = rule.key == "127" || rule.key.starts_with("127.") || *network == Network::LOOPBACK_V6;
        if loopback || *value == Value::Skip {
            return None;
        }
        let demand = demand_of(rule, value);
        let others = names.total - names.by_demand.get(&demand).copied().unwrap_or(0);
        let examples: Vec<String> = names
            .examples
            .iter()
            .filter(|(_, other)| *other != demand)
            .take(3)
            .map(|(name, _)| format!("`{}`", shown(name)))
            .collect();
        let more = if others > examples.len() { " …" } else { "" };
        let (rules, go) = if others == 1 { ("rule for a name", "goes") } else { ("rules for names", "go") };
        let peer = if rule.side == Side::Client { "client" } else { "server" };
        (others > 0).then(|| {
            let examples = examples.join(", ");
            Diagnostic::warning(
                "names-first",
                format!("{others} {rules} with another demand {go} before this one: {examples}{more}"),
            )
            .at(At { file: self.file, rule }.key())
            .label(format!("a {peer} here whose name they cover never gets to this rule"))
            .hint("sendmail looks the name up first, and an address only where no name has a rule: put the same demand at the names, or give them `SKIP`")
        })
    }

    fn habits(&mut self, rule: &Rule<'_>, value: &Value, found: &mut Vec<Diagnostic>) {
        for habit in Habit::of(rule, value) {
            let of_the_file = matches!(habit, Habit::Blanks | Habit::Skip);
            if !of_the_file {
                found.push(habit.diagnostic(&At { file: self.file, rule }, value));
            } else if self.told.insert(habit) {
                let mut diagnostic = habit.diagnostic(&At { file: self.file, rule }, value);
                let more = self.survey.habits.get(&habit).copied().unwrap_or(0).saturating_sub(1);
                diagnostic.label = match more {
                    0 => None,
                    1 => Some("and in one further rule".to_owned()),
                    more => Some(format!("and in {more} further rules")),
                };
                found.push(diagnostic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
