//! What was measured, as a table, and held against what it is to be.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::clients::Mix;
use super::latency::{Latencies, Way};
use super::turns::{median, ratio};
use super::variant::Kind;
use super::{Outcome, Plan};

/// What is to be reached, and what was.
pub(crate) struct Target {
    what: String,
    ratio: f64,
    at_most: f64,
}

impl Target {
    fn met(&self) -> bool {
        self.ratio <= self.at_most
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "what": self.what, "ratio": self.ratio, "at_most": self.at_most, "met": self.met() })
    }
}

pub(crate) fn targets(outcome: &Outcome) -> Vec<Target> {
    let mut targets = Vec::new();
    for mix in Mix::ALL {
        let of = |kind| outcome.measured.iter().find(|one| one.kind == kind && one.mix == mix);
        for (kind, name) in [(Kind::Ours, ""), (Kind::OursAlone, " and no map")] {
            if let (Some(ours), Some(map)) = (of(kind), of(Kind::AccessMap)) {
                let what =
                    format!("CPU of a session with encr-milter{name} / with the TLS_Clt map, {}", mix.name());
                targets.push(Target { what, ratio: ratio(ours, map), at_most: 1.0 });
            }
        }
    }
    for tls in [false, true] {
        for (name, of) in [("first", first as fn(&Latencies) -> f64), ("later", later)] {
            let took = |way| {
                let mut latencies = outcome.latencies.iter();
                latencies.find(|one| one.way == way && one.tls == tls).map(of)
            };
            if let (Some(tcp), Some(unix)) = (took(Way::Tcp), took(Way::Unix)) {
                let what = format!("MAIL over TCP / over a unix socket, {name}, {}", security(tls));
                targets.push(Target { what, ratio: tcp / unix, at_most: 2.0 });
            }
        }
    }
    targets
}

fn first(latencies: &Latencies) -> f64 {
    median(latencies.first.clone())
}

fn later(latencies: &Latencies) -> f64 {
    median(latencies.later.clone())
}

fn security(tls: bool) -> &'static str {
    if tls { "STARTTLS" } else { "in the clear" }
}

/// All of it, for people to read.
pub(crate) fn table(outcome: &Outcome, plan: &Plan) -> String {
    let mut text = format!(
        "Sessions with STARTTLS through a real sm-mta, {} clients at once, {} keys; medians of {} turns of {:?}; \
         \"to map\" is the median of the turns' ratios\n",
        plan.clients, plan.keys, plan.turns, plan.turn
    );
    let _ = writeln!(
        text,
        "{:<10} {:<16} {:>10} {:>11} {:>14} {:>12} {:>10} {:>10}",
        "mix", "variant", "sessions", "sessions/s", "sendmail, µs", "milter, µs", "sum, µs", "to map"
    );
    for measured in &outcome.measured {
        let map = outcome.measured.iter().find(|one| one.kind == Kind::AccessMap && one.mix == measured.mix);
        let _ = writeln!(
            text,
            "{:<10} {:<16} {:>10} {:>11.0} {:>14.0} {:>12.0} {:>10.0} {:>10}",
            measured.mix.name(),
            measured.kind.name(),
            measured.turns.iter().map(|turn| turn.sessions).sum::<u64>(),
            measured.rate(),
            measured.median(|turn| turn.sendmail),
            measured.median(|turn| turn.milter),
            measured.sum(),
            map.map_or_else(String::new, |map| format!("{:.3}", ratio(measured, map)))
        );
    }
    let _ = writeln!(text, "\nMAIL to its reply, one client, medians, µs");
    let _ = writeln!(text, "{:<20} {:<14} {:>10} {:>10}", "attached", "", "first", "later");
    for one in &outcome.latencies {
        let (first, later) = (first(one), later(one));
        let _ =
            writeln!(text, "{:<20} {:<14} {first:>10.0} {later:>10.0}", one.way.name(), security(one.tls));
    }
    text.push('\n');
    for target in targets(outcome) {
        let met = if target.met() { "met" } else { "NOT met" };
        let _ =
            writeln!(text, "{:<80} {:>6.3}, at most {:.1}: {met}", target.what, target.ratio, target.at_most);
    }
    text
}
