//! What came of it: as a table, and as JSON. A ratio stands beside what the project asks of it.

use serde_json::{Value, json};

/// What a server came to under a load: medians of its turns.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) server: String,
    pub(crate) connections: usize,
    /// `session` or `message`.
    pub(crate) per: &'static str,
    pub(crate) a_second: f64,
    /// Microseconds of processor time for each.
    pub(crate) used: f64,
    /// The same of the load itself.
    pub(crate) own: f64,
    /// Milliseconds of decisions that were not written yet at the end of a turn.
    pub(crate) behind: f64,
    /// Microseconds in which half of the MAILs, and in which all but a hundredth were answered.
    pub(crate) half: f64,
    pub(crate) most: f64,
}

/// What is asked of a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::Below(bound) => format!("< {bound}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ratio {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Nothing where nothing is asked.
    pub(crate) bound: Option<Bound>,
}

/// What came of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    /// What does not fit a table.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| text.extend([words.trim_end(), "\n"]);
        if !self.rows.is_empty() {
            line(format!(
                "{:<9} {:<22} {:>6} {:>10} {:>8} {:>10} {:>10} {:>10} {:>8}",
                "scenario",
                "server",
                "conns",
                "a second",
                "CPU us",
                "MAIL p50",
                "p99 us",
                "behind ms",
                "load us"
            ));
        }
        for row in &self.rows {
            let Row { scenario, server, connections, a_second, used, half, most, behind, own, .. } = row;
            line(format!(
                "{scenario:<9} {server:<22} {connections:>6} {a_second:>10.0} {used:>8.1} {half:>10.0} {most:>10.0} {behind:>10.0} \
                 {own:>8.1}"
            ));
        }
        self.notes.iter().cloned().for_each(&mut line);
        for Ratio { name, value, bound } in &self.ratios {
            let asked = bound.map_or_else(String::new, |bound| {
                format!("{}, {}", bound.words(), if bound.is_met(*value) { "met" } else { "NOT MET" })
            });
            line(format!("  {name:<75} {value:>8.2}  {asked}"));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "scenario": row.scenario,
                    "server": row.server,
                    "connections": row.connections,
                    "per": row.per,
                    "a_second": row.a_second,
                    "cpu_us": row.used,
                    "behind_ms": row.behind,
                    "load_cpu_us": row.own,
                    "mail_p50_us": row.half,
                    "mail_p99_us": row.most,
                })
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|ratio| {
                json!({
                    "name": ratio.name,
                    "value": ratio.value,
                    "target": ratio.bound.map(Bound::words),
                    "met": ratio.bound.map(|bound| bound.is_met(ratio.value)),
                })
            })
            .collect();
        json!({ "rows": rows, "ratios": ratios, "notes": self.notes })
    }
}

/// The one in the middle.
pub(crate) fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut of: Vec<f64> = of.collect();
    of.sort_by(f64::total_cmp);
    match of.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => of[odd / 2],
        even => f64::midpoint(of[even / 2 - 1], of[even / 2]),
    }
}
