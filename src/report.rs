//! The report: what the evidence says, for a person, a script or a partner.
//!
//! [`Report`] holds the answers, [`dossier`] those on one domain; [`terminal`] and [`html`] show them, and JSON is what
//! the values are. Promises: the three say the same; what clients sent cannot break out of any of them. Must not: count
//! or decide: that is said by [`crate::evidence`] and [`crate::policy`].

pub mod dossier;
pub mod exemptions;
pub mod html;
pub mod standing;
pub mod terminal;

mod letter;
pub mod next;
mod outlook;
mod strength;
mod timeline;
mod words;

use crate::evidence::questions::events::{Happened, exemptions_used, what_happened};
use crate::evidence::questions::exposure::{Exposure, who_would_break};
use crate::evidence::questions::rules::modes_of_rules;
use crate::evidence::questions::{Extent, Period, extent};
use crate::evidence::ripeness;
use crate::evidence::{Store, StoreError};
use crate::policy::{Day, Policy};
use exemptions::Exemptions;
use standing::{RuleStanding, standing};

/// Where a report comes from.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Origin {
    /// When it was made.
    pub made: jiff::Timestamp,
    /// By which version of encr-milter.
    pub version: &'static str,
    /// Where the evidence comes from, in words: `evidence.db`, `3 logs`.
    pub source: String,
    /// Whether that is what the daemon has counted, and not logs.
    pub from_store: bool,
    /// The arguments that name the same sources, each with a blank before it.
    #[serde(skip)]
    pub arguments: String,
    /// The logs among them, to be replayed; where there are none, what the daemon's are called.
    #[serde(skip)]
    pub logs: String,
    /// What of the source a reader should know.
    pub notes: Vec<String>,
    /// The first day that was asked for.
    #[serde(serialize_with = "day_text")]
    pub since: Option<Day>,
    /// The last day that was asked for.
    #[serde(serialize_with = "day_text")]
    pub until: Option<Day>,
    /// The fingerprint of the policy that it is told against; null where none was given.
    pub policy: Option<String>,
}

impl Origin {
    /// The days that were asked for.
    pub fn period(&self) -> Period {
        Period { since: self.since, until: self.until }
    }

    /// The day on which it was made.
    pub fn today(&self) -> Day {
        Day::of_unix_seconds(self.made.as_second())
    }
}

/// What the evidence says.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// How much evidence there is.
    #[serde(flatten)]
    pub extent: Extent,
    /// Who would break? By direction.
    pub who_would_break: Vec<Exposure>,
    /// Where does each rule stand?
    pub rules: Vec<RuleStanding>,
    /// What was refused, deferred, observed, and not known?
    pub what_happened: Happened,
    /// Which exemptions were used, and which end?
    pub exemptions: Exemptions,
}

impl Report {
    /// Asks the store, and tells the answers against a policy where there is one.
    pub fn of(store: &Store, policy: Option<&Policy>, origin: Origin) -> Result<Self, StoreError> {
        let period = origin.period();
        let today = origin.today();
        let used = exemptions_used(store, period)?;
        // Logs do not say since when a rule has been in force, and so not whether it is ripe.
        let ripeness = match policy {
            Some(policy) if origin.from_store => ripeness::of_all(store, policy, today)?,
            _ => Vec::new(),
        };
        Ok(Self {
            extent: extent(store, period)?,
            who_would_break: who_would_break(store, period)?,
            rules: standing(modes_of_rules(store, period)?, policy, ripeness, today),
            what_happened: what_happened(store, period)?,
            exemptions: Exemptions::of(used, policy, today),
            origin,
        })
    }
}

/// A day as its date.
fn day_text<S: serde::Serializer>(day: &Option<Day>, serializer: S) -> Result<S::Ok, S::Error> {
    match day {
        Some(day) => serializer.collect_str(day),
        None => serializer.serialize_none(),
    }
}
