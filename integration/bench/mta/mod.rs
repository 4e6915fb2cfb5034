//! A private sm-mta, with and without something that judges: by turns, with the same clients.
//!
//! `variant` has what is compared, `clients` the SMTP sessions, `turns` what they cost, `latency` how long a MAIL takes.
//! Promises: every reply is held against what it must be, in every variant; one that is wrong ends the run.

pub(crate) mod clients;
pub(crate) mod latency;
pub(crate) mod report;
pub(crate) mod turns;
pub(crate) mod variant;

use std::time::Duration;

use openssl::ssl::SslContext;
use serde_json::{Value, json};

use crate::rig::smtp::{Tls, context};
use crate::rig::{Result, Rig};
use latency::Latencies;
use turns::Measured;
use variant::{Kind, Variant};

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The keys of the policy, and of the access map.
    pub(crate) keys: usize,
    /// Clients at once.
    pub(crate) clients: usize,
    /// How often each variant has its turn.
    pub(crate) turns: usize,
    /// How long a turn lasts.
    pub(crate) turn: Duration,
    /// Sessions of one client by which a MAIL is timed, for each way to attach.
    pub(crate) timed: usize,
    /// What is compared.
    pub(crate) kinds: Vec<Kind>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) measured: Vec<Measured>,
    pub(crate) latencies: Vec<Latencies>,
}

/// Plays it.
pub(crate) fn play(rig: &Rig, plan: &Plan) -> Result<Outcome> {
    // The best that both can: the strength of nearly all mail.
    let tls = context(&Tls::default(), &rig.certs)?;
    let folder = tempfile::Builder::new().prefix("mta").tempdir().map_err(|e| format!("a folder: {e}"))?;
    let keys = keys(plan.keys);
    let lay_out = |kind: &Kind| Variant::start(rig, folder.path(), *kind, &keys);
    let mut variants = plan.kinds.iter().map(lay_out).collect::<Result<Vec<_>>>()?;
    let measured = turns::by_turns(&variants, plan, &tls)?;
    for variant in &mut variants {
        let held: u64 = measured.iter().filter(|one| one.kind == variant.kind).map(|one| one.held).sum();
        match variant.end()? {
            Some(written) if written != held => {
                return Err(format!("{held} sessions, and {written} decisions were written down"));
            }
            _ => {}
        }
    }
    drop(variants);
    let latencies = latency::measure(rig, folder.path(), &keys, plan, &tls)?;
    Ok(Outcome { measured, latencies })
}

/// One session's context is as good as another's.
pub(crate) type Context = SslContext;

/// The keys: names of two and of three labels, the clients' own domain in their middle.
fn keys(count: usize) -> Vec<String> {
    let name = |n: usize| match n {
        _ if n == count / 2 => clients::DOMAIN.to_owned(),
        _ if n.is_multiple_of(2) => format!("company{n}.example"),
        _ => format!("mail{n}.provider{}.example", n % 1000),
    };
    (0..count).map(name).collect()
}

impl Outcome {
    /// All of it, for a program to read.
    pub(crate) fn json(&self, plan: &Plan) -> Value {
        json!({
            "keys": plan.keys,
            "clients": plan.clients,
            "turns": plan.turns,
            "turn_seconds": plan.turn.as_secs_f64(),
            "sessions": self.measured.iter().map(Measured::json).collect::<Vec<_>>(),
            "mail": self.latencies.iter().map(Latencies::json).collect::<Vec<_>>(),
            "targets": report::targets(self).iter().map(report::Target::json).collect::<Vec<_>>(),
        })
    }
}
