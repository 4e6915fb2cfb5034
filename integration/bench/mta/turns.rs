//! What sessions cost, variant by variant, by turns.

use std::time::Instant;

use serde_json::{Value, json};

use super::clients::{Mix, hold};
use super::variant::{Kind, Variant};
use super::{Context, Plan};
use crate::rig::Result;

/// One turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) sessions: u64,
    /// Sessions in a second.
    pub(crate) rate: f64,
    /// Processor time of a session in µs: sendmail's, all its processes together.
    pub(crate) sendmail: f64,
    /// The milter's.
    pub(crate) milter: f64,
}

/// All turns of a variant with one mix.
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    pub(crate) mix: Mix,
    /// Sessions in all, those of the turn that is not counted among them.
    pub(crate) held: u64,
    pub(crate) turns: Vec<Turn>,
}

impl Measured {
    pub(crate) fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    pub(crate) fn rate(&self) -> f64 {
        self.median(|turn| turn.rate)
    }

    /// sendmail and milter together.
    pub(crate) fn sum(&self) -> f64 {
        self.median(|turn| turn.sendmail + turn.milter)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "variant": self.kind.name(),
            "mix": self.mix.name(),
            "sessions": self.turns.iter().map(|turn| turn.sessions).sum::<u64>(),
            "sessions_per_second": self.rate(),
            "cpu_us_sendmail": self.median(|turn| turn.sendmail),
            "cpu_us_milter": self.median(|turn| turn.milter),
            "cpu_us_sum": self.sum(),
            "cpu_us_sum_of_turns": self.turns.iter().map(|turn| turn.sendmail + turn.milter).collect::<Vec<_>>(),
        })
    }
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How much more the one costs than the other: of each turn, for what the machine does beside changes more from turn to
/// turn than they differ.
pub(crate) fn ratio(one: &Measured, other: &Measured) -> f64 {
    let sum = |turn: &Turn| turn.sendmail + turn.milter;
    median(one.turns.iter().zip(&other.turns).map(|(one, other)| sum(one) / sum(other)).collect())
}

/// Has every variant take its turn, again and again, forwards and backwards; the first turn of each, in which all is cold, is
/// not counted.
pub(crate) fn by_turns(variants: &[Variant], plan: &Plan, tls: &Context) -> Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = Mix::ALL
        .into_iter()
        .flat_map(|mix| {
            variants.iter().map(move |variant| Measured {
                kind: variant.kind,
                mix,
                held: 0,
                turns: Vec::new(),
            })
        })
        .collect();
    for turn in 0..=plan.turns {
        let mut order: Vec<_> = measured.iter_mut().enumerate().collect();
        if turn % 2 == 0 {
            order.reverse();
        }
        for (place, measured) in order {
            let Some(variant) = variants.get(place % variants.len()) else { continue };
            let taken = take(variant, measured.mix, plan, tls)
                .map_err(|fault| format!("{}, {}: {fault}", variant.kind.name(), measured.mix.name()))?;
            measured.held += taken.sessions;
            if turn > 0 {
                measured.turns.push(taken);
            }
        }
    }
    Ok(measured)
}

fn take(variant: &Variant, mix: Mix, plan: &Plan, tls: &Context) -> Result<Turn> {
    let (before, begun) = (variant.used()?, Instant::now());
    let sessions = hold(&variant.sendmail, tls, plan.clients, mix, variant.kind.judges(), plan.turn)?;
    let took = begun.elapsed();
    variant.rest()?;
    let after = variant.used()?;
    let of_one = |time: std::time::Duration| time.as_secs_f64() * 1e6 / sessions as f64;
    Ok(Turn {
        sessions,
        rate: sessions as f64 / took.as_secs_f64(),
        sendmail: of_one(after.0.saturating_sub(before.0)),
        milter: of_one(after.1.saturating_sub(before.1)),
    })
}
