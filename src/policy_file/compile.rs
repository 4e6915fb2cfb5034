//! Documents to a policy: what takes all files together, and the calendar, to judge.
//!
//! Promises: a policy comes out only where nothing is wrong; every key is in the form for comparison, and
//! belongs to one rule of its side.

mod keys;

pub(super) use keys::List;

use super::schema::{Document, ExemptDoc, ModeDoc, RuleDoc, header};
use super::walk::{Located, nearest};
use crate::diagnostics::{Diagnostic, Diagnostics, Place};
use crate::policy::gate::Gate;
use crate::policy::lookup::{Index, RuleId};
use crate::policy::network::Network;
use crate::policy::requirement::Requirement;
use crate::policy::rule::{Exempt, Exemption, Mode, ModeEntry, Modes, Rule};
use crate::policy::{Day, Policy, domain};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

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
                self.host_bits(written, &text.value, &|| text.place.clone());
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
}
