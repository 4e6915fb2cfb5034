//! The policy to begin with: that of the files, or the last good one.
//!
//! Promises: with a broken file the daemon begins with what was last good, and says so; without either not at all.

use super::{
    Cause, Ending, InForce, Origin, Outcome, PAUSE, Signature, TRIES, last_good, load_whole, tell,
    tell_unasked, today,
};
use crate::daemon_file::DaemonFile;
use crate::policy::Policy;
use std::time::Instant;

/// No policy: the file is broken, and there is no last good one.
#[derive(Debug, thiserror::Error)]
#[error("there is no policy to begin with")]
pub struct NoPolicy;

/// What the daemon begins with.
#[derive(Debug)]
pub struct Beginning {
    /// The policy.
    pub policy: Policy,
    /// Where it comes from.
    pub origin: Origin,
    /// What came of loading it.
    pub outcome: Outcome,
}

/// Loads the policy to begin with: that of the files, or the last good one. Tells the log.
pub fn begin(daemon: &DaemonFile) -> Result<Beginning, NoPolicy> {
    let begun = Instant::now();
    let mut outcome = Outcome::new(Ending::Unsettled, Cause::Start, None);
    let unread = || Origin { signature: Signature::default(), lists: Vec::new(), unkept: None };
    let mut read = load_whole(&daemon.policy);
    for _ in 0..TRIES {
        if read.is_some() {
            break;
        }
        std::thread::sleep(PAUSE);
        read = load_whole(&daemon.policy);
    }
    let origin = match read {
        None => {
            tracing::error!("the policy's files change faster than they can be read");
            unread()
        }
        Some((mut loaded, mut origin)) => {
            tell(&loaded);
            if let Some(policy) = loaded.policy.take() {
                tracing::info!(policy = %policy.fingerprint(), rules = policy.rules().len(), "policy in force");
                tell_unasked(daemon, &policy, &mut loaded.diagnostics);
                outcome.found(&loaded.diagnostics, &loaded.sources);
                let kept = last_good::Kept::of(&loaded.sources, loaded.policy_files);
                origin.unkept = last_good::save(&daemon.state, kept);
                return Ok(outcome.ends(Ending::InForce, begun, policy, origin));
            }
            outcome.found(&loaded.diagnostics, &loaded.sources);
            origin
        }
    };
    let state = daemon.state.display();
    match last_good::load(&daemon.state, today()) {
        Some(policy) => {
            tracing::error!(
                policy = %policy.fingerprint(), %state,
                "the policy's files are broken: beginning with the last good policy of the state folder"
            );
            outcome.notes.push(format!("the daemon began with the last good policy, kept in {state}"));
            let ending = if outcome.errors > 0 { Ending::Refused } else { Ending::Unsettled };
            Ok(outcome.ends(ending, begun, policy, origin))
        }
        None => {
            tracing::error!(%state, "the policy's files are broken, and the state folder has no last good policy");
            Err(NoPolicy)
        }
    }
}

impl Outcome {
    fn ends(mut self, ending: Ending, begun: Instant, policy: Policy, origin: Origin) -> Beginning {
        self.outcome = ending;
        self.policy = Some(InForce::of(&policy));
        self.ended(begun);
        self.since = Some(self.at);
        Beginning { policy, origin, outcome: self }
    }

    pub(super) fn ended(&mut self, begun: Instant) {
        self.at = jiff::Timestamp::now();
        self.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    }
}
