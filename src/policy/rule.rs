//! What a rule is: its modes, or its exemption, and from when to when they hold.
//!
//! Promises: values only, made by the policy file's compiler and never changed afterwards. What a mode
//! demands is a [`Requirement`]; what follows from it is said elsewhere (see [`super::decide`]).

use super::Day;
use super::network::Network;
use super::requirement::Requirement;
use std::fmt;
use std::str::FromStr;

/// How serious a requirement is. Ordered: `observe` < `soft-fail` < `enforce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Logged, and nothing else: no reply is ever changed.
    Observe,
    /// Deferred (4xx): the sender's queue keeps the message and tries again.
    SoftFail,
    /// Refused (5xx): the sender gets the message back.
    Enforce,
}

impl Mode {
    /// All modes, the hardest first: the order in which failures are listed.
    pub const HARDEST_FIRST: [Self; 3] = [Self::Enforce, Self::SoftFail, Self::Observe];

    /// How many there are.
    pub const COUNT: usize = 3;

    /// Its place, the softest first.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word for it, as in the policy file and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::SoftFail => "soft-fail",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which identity a key is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The connecting host (inbound): sendmail's `TLS_Clt`.
    Client,
    /// The envelope sender (inbound).
    Sender,
    /// An envelope recipient (inbound).
    Recipient,
    /// The host we deliver to (outbound): sendmail's `TLS_Srv`.
    Server,
    /// The recipient of a delivery (outbound): sendmail's `TLS_Rcpt`.
    RecipientOutbound,
}

impl Side {
    /// Every side, inbound first.
    pub const ALL: [Self; 5] =
        [Self::Client, Self::Sender, Self::Recipient, Self::Server, Self::RecipientOutbound];

    /// The word for it, as in the policy file and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Server => "server",
            Self::RecipientOutbound => "recipient-outbound",
        }
    }

    /// Whether keys of this side are hosts (names and networks), not mail addresses.
    pub fn is_host(self) -> bool {
        matches!(self, Self::Client | Self::Server)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A span of time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Delay(pub u32);

impl FromStr for Delay {
    type Err = &'static str;

    /// As the policy file has it, and in words: `4h`, `90m`, `1d 12h`, `2 hours`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = text.parse::<jiff::Span>().ok();
        let span = span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok());
        let seconds = span.and_then(|span| u32::try_from(span.as_secs()).ok()).filter(|seconds| *seconds > 0);
        seconds.map(Self).ok_or("write a number and a unit: \"4h\", \"90m\", \"1d\"")
    }
}

impl fmt::Display for Delay {
    /// As the policy file has it: `4h`, `1d 12h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut separator = "";
        for (unit, seconds) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
            let count = rest / seconds;
            rest %= seconds;
            if count > 0 || (unit == "s" && separator.is_empty()) {
                write!(f, "{separator}{count}{unit}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// One mode of a rule: what it demands, from which day on, and of which share of the failures it acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeEntry {
    /// What is demanded.
    pub requirement: Requirement,
    /// In force from that day, 00:00 UTC.
    pub from: Option<Day>,
    /// Soft-fail only: the share that is deferred, in percent; the rest is observed.
    pub percent: Option<u8>,
    /// Soft-fail only: how long a message is deferred at the most; one that has been tried for so long is
    /// observed.
    pub max_delay: Option<Delay>,
}

impl ModeEntry {
    /// Whether the mode is in force on that day.
    pub fn in_force(&self, day: Day) -> bool {
        self.from.is_none_or(|from| from <= day)
    }
}

impl fmt::Display for ModeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.requirement)?;
        if let Some(percent) = self.percent {
            write!(f, ", percent {percent}")?;
        }
        if let Some(delay) = self.max_delay {
            write!(f, ", max-delay {delay}")?;
        }
        if let Some(from) = self.from {
            write!(f, ", from {from}")?;
        }
        Ok(())
    }
}

/// An exemption of a rule's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemption {
    /// Why.
    pub reason: Option<String>,
    /// Whose it is to end it.
    pub owner: Option<String>,
    /// The last day on which it holds, to its end in UTC.
    pub until: Option<Day>,
}

impl Exemption {
    /// Whether the exemption holds on that day. Past its `until` it is as if it were not there.
    pub fn holds(&self, day: Day) -> bool {
        self.until.is_none_or(|until| day <= until)
    }
}

impl fmt::Display for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_deref().unwrap_or("no reason given"))?;
        if let Some(owner) = &self.owner {
            write!(f, ", owner {owner}")?;
        }
        if let Some(until) = self.until {
            write!(f, ", until {until}")?;
        }
        Ok(())
    }
}

/// What a rule demands in each mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `observe`
    pub observe: Option<ModeEntry>,
    /// `soft-fail`
    pub soft_fail: Option<ModeEntry>,
    /// `enforce`
    pub enforce: Option<ModeEntry>,
}

impl Modes {
    /// The entry of a mode.
    pub fn get(&self, mode: Mode) -> Option<&ModeEntry> {
        match mode {
            Mode::Observe => self.observe.as_ref(),
            Mode::SoftFail => self.soft_fail.as_ref(),
            Mode::Enforce => self.enforce.as_ref(),
        }
    }

    /// Gives a mode another entry, or none.
    pub fn set(&mut self, mode: Mode, entry: Option<ModeEntry>) {
        match mode {
            Mode::Observe => self.observe = entry,
            Mode::SoftFail => self.soft_fail = entry,
            Mode::Enforce => self.enforce = entry,
        }
    }

    /// The entries that are in force on a day, the hardest mode first.
    pub fn in_force(&self, day: Day) -> impl Iterator<Item = (Mode, &ModeEntry)> {
        Mode::HARDEST_FIRST
            .into_iter()
            .filter_map(|mode| self.get(mode).map(|entry| (mode, entry)))
            .filter(move |(_, entry)| entry.in_force(day))
    }
}

/// A named entry of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the policy; in every log line, reply and metric.
    pub name: String,
    /// Free text.
    pub comment: Option<String>,
    /// Whether, why and how long its keys are exempt.
    pub exemption: Option<Exemption>,
    /// What it demands.
    pub modes: Modes,
    /// sendmail's `SKIP`: its keys end the search among keys of their kind (names, networks), and the next
    /// kind is tried. It demands nothing then.
    pub skip: bool,
}

impl Rule {
    /// Whether the rule says anything on that day. One that does not (its exemption has lapsed, its modes
    /// are still to come) is as if it were not there, so that it does not shadow a less specific key.
    pub fn standing(&self, day: Day) -> Standing {
        if self.skip {
            Standing::Skips
        } else if self.exemption.as_ref().is_some_and(|exemption| exemption.holds(day))
            || self.modes.in_force(day).next().is_some()
        {
            Standing::InForce
        } else {
            Standing::Absent
        }
    }
}

/// What a rule is to one who looks it up on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It decides.
    InForce,
    /// It is as if it were not there: the next key is tried.
    Absent,
    /// The next kind of key is tried ([`Rule::skip`]).
    Skips,
}

/// Who is never judged, whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    /// Clients that have authenticated (SMTP AUTH).
    pub authenticated: bool,
    /// Clients (or servers) in these networks.
    pub networks: Vec<Network>,
    /// Recipients: a local part at whatever domain, or a full address. In lower case.
    pub recipients: Vec<String>,
}

impl Default for Exempt {
    fn default() -> Self {
        Self {
            authenticated: true,
            networks: vec![Network::LOOPBACK_V4, Network::LOOPBACK_V6],
            recipients: vec!["postmaster".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_reads_as_it_is_written() {
        for (seconds, text) in [(0, "0s"), (14_400, "4h"), (129_600, "1d 12h"), (90_061, "1d 1h 1m 1s")] {
            assert_eq!(Delay(seconds).to_string(), text);
        }
    }

    #[test]
    fn an_exemption_holds_to_the_end_of_its_last_day() {
        let exemption = Exemption { until: Some(Day(10)), ..Exemption::default() };
        assert!(exemption.holds(Day(10)) && !exemption.holds(Day(11)));
    }
}
