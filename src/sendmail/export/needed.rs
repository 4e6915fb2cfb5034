//! Which keys of a side need a line, so that a map's first hit is the policy's.
//!
//! A demand needs its line, and so does what a rule says in so many words (an exemption, a skip). A rule that
//! demands nothing in this mode needs one only where, without it, its hosts would come upon a demand further on.
//!
//! Promises: no line is left out that changes a verdict. Where a few are written that change none (keys of
//! recipients with a `+detail`), that is for the sake of simplicity. Must not: write lines.

use super::Effect;
use super::keys::{net_of, overlap};
use crate::policy::lookup::Key;
use crate::policy::network::parse_address;
use crate::policy::rule::Side;
use crate::policy::{Policy, domain};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Where a line comes from. Ordered as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// `[exempt]`
    Exempt,
    /// A rule, by its position.
    Rule(usize),
}

/// What every rule is to the map, by its position.
pub(super) struct Effects(pub(super) Vec<Effect>);

impl Effects {
    /// What a source is.
    fn of(&self, source: Source) -> &Effect {
        match source {
            Source::Exempt => &Effect::Exempt,
            Source::Rule(id) => self.0.get(id).unwrap_or(&Effect::Absent),
        }
    }

    /// Whether it demands something.
    pub(super) fn demands(&self, source: Source) -> bool {
        matches!(self.of(source), Effect::Demand(_))
    }

    /// Whether what it says is to be written wherever it says it.
    fn says(&self, source: Source) -> bool {
        !matches!(self.of(source), Effect::Shadow | Effect::Absent)
    }

    /// What becomes of those who come upon a key of it, where there is one.
    fn next(&self, source: Option<&Source>) -> Option<Next> {
        Some(match self.of(*source?) {
            Effect::Demand(_) => Next::Demand,
            Effect::Exempt | Effect::Shadow => Next::Pass,
            Effect::Skip => Next::Further,
            Effect::Absent => return None,
        })
    }
}

/// The keys of one side that say something on the day.
pub(super) struct Table<'p> {
    side: Side,
    pub(super) names: BTreeMap<&'p str, Source>,
    pub(super) networks: BTreeMap<IpNet, Source>,
    pub(super) literals: BTreeMap<IpNet, Source>,
    pub(super) default: Option<Source>,
    /// Whether a network demands something.
    network_demand: bool,
    /// Whether a `user+detail@` demands something.
    detail_demand: bool,
    /// Whether a domain of recipients demands something.
    domain_demand: bool,
    /// Whole addresses that skip, and are no lines.
    pub(super) skipping: Vec<(&'p str, Source)>,
}

/// What a less specific key does with those who come upon it.
enum Next {
    /// It holds them to something.
    Demand,
    /// It lets them pass.
    Pass,
    /// The next kind of key is tried: there is none, or it skips.
    Further,
}

impl<'p> Table<'p> {
    /// The keys of a side.
    pub(super) fn of(policy: &'p Policy, side: Side, effects: &Effects) -> Self {
        let mut table = Self {
            side,
            names: BTreeMap::new(),
            networks: BTreeMap::new(),
            literals: BTreeMap::new(),
            default: None,
            network_demand: false,
            detail_demand: false,
            domain_demand: false,
            skipping: Vec::new(),
        };
        for found in policy.index().side(side).iter() {
            let source = Source::Rule(found.rule.index());
            if matches!(effects.of(source), Effect::Absent) {
                continue;
            }
            match found.key {
                // sendmail takes SKIP for no word where it asks for a whole address; such a key is the last of
                // its kind anyway, but for a `+detail`.
                Key::Name(name) if name.contains('@') && matches!(effects.of(source), Effect::Skip) => {
                    table.skipping.push((name, source));
                }
                Key::Name(name) => drop(table.names.insert(name, source)),
                Key::Network(network) => drop(net_of(network).map(|net| table.networks.insert(net, source))),
                Key::Literal(network) => drop(net_of(network).map(|net| table.literals.insert(net, source))),
                Key::Any => table.default = Some(source),
            }
        }
        table.skipping.sort_unstable();
        table
    }

    /// Takes `[exempt]` in: its networks are lines, and what lies within them is never asked for. To be called once
    /// the names are complete.
    pub(super) fn exempt(&mut self, nets: &[IpNet], effects: &Effects) {
        let within = |net: &IpNet| nets.iter().any(|exempt| exempt.contains(net));
        self.networks.retain(|net, _| !within(net));
        self.literals.retain(|net, _| !within(net));
        // A host without a name is looked up in brackets first.
        let in_brackets: Vec<IpNet> = nets
            .iter()
            .filter(|exempt| {
                let mut literals = self.literals.iter();
                literals.any(|(net, source)| effects.demands(*source) && overlap(*net, **exempt))
            })
            .copied()
            .collect();
        self.networks.extend(nets.iter().map(|net| (*net, Source::Exempt)));
        self.literals.extend(in_brackets.into_iter().map(|net| (net, Source::Exempt)));
        let demands = |source: &Source| effects.demands(*source);
        let network = self.networks.values().any(demands);
        let mut names = self.names.iter().filter(|(_, source)| demands(source)).map(|(name, _)| *name);
        let detail = names.clone().any(|name| name.ends_with('@') && name.contains('+'));
        let domain = names.any(|name| !name.contains('@')) || self.literals.values().any(demands);
        (self.network_demand, self.detail_demand, self.domain_demand) = (network, detail, domain);
    }

    /// Whether anything is demanded on this side.
    pub(super) fn any_demand(&self, effects: &Effects) -> bool {
        let all = self.names.values().chain(self.networks.values()).chain(self.literals.values());
        all.chain(&self.default).any(|source| effects.demands(*source))
    }

    fn default_demand(&self, effects: &Effects) -> bool {
        self.default.is_some_and(|source| effects.demands(source))
    }

    /// The first of these keys that says something.
    fn first<'k>(&self, names: impl Iterator<Item = &'k str>, effects: &Effects) -> Next {
        let mut hits = names.filter_map(|name| effects.next(self.names.get(name)));
        hits.next().unwrap_or(Next::Further)
    }

    pub(super) fn network_needs_line(&self, net: IpNet, source: Source, effects: &Effects) -> bool {
        effects.says(source)
            || match around(&self.networks, net, false, effects) {
                Next::Demand => true,
                Next::Pass => false,
                Next::Further => self.default_demand(effects),
            }
    }

    pub(super) fn literal_needs_line(&self, net: IpNet, source: Source, effects: &Effects) -> bool {
        if effects.says(source) {
            return true;
        }
        match around(&self.literals, net, false, effects) {
            Next::Demand => return true,
            Next::Pass => return false,
            Next::Further if !self.side.is_host() => return self.default_demand(effects),
            Next::Further => {}
        }
        // Then the host's address is asked for without brackets.
        let within = self.networks.iter().filter(|(inner, _)| net.contains(*inner));
        let demand_within = within.map(|(_, source)| effects.of(*source)).any(|effect| match effect {
            Effect::Demand(_) => true,
            Effect::Skip => self.default_demand(effects),
            Effect::Absent | Effect::Exempt | Effect::Shadow => false,
        });
        demand_within
            || match around(&self.networks, net, true, effects) {
                Next::Demand => true,
                Next::Pass => false,
                Next::Further => self.default_demand(effects),
            }
    }

    pub(super) fn name_needs_line(&self, name: &str, source: Source, effects: &Effects) -> bool {
        if effects.says(source) {
            return true;
        }
        let mut domain = name;
        if let Some((local, rest)) = name.rsplit_once('@').filter(|_| !self.side.is_host()) {
            // Who is asked for by this key may have whatever detail.
            if self.detail_demand {
                return true;
            }
            match self.first(less_specific(local, rest).iter().map(String::as_str), effects) {
                Next::Demand => return true,
                Next::Pass => return false,
                Next::Further => {}
            }
            if rest.is_empty() {
                return self.domain_demand || self.default_demand(effects);
            }
            domain = rest;
        }
        if let Some(address) = parse_address(domain).filter(|_| domain.starts_with('[')) {
            return match around(&self.literals, IpNet::from(address), true, effects) {
                Next::Demand => true,
                Next::Pass => false,
                Next::Further => self.default_demand(effects),
            };
        }
        let own = usize::from(domain.len() == name.len());
        match self.first(domain::self_and_parents(domain).skip(own), effects) {
            Next::Demand => true,
            Next::Pass => false,
            Next::Further => self.default_demand(effects) || self.side.is_host() && self.network_demand,
        }
    }
}

/// The narrowest network around this one (or itself, with `own`) that says something.
fn around(nets: &BTreeMap<IpNet, Source>, net: IpNet, own: bool, effects: &Effects) -> Next {
    let wider = std::iter::successors(Some(net), IpNet::supernet).skip(usize::from(!own));
    let mut hits = wider.filter_map(|net| effects.next(nets.get(&net)));
    hits.next().unwrap_or(Next::Further)
}

/// The keys of a user that sendmail asks for after this one, up to the domain.
fn less_specific(local: &str, domain: &str) -> Vec<String> {
    let mut locals = vec![local.to_owned()];
    if let Some((user, detail)) = local.split_once('+').filter(|(user, _)| !user.is_empty()) {
        if detail != "*" {
            locals.push(format!("{user}+*"));
        }
        locals.push(user.to_owned());
    }
    let at = |domain: &'_ str| locals.iter().map(|local| format!("{local}@{domain}")).collect::<Vec<_>>();
    let mut keys = at(domain);
    if !domain.is_empty() {
        keys.extend(at(""));
    }
    keys.remove(0);
    keys
}
