//! What was imported, as TOML.
//!
//! Promises: written as it goes, key by key; every string is quoted as TOML has it.

use crate::policy::domain;
use crate::policy::rule::Side;
use crate::sendmail::access_map::{Matches, matches};
use crate::sendmail::keys::{Chain, Key, KeyId, Keys};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use toml_writer::TomlStringBuilder;

/// What came of it.
#[derive(Debug)]
pub struct Imported<'t> {
    /// What the text is called.
    pub(super) name: String,
    /// How many lines are TLS rules.
    pub rules: usize,
    /// How many of them are in the policy.
    pub taken: usize,
    /// Whether the policy decides otherwise than sendmail somewhere.
    pub inexact: bool,
    pub(super) items: Vec<Item>,
    pub(super) groups: Vec<Group>,
    pub(super) keys: Keys<'t>,
    /// What is to be known of single keys.
    pub(super) notes: HashMap<KeyId, Vec<String>>,
    pub(super) comments: Vec<String>,
}

/// What stands in the policy, in order.
#[derive(Debug)]
pub(super) enum Item {
    /// The rule at this place.
    Group(usize),
    /// A line that is no part of it, as comment lines.
    Left(String),
}

/// The lines of one requirement: a rule to be.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// `soft-fail = { min-bits = 168 }`
    pub(super) body: String,
    pub(super) keys: Chain,
}

const EXEMPT: &str = "
# sendmail's rules hold for everyone: for clients that have authenticated, for this host itself, for mail to
# postmaster. encr-milter's own defaults are milder; without this section they hold.
[exempt]
authenticated = false
networks = []
recipients = []
";

impl Imported<'_> {
    /// Writes the policy.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "# The TLS rules of {}: {} of {}, by `encr-milter access import`.\n\nversion = 1\n{EXEMPT}",
            clean(&self.name),
            self.taken,
            self.rules
        )?;
        for item in &self.items {
            out.write_all(b"\n")?;
            match item {
                Item::Left(comment) => out.write_all(comment.as_bytes())?,
                Item::Group(place) => {
                    if let Some(group) = self.groups.get(*place) {
                        self.write_group(group, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_group(&self, group: &Group, out: &mut dyn Write) -> io::Result<()> {
        let mut comments: Vec<&str> = Vec::new();
        let mut known = HashSet::new();
        for (_, key) in self.keys.of_rule(group.keys) {
            let comment = self.comment(key);
            if !comment.is_empty() && known.insert(comment) {
                comments.push(comment);
            }
        }
        writeln!(out, "[[rule]]\nname = {}", quoted(&group.name))?;
        if group.name == "handshake" {
            out.write_all(
                b"comment = \"sendmail refuses a session whose handshake failed, with a rule or without\"\n",
            )?;
        } else if !comments.is_empty() {
            writeln!(out, "comment = {}", quoted(&comments.join("\n")))?;
        }
        for side in Side::ALL {
            let of_side = || self.keys.of_rule(group.keys).filter(move |(_, key)| key.side == side);
            let mut first_two = of_side();
            match (first_two.next(), first_two.next()) {
                (None, _) => {}
                (Some((_, key)), None) if key.line == 0 => {
                    writeln!(out, "{side} = [{}]", self.quoted_key(key))?;
                }
                (Some((id, key)), None) if !self.notes.contains_key(&id) && comments.len() < 2 => {
                    writeln!(out, "{side} = [{}] # line {}", self.quoted_key(key), key.line)?;
                }
                _ => {
                    writeln!(out, "{side} = [")?;
                    self.write_keys(of_side(), comments.len() > 1, out)?;
                    out.write_all(b"]\n")?;
                }
            }
        }
        out.write_all(group.body.as_bytes())
    }

    /// Keys line by line, each with what is to be known of it; with the comments above them, where there is more than one.
    fn write_keys<'k>(
        &'k self,
        keys: impl Iterator<Item = (KeyId, &'k Key)>,
        with_comments: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut above = "";
        for (id, key) in keys {
            let comment = self.comment(key);
            if with_comments && comment != above {
                above = comment;
                for line in comment.lines() {
                    writeln!(out, "    # {line}")?;
                }
            }
            for note in self.notes.get(&id).into_iter().flatten() {
                writeln!(out, "    # {}", clean(note))?;
            }
            writeln!(out, "    {}, # line {}", self.quoted_key(key), key.line)?;
        }
        Ok(())
    }

    fn comment(&self, key: &Key) -> &str {
        let comment = key.comment.and_then(|id| self.comments.get(id as usize));
        comment.map(String::as_str).unwrap_or_default()
    }

    /// A key as a policy has it.
    fn quoted_key(&self, key: &Key) -> Cow<'static, str> {
        Cow::Owned(match matches(key.side, self.keys.written(key)) {
            Matches::Default => return Cow::Borrowed("\"*\""),
            // Nothing of it needs an escape.
            Matches::Name(name) if domain::is_plain(&name) => format!("\"{name}\""),
            Matches::Name(name) => quoted(&name),
            Matches::Network(network) => format!("\"{network}\""),
            Matches::Literal(network) => format!("\"[{network}]\""),
            // Such a key is in no rule.
            Matches::Nothing(_) => return Cow::Borrowed("\"\""),
        })
    }
}

/// A string of TOML.
pub(super) fn quoted(text: &str) -> String {
    use toml_writer::TomlWrite;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = out.value(TomlStringBuilder::new(text).as_basic());
    out
}

/// Text for a comment or a string: TOML has no control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
