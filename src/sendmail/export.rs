//! From a policy to the lines of an access map: what is in one mode, as sendmail's own rules.
//!
//! A map's lookup goes the policy's way: names up to the top label, then addresses, the longest prefix first, then
//! the bare tag; the first hit wins. So a rule's keys become lines, and a rule that demands nothing in this mode
//! becomes `OK` wherever a less specific line would hold its hosts to something.
//!
//! Promises: the same policy, day and mode give the same lines; for the mode that is exported, a host or recipient
//! fares by them as by the policy. Whatever a map cannot hold is told: an error where the map would be another
//! policy, a warning where it is only weaker, or where its lines have an end. Must not: read the clock, or files.

mod keys;
mod needed;
mod text;
mod value;

use super::access_map::{MAX_LINE, TAGS, tag_of};
use super::lint::shown;
use super::prefix::Prefix;
use super::{block, rhs};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::policy::lookup::Key;
use crate::policy::rule::{Mode, ModeEntry, Rule, Side, Standing};
use crate::policy::{Day, Policy, domain};
use ipnet::IpNet;
use keys::{LineKey, is_writable, net_of, prefixes};
use needed::{Effects, Source, Table};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use text::{one_line, wrapped};
use value::{Held, Written};

/// What was exported.
#[derive(Debug)]
pub struct Export {
    /// The lines, together with the rule that they are of.
    pub sections: Vec<Section>,
    /// What a map cannot hold.
    pub diagnostics: Diagnostics,
    mode: Mode,
    fingerprint: String,
}

/// The lines of one rule.
#[derive(Debug)]
pub struct Section {
    /// The rule's name; absent for `[exempt]`.
    pub rule: Option<String>,
    /// What is said above them.
    pub comments: Vec<String>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key, with its tag.
    pub key: String,
    /// The right-hand side.
    pub value: String,
    /// The number of the file's own line that says the same: then the block has none, for makemap complains of two.
    pub outside: Option<usize>,
}

impl Line {
    fn new(key: String, value: &str) -> Self {
        Self { key, value: value.to_owned(), outside: None }
    }
}

impl Export {
    /// Every line, with the rule that it is of.
    pub fn lines(&self) -> impl Iterator<Item = (Option<&str>, &Line)> {
        self.sections
            .iter()
            .flat_map(|section| section.lines.iter().map(move |line| (section.rule.as_deref(), line)))
    }

    /// Marks the lines that stand outside of the block, each with its number there.
    pub fn leave_out(&mut self, number: impl Fn(&Line) -> Option<usize>) {
        for line in self.sections.iter_mut().flat_map(|section| &mut section.lines) {
            line.outside = number(line);
        }
    }

    /// The block for an access file.
    pub fn block(&self) -> String {
        let mut out = format!(
            "{}: made by \"encr-milter access export\" from policy {}, mode {}; do not edit below\n",
            block::BEGIN,
            self.fingerprint,
            self.mode
        );
        if self.sections.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# nothing of the policy is in mode {}", self.mode);
        }
        for section in &self.sections {
            for line in section.comments.iter().flat_map(|comment| wrapped(comment)) {
                let _ = writeln!(out, "# {line}");
            }
            for line in &section.lines {
                // On one line whatever the number: the number depends on how many lines the block has.
                let _ = match line.outside {
                    Some(number) => writeln!(
                        out,
                        "# line {number}, outside of this block: {} {}",
                        shown(&line.key),
                        shown(&line.value)
                    ),
                    None => writeln!(out, "{}\t{}", line.key, line.value),
                };
            }
        }
        out.push_str(block::END);
        out.push('\n');
        out
    }
}

/// What a rule is to the map.
enum Effect {
    /// As if it were not there.
    Absent,
    /// This is demanded.
    Demand(Held),
    /// It is exempt: `OK`.
    Exempt,
    /// `SKIP`.
    Skip,
    /// It demands nothing that the map holds, and hides less specific keys all the same: `OK` where that matters.
    Shadow,
}

/// Exports what is in this mode on this day. `taken` are the tags, in lower case, that the access file uses outside
/// of the block.
pub fn export(policy: &Policy, day: Day, mode: Mode, taken: &BTreeSet<String>) -> Export {
    let mut exporter = Exporter { policy, day, mode, diagnostics: Diagnostics::default() };
    let effects = exporter.effects(taken);
    let mut placed = BTreeMap::new();
    for (_, side) in TAGS {
        exporter.side(side, &effects, &mut placed);
    }
    let mut lines: BTreeMap<Source, Vec<(Side, LineKey)>> = BTreeMap::new();
    for ((side, key), (_, source)) in placed {
        lines.entry(source).or_default().push((side, key));
    }
    let sections: Vec<Section> =
        lines.into_iter().filter_map(|(source, keys)| exporter.section(source, &keys, &effects)).collect();
    if sections.is_empty() && !exporter.diagnostics.has_errors() {
        let message = format!("nothing of the policy is in mode {mode} that an access map can hold");
        let other = if mode == Mode::Enforce { Mode::SoftFail } else { Mode::Enforce };
        let hint = format!("the block is empty; `--mode {other}` exports what is in that mode");
        exporter.diagnostics.push(Diagnostic::warning("nothing-exported", message).hint(hint));
    }
    let fingerprint = policy.fingerprint().as_str().to_owned();
    Export { sections, diagnostics: exporter.diagnostics, mode, fingerprint }
}

/// Every line, the prefix that the policy gave it, and whose it is.
type Placed = BTreeMap<(Side, LineKey), (u8, Source)>;

struct Exporter<'p> {
    policy: &'p Policy,
    day: Day,
    mode: Mode,
    diagnostics: Diagnostics,
}

impl<'p> Exporter<'p> {
    fn warn(&mut self, code: &'static str, message: String, hint: &str) {
        self.diagnostics.push(Diagnostic::warning(code, message).hint(hint));
    }

    fn error(&mut self, code: &'static str, message: String, hint: &str) {
        self.diagnostics.push(Diagnostic::error(code, message).hint(hint));
    }

    /// What each rule is to the map, by its position.
    fn effects(&mut self, taken: &BTreeSet<String>) -> Effects {
        let rules = self.policy.rules();
        let mut sides = vec![HashSet::new(); rules.len()];
        for side in Side::ALL {
            for found in self.policy.index().side(side).iter() {
                if let Some(sides) = sides.get_mut(found.rule.index()) {
                    sides.insert(side);
                }
            }
        }
        let mut last = 0u32;
        let mut tag = || {
            loop {
                last += 1;
                let tag = format!("EncrMilter{last}");
                if !taken.contains(&tag.to_ascii_lowercase()) {
                    return tag;
                }
            }
        };
        let effects = rules.iter().zip(&sides).map(|(rule, sides)| self.effect(rule, sides, &mut tag));
        Effects(effects.collect())
    }

    fn effect(&mut self, rule: &Rule, sides: &HashSet<Side>, tag: &mut impl FnMut() -> String) -> Effect {
        let standing = match rule.standing(self.day) {
            Standing::Skips => return Effect::Skip,
            Standing::InForce if rule.exemption.as_ref().is_some_and(|exempt| exempt.holds(self.day)) => {
                return Effect::Exempt;
            }
            Standing::InForce => Effect::Shadow,
            Standing::Absent => Effect::Absent,
        };
        let held = |side: &Side| tag_of(*side).is_some();
        let (Some(entry), mode, name) = (rule.modes.get(self.mode), self.mode, &rule.name) else {
            if self.mode == Mode::SoftFail && sides.iter().any(held) {
                self.warn_of_harder(rule);
            }
            return standing;
        };
        for side in Side::ALL.iter().filter(|side| sides.contains(side) && !held(side)) {
            let message =
                format!("the {side} keys of rule `{name}` are not exported: no access map has them");
            self.warn("not-in-a-map", message, "the milter holds them; keep it running for this rule");
        }
        let prefix = match mode {
            _ if !sides.iter().any(held) => return standing,
            Mode::Observe => return standing,
            Mode::SoftFail => rhs::Prefix::Temp,
            Mode::Enforce => rhs::Prefix::Perm,
        };
        if let Some(from) = entry.from.filter(|from| *from > self.day) {
            let message = format!("`{mode}` of rule `{name}` is not exported: it is in force from {from}");
            self.warn("not-yet", message, "an access map knows no dates: run this again on that day");
            return standing;
        }
        if let Some(percent) = entry.percent.filter(|percent| *percent < 100) {
            let message = format!(
                "`{mode}` of rule `{name}` is not exported: an access map knows no percent ({percent})"
            );
            self.warn("not-in-a-map", message, "the milter holds it; raise the share to 100 first");
            return standing;
        }
        if let Some(delay) = entry.max_delay {
            let message = format!(
                "`{mode}` of rule `{name}` is not exported: an access map knows no max-delay ({delay})"
            );
            self.warn(
                "not-in-a-map",
                message,
                "the milter holds it; under a map, mail would bounce in the end",
            );
            return standing;
        }
        match value::write(prefix, &entry.requirement, tag) {
            Written::Nothing => standing,
            Written::NotHeld(why) => {
                let message = format!("`{mode}` of rule `{name}` is not exported: {why}");
                self.warn("not-in-a-map", message, "the milter holds it; keep it running for this rule");
                standing
            }
            Written::Held(held) => {
                if let Some(version) = held.without {
                    let message = format!(
                        "rule `{name}` is exported without its min-version {version}: the map is weaker than the policy"
                    );
                    self.warn(
                        "weaker-in-a-map",
                        message,
                        "an access map knows no versions; the milter holds it",
                    );
                }
                Effect::Demand(held)
            }
        }
    }

    /// A rule that has ripened past this mode: the block would let go of what it holds.
    fn warn_of_harder(&mut self, rule: &Rule) {
        let in_force = |entry: &&ModeEntry| {
            let whole = entry.percent.is_none_or(|percent| percent >= 100) && entry.max_delay.is_none();
            whole && entry.from.is_none_or(|from| from <= self.day)
        };
        let Some(entry) = rule.modes.get(Mode::Enforce).filter(in_force) else { return };
        // A demand that no map holds has had no line.
        let written = value::write(rhs::Prefix::Perm, &entry.requirement, &mut String::new);
        if matches!(written, Written::Held(_)) {
            let message = format!(
                "rule `{}` enforces and has no soft-fail: a block of this mode does not hold it",
                rule.name
            );
            let hint =
                "`--mode enforce` exports it; a soft-fail beside its enforce would be held by this block";
            self.warn("harder-mode", message, hint);
        }
    }

    /// Finds the lines of one side.
    fn side(&mut self, side: Side, effects: &Effects, placed: &mut Placed) {
        let mut table = Table::of(self.policy, side, effects);
        let exempt_names = self.exempt_names(side, &mut table);
        let exempt = self.policy.exempt().networks.iter().filter(|_| side.is_host());
        let exempt_nets: Vec<IpNet> = exempt.filter_map(|network| net_of(*network)).collect();
        table.exempt(&exempt_nets, effects);
        if !table.any_demand(effects) {
            return;
        }
        for (name, source) in std::mem::take(&mut table.skipping) {
            let message = format!("the key `{name}` of {} is not exported: it skips", self.name(source));
            self.warn(
                "not-in-a-map",
                message,
                "for a whole address sendmail knows no SKIP, only for a domain",
            );
        }
        for name in exempt_names {
            self.place(side, Key::Name(&name), Source::Exempt, placed);
        }
        // A program on this host that speaks to `sendmail -bs` has no address, and is exempt with the others here.
        if side == Side::Client && self.exempts_this_host() {
            placed.insert((side, keys::no_address()), (u8::MAX, Source::Exempt));
        }
        for (net, source) in &table.networks {
            if table.network_needs_line(*net, *source, effects) {
                self.place_net(side, *net, LineKey::Network, *source, placed);
            }
        }
        for (net, source) in &table.literals {
            if table.literal_needs_line(*net, *source, effects) {
                self.place_net(side, *net, LineKey::Literal, *source, placed);
            }
        }
        for (name, source) in &table.names {
            if table.name_needs_line(name, *source, effects) {
                self.place(side, Key::Name(name), *source, placed);
            }
        }
        if let Some(source) = table.default.filter(|source| effects.demands(*source)) {
            self.place(side, Key::Any, source, placed);
        }
        self.warn_of_side(side, &table, effects);
    }

    fn exempts_this_host(&self) -> bool {
        self.policy.exempt().networks.iter().any(|network| network.contains(Ipv4Addr::LOCALHOST.into()))
    }

    /// The recipients of `[exempt]`, as keys of the side. Rules' keys of theirs are never asked for.
    fn exempt_names(&mut self, side: Side, table: &mut Table<'p>) -> Vec<String> {
        if side != Side::RecipientOutbound {
            return Vec::new();
        }
        let listed: HashSet<&str> = self.policy.exempt().recipients.iter().map(String::as_str).collect();
        table.names.retain(|name, _| {
            let local = name.contains('@').then(|| domain::split_address(name).0);
            !listed.contains(name) && local.is_none_or(|local| !listed.contains(local))
        });
        let key = |listed: &str| if listed.contains('@') { listed.to_owned() } else { format!("{listed}@") };
        self.policy.exempt().recipients.iter().map(|listed| key(listed)).collect()
    }

    fn place(&mut self, side: Side, key: Key<'_>, source: Source, placed: &mut Placed) {
        let line = match key {
            Key::Name(name) if !is_writable(name, side.is_host()) => {
                let message = format!(
                    "{} has the {side} key `{name}`, which no line of a map can have",
                    self.name(source)
                );
                self.error(
                    "key-not-in-a-map",
                    message,
                    "take it out, or leave this rule to the milter alone",
                );
                return;
            }
            Key::Name(name) => LineKey::Name(name.to_owned()),
            _ => LineKey::Default,
        };
        placed.insert((side, line), (0, source));
    }

    /// Where networks meet in one line, the longest prefix has it: the others ask for less specific addresses.
    fn place_net(
        &mut self,
        side: Side,
        net: IpNet,
        line: fn(Prefix) -> LineKey,
        source: Source,
        placed: &mut Placed,
    ) {
        match prefixes(net) {
            Ok(prefixes) => {
                for prefix in prefixes {
                    let longest = placed.entry((side, line(prefix))).or_insert((net.prefix_len(), source));
                    if net.prefix_len() > longest.0 {
                        *longest = (net.prefix_len(), source);
                    }
                }
            }
            Err(count) => {
                let message =
                    format!("{} has the {side} key {net}, which needs {count} lines", self.name(source));
                let hint = format!(
                    "at most {} are written; name the networks in it that are meant",
                    keys::MAX_LINES
                );
                self.error("too-many-lines", message, &hint);
            }
        }
    }

    fn name(&self, source: Source) -> String {
        match source {
            Source::Exempt => "[exempt]".to_owned(),
            Source::Rule(id) => {
                format!("rule `{}`", self.policy.rules().get(id).map_or("", |rule| rule.name.as_str()))
            }
        }
    }

    /// What a map knows nothing of, on a side that has demands.
    fn warn_of_side(&mut self, side: Side, table: &Table<'p>, effects: &Effects) {
        let exempt = self.policy.exempt();
        let (tag, peer) =
            (tag_of(side).unwrap_or_default(), if side == Side::Server { "server" } else { "client" });
        let demands = |source: &Source| effects.demands(*source);
        if side.is_host() && !exempt.networks.is_empty() && table.names.values().any(demands) {
            let message =
                format!("{tag}: a {peer} of [exempt] networks whose name has a rule is judged all the same");
            self.warn(
                "exempt-by-address",
                message,
                "an access map looks at names first: exempt it by its name too",
            );
        }
        if side == Side::RecipientOutbound && !exempt.networks.is_empty() {
            let message = format!("{tag}: mail to a server in [exempt] networks is judged all the same");
            self.warn("exempt-by-address", message, "this map asks for recipients, whatever the server");
        }
        if side == Side::Client && exempt.authenticated {
            let message = format!("{tag}: clients that authenticate are judged like all others");
            self.warn(
                "exempt-authenticated",
                message,
                "an access map cannot exempt them: exempt their networks",
            );
        }
        if side.is_host() && !exempt.recipients.is_empty() {
            let message = format!("{tag}: mail to {} is judged like all other", exempt.recipients.join(", "));
            self.warn(
                "exempt-recipients",
                message,
                "a map holds for the whole session, whoever the recipient is",
            );
        }
        let everyone = table
            .default
            .iter()
            .chain(table.networks.iter().filter(|(net, _)| net.prefix_len() == 0).map(|(_, source)| source));
        if side == Side::Client && everyone.clone().any(demands) {
            let message = format!("{tag}: TLS is demanded of everyone");
            let hint = "a public mail server must not require STARTTLS of all (RFC 3207 section 4); for a private one this is fine";
            self.warn("enforce-all", message, hint);
        }
    }

    /// The lines of a rule, or of `[exempt]`, and what is said above them.
    fn section(&mut self, source: Source, keys: &[(Side, LineKey)], effects: &Effects) -> Option<Section> {
        let mode = self.mode;
        let lines = |value: &str| -> Vec<Line> {
            let line = |(side, key): &(Side, LineKey)| Some(Line::new(key.text(tag_of(*side)?), value));
            keys.iter().filter_map(line).collect()
        };
        let Source::Rule(id) = source else {
            let mut comments = vec!["[exempt]: never judged".to_owned()];
            if keys.iter().any(|(side, _)| *side == Side::RecipientOutbound) {
                comments.push(
                    "  recipients with a +detail are among them: an access map takes it off".to_owned(),
                );
            }
            if keys.iter().any(|(side, key)| *side == Side::Client && *key == keys::no_address()) {
                comments.push(
                    "  TLS_Clt:0 is this host too: whoever runs `sendmail -bs` has no address".to_owned(),
                );
            }
            return Some(Section { rule: None, comments, lines: self.short_enough(source, lines("OK")) });
        };
        let rule = self.policy.rules().get(id)?;
        let mut notes = Vec::new();
        let mut issuers = Vec::new();
        let (what, value) = match effects.0.get(id)? {
            Effect::Absent => return None,
            Effect::Demand(held) => {
                notes.extend(held.without.map(|version| {
                    format!("weaker than the rule: min-version {version} is not held by an access map")
                }));
                for (tag, names) in &held.issuers {
                    let line = |name: &String| Line::new(format!("{tag}:{name}"), "OK");
                    issuers.extend(names.iter().map(line));
                }
                let demand = rule.modes.get(mode).map(|entry| entry.requirement.to_string());
                (format!("{mode} {}", demand.unwrap_or_default()), held.value.as_str())
            }
            Effect::Exempt => {
                let exemption = rule.exemption.as_ref()?;
                if let Some(until) = exemption.until {
                    let message = format!(
                        "rule `{}` is exempt until {until}: its lines say OK without an end",
                        rule.name
                    );
                    let hint = "after that day they must be taken out: run this again";
                    self.diagnostics.push(Diagnostic::warning("exempt-until", message).hint(hint));
                }
                (format!("exempt, {exemption}"), "OK")
            }
            Effect::Skip => ("skip".to_owned(), "SKIP"),
            Effect::Shadow => {
                (format!("nothing to {mode}; OK, or a less specific line would hold for it"), "OK")
            }
        };
        let mut comments = vec![one_line(&format!("rule {}: {what}", rule.name))];
        comments.extend(rule.comment.as_deref().map(|comment| format!("  {}", one_line(comment))));
        comments.extend(notes.into_iter().map(|note| format!("  {note}")));
        let mut lines = lines(value);
        lines.extend(issuers);
        Some(Section { rule: Some(rule.name.clone()), comments, lines: self.short_enough(source, lines) })
    }

    /// Lines that makemap takes. It would read the tail of another as a line of its own.
    fn short_enough(&mut self, source: Source, mut lines: Vec<Line>) -> Vec<Line> {
        // The tab, and a carriage return where the file has them.
        let length = |line: &Line| line.key.len() + line.value.len() + 2;
        if let Some(long) = lines.iter().find(|line| length(line) > MAX_LINE) {
            let message = format!(
                "{} has the line `{}`, whose {} bytes are more than makemap takes ({MAX_LINE})",
                self.name(source),
                shown(&long.key),
                length(long)
            );
            self.error(
                "line-too-long",
                message,
                "ask for shorter names, or leave this rule to the milter alone",
            );
            lines.retain(|line| length(line) <= MAX_LINE);
        }
        lines
    }
}

#[cfg(test)]
mod tests;
