//! What answering needs of the world: a policy that stays, a time that stands still, and records that can be looked at.

use encr_milter::environment::Environment;
use encr_milter::policy::Policy;
use encr_milter::policy::attempt::Attempt;
use encr_milter::policy::decide::{Decision, Disposition};
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::{Delay, Mode};
use std::cell::RefCell;
use std::sync::Arc;

/// What a record said, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub recipient: bool,
    pub disposition: Disposition,
    pub mode: Option<Mode>,
    pub reply: Option<String>,
    /// The line of JSON.
    pub json: Vec<u8>,
}

/// The world of one connection.
pub struct World {
    policy: Arc<Policy>,
    /// For how many seconds every message has been tried.
    waited: u32,
    records: RefCell<Vec<Seen>>,
}

impl World {
    pub fn new(policy: &Arc<Policy>, waited: u32) -> Self {
        Self { policy: Arc::clone(policy), waited, records: RefCell::default() }
    }

    /// How many records there are so far.
    pub fn count(&self) -> usize {
        self.records.borrow().len()
    }

    /// All records, in order.
    pub fn records(self) -> Vec<Seen> {
        self.records.into_inner()
    }
}

impl Environment for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    fn now(&self) -> jiff::Timestamp {
        crate::now()
    }

    fn waited(&self, _: Option<Attempt>, _: Delay, _: jiff::Timestamp) -> u32 {
        self.waited
    }

    fn record(&self, _: &Facts<'_>, decision: &Decision<'_>, record: &Record<'_>) {
        crate::check::decision(decision);
        let json = crate::check::record(record, &self.policy);
        self.records.borrow_mut().push(Seen {
            recipient: record.recipient.is_some(),
            disposition: decision.disposition,
            mode: decision.mode,
            reply: decision.reply().map(|reply| reply.wire()),
            json,
        });
    }
}
