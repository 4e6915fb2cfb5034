//! One SMTP client's connection, as the MTA reports it: what is said to each MAIL and RCPT.
//!
//! Promises: each message is judged by what was told with its own MAIL, and by one policy from MAIL to its
//! end. One record for a message whose fate is settled at MAIL, one for each recipient that is judged at
//! RCPT, one at the end of a transaction that would have been refused but named no recipient. Knows no
//! frames, no sockets, no clock: an [`Environment`] has them.

use super::{macros, mta};
use crate::environment::Environment;
use crate::policy::attempt::Attempt;
use crate::policy::decide::{Decision, Disposition, Envelope, decide};
use crate::policy::facts::{self, Direction};
use crate::policy::negotiated::Negotiated;
use crate::policy::record::Record;
use crate::policy::reply::Reply;
use crate::policy::{Day, Policy};
use bytes::Bytes;
use std::sync::Arc;

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on, and ask for the recipients.
    Continue,
    /// Nothing more to say of this message.
    Accept,
    /// Refuse this recipient.
    Refuse(Reply),
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Session {
    /// What was told for the MAIL that comes next. Taken by it, so that nothing of it is left for another.
    macros: Option<Bytes>,
    /// The same for RCPT. We ask for none there, and Postfix sends the queue id, which it has only now.
    rcpt_macros: Option<Bytes>,
    transaction: Option<Transaction>,
    /// What was negotiated by the last MAIL: STARTTLS may come between two.
    negotiated: Option<Negotiated>,
}

/// From a MAIL that could not be settled to the end of its message.
#[derive(Debug)]
struct Transaction {
    policy: Arc<Policy>,
    macros: Bytes,
    /// Those of the RCPT that is being judged.
    rcpt_macros: Bytes,
    sender: Bytes,
    /// Whether it would be refused whatever the recipient (but for an exempt one).
    refused: bool,
    named_recipient: bool,
}

impl Session {
    /// Whether a message is under way whose fate is open.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Macros that were told for MAIL; the pairs of names and values as they came.
    pub fn macros_for_mail(&mut self, payload: Bytes) {
        self.macros = Some(payload);
    }

    /// Macros that were told for RCPT.
    pub fn macros_for_rcpt(&mut self, payload: Bytes) {
        self.rcpt_macros = Some(payload);
    }

    /// Another command came: what was told for a MAIL or a RCPT was not for one that comes later.
    pub fn forget_macros(&mut self) {
        self.macros = None;
        self.rcpt_macros = None;
    }

    /// MAIL, with its first argument.
    pub fn mail(&mut self, environment: &impl Environment, sender: Bytes) -> Answer {
        self.end(environment);
        let macros = self.macros.take().unwrap_or_default();
        self.forget_macros();
        let policy = environment.policy();
        let mut transaction = Transaction {
            policy,
            macros,
            rcpt_macros: Bytes::new(),
            sender,
            refused: false,
            named_recipient: false,
        };
        let (judged, negotiated) = transaction.judge(environment, None);
        if let Some(negotiated) = negotiated
            && self.negotiated.replace(negotiated) != Some(negotiated)
        {
            environment.session(Direction::Inbound, negotiated);
        }
        match judged {
            Judged::Settled => Answer::Accept,
            Judged::Open(disposition) => {
                transaction.refused = disposition != Disposition::Accept;
                self.transaction = Some(transaction);
                Answer::Continue
            }
            // `judge` refuses recipients only.
            Judged::Refused(reply) => Answer::Refuse(reply),
        }
    }

    /// RCPT, with its first argument. One outside a transaction is none of our business.
    pub fn rcpt(&mut self, environment: &impl Environment, recipient: &[u8]) -> Answer {
        let macros = self.rcpt_macros.take().unwrap_or_default();
        self.forget_macros();
        let Some(transaction) = &mut self.transaction else { return Answer::Continue };
        transaction.named_recipient = true;
        transaction.rcpt_macros = macros;
        match transaction.judge(environment, Some(recipient)).0 {
            Judged::Refused(reply) => Answer::Refuse(reply),
            Judged::Settled | Judged::Open(_) => Answer::Continue,
        }
    }

    /// The end of a transaction, whichever: end of message, RSET, EHLO, another MAIL, QUIT, a cut.
    pub fn end(&mut self, environment: &impl Environment) {
        if let Some(transaction) = self.transaction.take()
            && transaction.refused
            && !transaction.named_recipient
        {
            transaction.record(environment);
        }
    }
}

enum Judged {
    Settled,
    Open(Disposition),
    Refused(Reply),
}

impl Transaction {
    /// Decides on the message (no recipient) or a recipient, and records what is thereby settled.
    fn judge(
        &self,
        environment: &impl Environment,
        recipient: Option<&[u8]>,
    ) -> (Judged, Option<Negotiated>) {
        let for_all = recipient.is_none();
        self.decide(environment, recipient, |decision| {
            let accepted = decision.disposition == Disposition::Accept;
            !for_all || decision.settled || (accepted && !self.policy.judges_recipients())
        })
    }

    /// Records what would have been done had a recipient been named.
    fn record(&self, environment: &impl Environment) {
        self.decide(environment, None, |_| true);
    }

    fn decide(
        &self,
        environment: &impl Environment,
        recipient: Option<&[u8]>,
        is_settled: impl Fn(&Decision<'_>) -> bool,
    ) -> (Judged, Option<Negotiated>) {
        let mut told = macros::told(&self.macros);
        told.queue_id = told.queue_id.or_else(|| macros::told(&self.rcpt_macros).queue_id);
        // Without a session there is nothing to judge, and nothing to record.
        let Some(facts) = mta::facts(&told) else { return (Judged::Settled, None) };
        let negotiated = Some(Negotiated::of(&facts));
        let sender = facts::text(&self.sender);
        let recipient = recipient.map(facts::text);
        let mut envelope =
            Envelope { sender: Some(&sender), recipient: recipient.as_deref(), ..Envelope::default() };
        let now = environment.now();
        let day = Day::of_unix_seconds(now.as_second());
        let mut decision = decide(&self.policy, &facts, envelope, day);
        // Which message it is that is tried again is known with its recipient.
        if let Some(delay) = decision.max_delay.filter(|_| envelope.recipient.is_some()) {
            envelope.waited = Some(environment.waited(Attempt::of(&facts, envelope), delay, now));
            decision = decide(&self.policy, &facts, envelope, day);
        }
        if !is_settled(&decision) {
            return (Judged::Open(decision.disposition), negotiated);
        }
        let record = Record::new(now, &facts, envelope, &decision, self.policy.fingerprint());
        environment.record(&facts, &decision, &record);
        (decision.reply().map_or(Judged::Settled, Judged::Refused), negotiated)
    }
}
