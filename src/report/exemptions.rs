//! Exemptions: which were used, which end soon, and which nobody needs.

use super::day_text;
use crate::evidence::questions::events::{ExemptionsUsed, Used};
use crate::policy::decide::AUTHENTICATED;
use crate::policy::{Day, Policy};

/// An exemption that ends within so many days is about to.
pub const SOON: i64 = 30;

/// Exemptions.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exemptions {
    /// Of `[exempt]`: what the policy has, and what was used.
    pub settled: Vec<Settled>,
    /// Of rules: what the policy has, and what was used.
    pub rules: Vec<RuleExemption>,
}

/// An exemption of `[exempt]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// What exempts: `authenticated`, `network 127.0.0.0/8`, `recipient postmaster`.
    pub reason: String,
    /// Messages.
    pub messages: u64,
    /// The last one; null: never used.
    pub last: Option<jiff::Timestamp>,
}

/// An exemption of a rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RuleExemption {
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: Option<String>,
    /// Whose it is to end it.
    pub owner: Option<String>,
    /// Its last day.
    #[serde(serialize_with = "day_text")]
    pub until: Option<Day>,
    /// Whether it holds.
    pub standing: Standing,
    /// Messages.
    pub messages: u64,
    /// The last one; null: never used.
    pub last: Option<jiff::Timestamp>,
}

/// Whether an exemption holds on the day of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has ended.
    Lapsed,
    /// It ends within [`SOON`] days.
    Lapsing,
    /// It holds.
    Holds,
    /// It was used, and the policy does not have it (any more), or no policy was given.
    NotInPolicy,
}

impl Exemptions {
    /// What was used, beside what the policy has.
    pub(super) fn of(used: ExemptionsUsed, policy: Option<&Policy>, today: Day) -> Self {
        let mut settled: Vec<Settled> = used
            .settled
            .into_iter()
            .map(|Used { name, messages, last }| Settled { reason: name, messages, last: Some(last) })
            .collect();
        let mut rules: Vec<RuleExemption> = used
            .rules
            .into_iter()
            .map(|Used { name, messages, last }| RuleExemption {
                rule: name,
                reason: None,
                owner: None,
                until: None,
                standing: Standing::NotInPolicy,
                messages,
                last: Some(last),
            })
            .collect();
        for reason in policy.into_iter().flat_map(reasons) {
            if settled.iter().all(|known| known.reason != reason) {
                settled.push(Settled { reason, messages: 0, last: None });
            }
        }
        for rule in policy.map_or(&[][..], Policy::rules) {
            let Some(exemption) = &rule.exemption else { continue };
            let standing = match exemption.until {
                _ if !exemption.holds(today) => Standing::Lapsed,
                Some(until) if until.0 - today.0 < SOON => Standing::Lapsing,
                _ => Standing::Holds,
            };
            let place = rules.iter().position(|known| known.rule == rule.name);
            let place = place.unwrap_or_else(|| {
                rules.push(RuleExemption::unused(&rule.name));
                rules.len() - 1
            });
            if let Some(known) = rules.get_mut(place) {
                known.reason.clone_from(&exemption.reason);
                known.owner.clone_from(&exemption.owner);
                (known.until, known.standing) = (exemption.until, standing);
            }
        }
        rules.sort_by(|a, b| (a.standing, a.until, &a.rule).cmp(&(b.standing, b.until, &b.rule)));
        Self { settled, rules }
    }
}

impl RuleExemption {
    fn unused(rule: &str) -> Self {
        Self {
            rule: rule.to_owned(),
            reason: None,
            owner: None,
            until: None,
            standing: Standing::NotInPolicy,
            messages: 0,
            last: None,
        }
    }
}

/// The reasons that a policy's `[exempt]` can give, as a decision words them.
fn reasons(policy: &Policy) -> Vec<String> {
    let exempt = policy.exempt();
    let authenticated = exempt.authenticated.then(|| AUTHENTICATED.to_owned());
    let networks = exempt.networks.iter().map(|network| format!("network {network}"));
    let recipients = exempt.recipients.iter().map(|recipient| format!("recipient {recipient}"));
    authenticated.into_iter().chain(networks).chain(recipients).collect()
}
