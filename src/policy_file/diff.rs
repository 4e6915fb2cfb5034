//! What changed between two policies, in terms of meaning: `rule partner: enforce added min-bits 128`.
//!
//! Promises: two policies of one meaning have no difference; every line names what changed as the policy
//! file names it.

use crate::policy::Policy;
use crate::policy::lookup::{Found, Key};
use crate::policy::rule::{Mode, ModeEntry, Rule, Side};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// How many keys of a change are named; the rest is counted.
const NAMED: usize = 5;

/// One line for each change of meaning, rules in the order of their names.
pub fn diff(old: &Policy, new: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    settings(old, new, &mut lines);
    let before: HashMap<&str, &Rule> = old.rules().iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let after: HashMap<&str, &Rule> = new.rules().iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let mut keys = keys(old, new);
    let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let mut changes = Vec::new();
        match (before.get(name), after.get(name)) {
            (Some(_), None) => changes.push("removed".to_owned()),
            (None, Some(rule)) => {
                changes.push("added".to_owned());
                rule_changes(&Rule::default(), rule, &mut changes);
            }
            (Some(old), Some(new)) => rule_changes(old, new, &mut changes),
            (None, None) => {}
        }
        if after.contains_key(name) {
            changes.extend(keys.remove(name).unwrap_or_default());
        }
        lines.extend(changes.into_iter().map(|change| format!("rule {name}: {change}")));
    }
    lines
}

fn settings(old: &Policy, new: &Policy, lines: &mut Vec<String>) {
    let (before, after) = (old.exempt(), new.exempt());
    if before.authenticated != after.authenticated {
        let state = if after.authenticated { "exempt" } else { "judged" };
        lines.push(format!("exempt: authenticated clients now {state}"));
    }
    let networks = |networks: &[crate::policy::network::Network]| -> Vec<String> {
        networks.iter().map(ToString::to_string).collect()
    };
    list_change("networks", &networks(&before.networks), &networks(&after.networks), lines);
    list_change("recipients", &before.recipients, &after.recipients, lines);
    if old.contact() != new.contact() {
        lines.push(format!("reply: contact now {}", new.contact().unwrap_or("left out")));
    }
}

fn list_change(what: &str, before: &[String], after: &[String], lines: &mut Vec<String>) {
    for (verb, from, to) in [("added", before, after), ("removed", after, before)] {
        let changed: Vec<&str> = to.iter().filter(|item| !from.contains(item)).map(String::as_str).collect();
        if !changed.is_empty() {
            lines.push(format!("exempt: {what} {verb} {}", changed.join(", ")));
        }
    }
}

fn rule_changes(old: &Rule, new: &Rule, changes: &mut Vec<String>) {
    for mode in Mode::HARDEST_FIRST {
        match (old.modes.get(mode), new.modes.get(mode)) {
            (None, Some(entry)) => changes.push(format!("{mode} added {entry}")),
            (Some(entry), None) => changes.push(format!("{mode} removed {entry}")),
            (Some(before), Some(after)) if before != after => {
                changes.push(format!("{mode} {} {before} to {after}", direction(before, after)));
            }
            _ => {}
        }
    }
    match (&old.exemption, &new.exemption) {
        (None, Some(exemption)) => changes.push(format!("exempt added: {exemption}")),
        (Some(exemption), None) => changes.push(format!("exempt removed: {exemption}")),
        (Some(before), Some(after)) if before != after => {
            changes.push(format!("exempt changed: {after}"));
        }
        _ => {}
    }
}

/// Whether a mode asks for more than it did, for less, or for something else.
fn direction(before: &ModeEntry, after: &ModeEntry) -> &'static str {
    if before.requirement == after.requirement {
        return "changed from";
    }
    match (after.requirement.implies(&before.requirement), before.requirement.implies(&after.requirement)) {
        (true, false) => "raised from",
        (false, true) => "lowered from",
        _ => "changed from",
    }
}

/// What a rule gained, or lost, on a side.
#[derive(Default)]
struct Change {
    named: Vec<String>,
    count: usize,
}

impl Change {
    fn add(&mut self, key: Key<'_>) {
        self.count += 1;
        // Named are the first in order of the alphabet, so that the line is the same each time.
        let text = match key {
            Key::Name(name) => Cow::Borrowed(name),
            other => Cow::Owned(other.to_string()),
        };
        let position = self.named.partition_point(|named| **named < *text);
        if position < NAMED {
            self.named.insert(position, text.into_owned());
            self.named.truncate(NAMED);
        }
    }
}

/// The keys of a side, each with its rule's name.
fn named(policy: &Policy, side: Side) -> impl Iterator<Item = (Key<'_>, &str)> {
    let name = |found: Found<'_>| policy.rule(found.rule).map(|rule| rule.name.as_str());
    policy.index().side(side).iter().filter_map(move |found| Some((found.key, name(found)?)))
}

fn has(policy: &Policy, side: Side, (key, name): (Key<'_>, &str)) -> bool {
    let rule = policy.index().side(side).get(key).and_then(|id| policy.rule(id));
    rule.is_some_and(|rule| rule.name == name)
}

/// The keys that each rule gained and lost.
fn keys<'p>(old: &'p Policy, new: &'p Policy) -> HashMap<&'p str, Vec<String>> {
    let mut changes: BTreeMap<(&str, Side, bool), Change> = BTreeMap::new();
    for side in Side::ALL.into_iter().filter(|side| !new.has_keys_of(old, *side)) {
        let mut before = named(old, side).peekable();
        let mut after = named(new, side).peekable();
        let mut tell = |(key, name), gained| changes.entry((name, side, gained)).or_default().add(key);
        // Side by side: an edit leaves most keys where they were, and what stands where it stood needs no search.
        loop {
            match (before.peek().copied(), after.peek().copied()) {
                (None, None) => break,
                (lost, gained) if lost == gained => {
                    before.next();
                    after.next();
                }
                (_, Some(gained)) if !has(old, side, gained) => {
                    tell(gained, true);
                    after.next();
                }
                (Some(lost), _) if !has(new, side, lost) => {
                    tell(lost, false);
                    before.next();
                }
                // Both stand elsewhere.
                _ => {
                    before.next();
                    after.next();
                }
            }
        }
    }
    let mut lines: HashMap<&str, Vec<String>> = HashMap::new();
    for ((name, side, gained), change) in changes {
        let verb = if gained { "added" } else { "removed" };
        let more = match change.count - change.named.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        lines.entry(name).or_default().push(format!("{side} {verb} {}{more}", change.named.join(", ")));
    }
    lines
}
