//! The benchmark with the real sm-mta (`bench/mta.rs`), with a second for each turn: every client is answered as it must be, whoever
//! judges, and every decision is written down. No time is held.

use std::time::Duration;

use serde_json::Value;

use crate::mta_bench::clients::Mix;
use crate::mta_bench::variant::Kind;
use crate::mta_bench::{Plan, play, report};
use crate::rig::{Result, Rig};

pub(crate) fn every_answer(rig: &Rig) -> Result<()> {
    let plan = Plan {
        keys: 1000,
        clients: 4,
        turns: 1,
        turn: Duration::from_secs(1),
        timed: 3,
        kinds: Kind::ALL.to_vec(),
    };
    let outcome = play(rig, &plan)?;
    let (table, json) = (report::table(&outcome, &plan), outcome.json(&plan));
    for kind in plan.kinds {
        for mix in Mix::ALL {
            let measured = outcome.measured.iter().find(|one| one.kind == kind && one.mix == mix);
            // More than a turn of those who come in the clear, so that some of them were refused.
            if measured.is_none_or(|measured| measured.held < 25) {
                return Err(format!("{}, {}: hardly a session\n{table}", kind.name(), mix.name()));
            }
        }
    }
    // What cannot be told as a number is null.
    let is_told = |part: &str| {
        let rows = json.get(part).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut values = rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::values);
        !rows.is_empty() && values.all(|value| !value.is_null())
    };
    if ["sessions", "mail", "targets"].into_iter().all(is_told) {
        Ok(())
    } else {
        Err(format!("not all was measured: {json:#}"))
    }
}
