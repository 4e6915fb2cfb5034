//! Mail that leaves: sendmail's outbound rulesets ask over a socket map, and are answered by the same policy.
//!
//! A delivering process of sendmail keeps one connection and asks on it time and again: about a connection to a
//! server when STARTTLS is over or was not offered (`tls_server`), and about each recipient (`tls_rcpt`).
//!
//! Promises: each question is judged by the policy in force, and answered, or the connection ends; one that is
//! not understood is told in the log, and is no refusal. Every refusal has a record. What passes has one for each
//! message and server (no recipient) where the policy judges no recipients of deliveries, else one for each
//! recipient.

use crate::environment::{Environment, timed};
use crate::listener::ConnectionError;
use crate::listener::conversation::{Next, converse};
use crate::policy::attempt::Attempt;
use crate::policy::decide::{Decision, Disposition, Envelope, decide};
use crate::policy::facts::{self, Direction, Facts};
use crate::policy::negotiated::Negotiated;
use crate::policy::record::Record;
use crate::policy::{Day, Policy};
use crate::sendmail::socket_map::{Answer, Fault, Request, netstring};
use bytes::Buf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// A question has some 300 bytes. Kept per connection, so kept small.
const READ_BUFFER: usize = 1024;

/// Of so many servers of one message it is known that they have their record; no message is tried at more.
const SERVERS: usize = 256;

/// Serves one connection to its end. `idle` is how long the MTA may be silent.
pub async fn serve<S>(
    mut stream: S,
    environment: &impl Environment,
    drain: watch::Receiver<bool>,
    idle: Duration,
) -> Result<(), ConnectionError<Fault>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut asking = Asking::default();
    converse(&mut stream, drain, idle, READ_BUFFER, |input, output| {
        while let Some((content, length)) = netstring(input)? {
            timed(environment, Direction::Outbound, || asking.answer(content, environment, output));
            input.advance(length);
        }
        Ok(Next::Idle)
    })
    .await
}

/// What has to be known from one question to the next.
#[derive(Debug, Default)]
struct Asking {
    /// The message that was last asked about, and the servers for which it has its record.
    message: Vec<u8>,
    recorded: Vec<Vec<u8>>,
    /// Whether it was said that the questions are not understood.
    told: bool,
}

impl Asking {
    fn answer(&mut self, content: &[u8], environment: &impl Environment, out: &mut Vec<u8>) {
        match Request::parse(content) {
            Some(request) => self.decide(&request, environment, out),
            None => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        question = %facts::text(content.get(..content.len().min(200)).unwrap_or_default()),
                        "a question that is not understood: is the sendmail-outbound.mc in use that of this version?"
                    );
                }
                Answer::NotUnderstood.write(out);
            }
        }
    }

    fn decide(&mut self, request: &Request<'_>, environment: &impl Environment, out: &mut Vec<u8>) {
        let policy = environment.policy();
        let told = request.told();
        let facts = Facts::outbound(&told);
        // A delivery to a program of this host (LMTP) is asked about as well, and has no address.
        if facts.peer_addr.is_some() && facts.peer_ip.is_none() {
            return Answer::NotFound.write(out);
        }
        let recipient = request.recipient.as_deref().map(facts::text);
        let mut envelope = Envelope { recipient: recipient.as_deref(), ..Envelope::default() };
        let now = environment.now();
        let day = Day::of_unix_seconds(now.as_second());
        let mut decision = decide(&policy, &facts, envelope, day);
        if decision.wants_names && !request.has_names {
            return Answer::Names.write(out);
        }
        // Asked once for each connection, when STARTTLS is over or was not offered.
        if request.recipient.is_none() {
            environment.session(Direction::Outbound, Negotiated::of(&facts));
        }
        if let Some(delay) = decision.max_delay {
            envelope.waited = Some(environment.waited(Attempt::of(&facts, envelope), delay, now));
            decision = decide(&policy, &facts, envelope, day);
        }
        if let Some(envelope) = self.settled(&policy, request, &decision, envelope) {
            let record = Record::new(now, &facts, envelope, &decision, policy.fingerprint());
            environment.record(&facts, &decision, &record);
        }
        decision.reply().as_ref().map_or(Answer::NotFound, Answer::Refuse).write(out);
    }

    /// What is settled by the answer, and so has a record: a recipient, or the message as a whole.
    fn settled<'e>(
        &mut self,
        policy: &Policy,
        request: &Request<'_>,
        decision: &Decision<'_>,
        envelope: Envelope<'e>,
    ) -> Option<Envelope<'e>> {
        let refused = decision.disposition != Disposition::Accept;
        if policy.judges_deliveries() {
            return (refused || envelope.recipient.is_some()).then_some(envelope);
        }
        // An exempt recipient says nothing of the others.
        if refused || (decision.settled && envelope.recipient.is_some()) {
            return Some(envelope);
        }
        // Of a connection that is kept for a second message only its recipients are asked about: the first stands
        // for the message. One process may keep several connections.
        let told = request.told();
        let message = told.queue_id.unwrap_or_default();
        if self.message != message {
            self.message = message.to_vec();
            self.recorded.clear();
        }
        let server = [told.peer_name, told.peer_addr].map(Option::unwrap_or_default).join(&b' ');
        let known = self.recorded.contains(&server);
        if known && envelope.recipient.is_some() {
            return None;
        }
        if !known {
            // Whoever goes on asking costs records, not memory.
            if self.recorded.len() >= SERVERS {
                self.recorded.clear();
            }
            self.recorded.push(server);
        }
        Some(Envelope { recipient: None, ..envelope })
    }
}
