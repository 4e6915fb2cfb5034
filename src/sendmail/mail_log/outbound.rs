//! Deliveries to servers: from `STARTTLS=client`, refusals of our own and `to=` to the records of deliveries.

use super::entry::{self, Refused, Ruleset, TlsEntry, To};
use super::facts::{Known, Outbound};
use super::queue_id::QueueId;
use super::relay;
use super::state::{Connection, SILENCE};
use super::{Joiner, Place};
use crate::policy::facts::{Direction, handshake_failure, says_tls, text};
use crate::policy::record::Record;
use jiff::SignedDuration;
use memchr::memmem;

/// `{verify}` where the server does not offer STARTTLS.
const NOT_OFFERED: &str = "NONE";
/// `{verify}` where the handshake failed.
const HANDSHAKE_FAILED: &str = "SOFTWARE";
/// What `stat=` says where a session broke off, or none came about.
const BROKEN: [&[u8]; 3] = [b"Connection timed out", b"Operation timed out", b"Connection reset"];
/// What it says where there was none.
const NO_SESSION: [&[u8]; 8] = [
    b"Connection refused",
    b"No route to host",
    b"unreachable",
    b"Host is down",
    b"Host unknown",
    b"host name lookup",
    b"Host not found",
    b"Name server",
];

impl Joiner {
    pub(super) fn client_tls(&mut self, place: Place, entry: &TlsEntry<'_>) {
        let known = Known::Tls(self.suites.tls(entry));
        let deliveries = self.process(place).deliveries();
        deliveries.failed = false;
        deliveries.connect(relay::without_dot(entry.relay), known, true);
    }

    /// A connection is ready: without a handshake before, it is in the clear.
    pub(super) fn ready(&mut self, place: Place, relay: &[u8]) {
        let server = relay::without_dot(relay);
        let deliveries = self.process(place).deliveries();
        deliveries.failed = false;
        match deliveries.find_mut(server) {
            Some(one) if one.fresh => one.fresh = false,
            _ => deliveries.connect(server, in_the_clear(NOT_OFFERED), false),
        }
    }

    /// Our own rules refused a server, or a recipient with it.
    pub(super) fn server_refused(&mut self, place: Place, refused: &Refused<'_>) {
        let server = relay::without_dot(refused.relay);
        let bits = entry::told(refused.text).bits;
        let deliveries = self.process(place).deliveries();
        let connection = deliveries.find_mut(server);
        if refused.ruleset == Ruleset::TlsRcpt {
            let known = match bits {
                Some(0) => in_the_clear(NOT_OFFERED),
                bits => Known::Told { verify: None, bits },
            };
            if connection.is_none() && bits.is_some() {
                deliveries.connect(server, known, false);
            }
            return;
        }
        deliveries.failed = false;
        let verify = text(refused.about);
        let same = |one: &Connection| match &one.known {
            Known::Tls(tls) => tls.verify() == Some(&*verify),
            _ => false,
        };
        let done = entry::done(refused.text);
        let is_known = deliveries.find_mut(server).is_some_and(|one| same(one));
        let known = if says_tls(Direction::Outbound, &verify) {
            Known::Told { verify: Some(verify.into()), bits: bits.filter(|bits| *bits > 0) }
        } else {
            in_the_clear(&verify)
        };
        if !is_known {
            deliveries.connect(server, known, false);
        }
        if let Some(connection) = deliveries.find_mut(server) {
            connection.done = done;
        }
    }

    /// Delivery was tried, or given up before it was.
    pub(super) fn to(&mut self, place: Place, to: &To<'_>, emit: &mut impl FnMut(&Record<'_>)) {
        let Some(queue_id) = to.queue_id else { return };
        if place.submission {
            self.tally.local_deliveries += 1;
            return;
        }
        if self.options.recipients {
            for recipient in entry::addresses(to.recipients) {
                if to.mailer.is_empty() {
                    self.given_up(place, queue_id, recipient);
                } else {
                    self.recipient(place, queue_id, recipient, emit);
                }
            }
        }
        // `stat=queued`: it was not tried. Without a mailer there was nothing to try.
        if to.mailer.is_empty() || to.outcome == b"stat=queued" {
            return;
        }
        let (shown, address) = relay::server(to.relay);
        let Some(address) = address else {
            // The name of a host has its dot, that of a mailbox has none.
            let host =
                to.relay.ends_with(b".") || (!to.relay.is_empty() && (never_began(to) || broke_off(to)));
            *(if host { &mut self.tally.without_session } else { &mut self.tally.local_deliveries }) += 1;
            return;
        };
        // sendmail hands it to the MTA of this host.
        if to.mailer == b"relay" && relay::address(address).is_some_and(|(_, ip)| ip.is_loopback()) {
            self.tally.local_deliveries += 1;
            return;
        }
        self.delivery(place, queue_id, to, shown, address, emit);
    }

    fn delivery(
        &mut self,
        place: Place,
        queue_id: QueueId,
        to: &To<'_>,
        shown: &[u8],
        address: &[u8],
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        let Some((known, server)) = self.delivery_known(place, queue_id, to, shown) else {
            self.tally.without_session += 1;
            return;
        };
        let server = server.or_else(|| (!relay::is_cut(shown)).then(|| shown.into()));
        if server.is_none() {
            self.tally.servers_cut += 1;
        }
        let each = self.options.deliveries;
        let deliveries = self.process(place).deliveries();
        // What was sent, our rules let through.
        let refused = !to.dsn.starts_with(b"2.");
        let done = deliveries.find(shown).and_then(|connection| connection.done).filter(|_| refused);
        let first = deliveries.record(queue_id, to.relay);
        let Some(host) = self.hosts.get(place.host as usize) else { return };
        let outbound = Outbound {
            at: place.at,
            host: &host.name,
            queue_id: queue_id.as_str(),
            server: server.as_deref(),
            address,
            known: &known,
            done,
        };
        let mut give = |recipient| {
            self.tally.outbound.add(&known);
            emit(&outbound.record(recipient));
        };
        if each {
            entry::addresses(to.recipients).for_each(|recipient| give(Some(recipient)));
        } else if first {
            give(None);
        }
    }

    /// What is known of the session of this delivery, and the server's whole name if that stands elsewhere; nothing where
    /// there was no session.
    fn delivery_known(
        &mut self,
        place: Place,
        queue_id: QueueId,
        to: &To<'_>,
        shown: &[u8],
    ) -> Option<(Known, Option<Box<[u8]>>)> {
        let host = self.hosts.get(place.host as usize)?;
        let (of_this_run, tells) = (host.is_of_this_run(queue_id), host.tells_handshakes);
        let since = entry::duration(to.took)
            .and_then(|took| place.at.checked_sub(SignedDuration::from_secs(took)).ok());
        // A connection that is kept for later is dropped within minutes.
        let begun_later = since.is_some_and(|since| since.duration_since(host.begun) > SILENCE);
        let deliveries = self.process(place).deliveries();
        deliveries.young |= of_this_run;
        // The process may have had another session with this server before.
        if never_began(to) {
            return None;
        }
        if let Some(connection) = deliveries.find(shown) {
            return Some((connection.known.clone(), Some(connection.server.clone())));
        }
        if broke_off(to) {
            return None;
        }
        let failed = std::mem::take(&mut deliveries.failed);
        let told = handshake_failure(HANDSHAKE_FAILED)
            .is_some_and(|words| says_any(to.outcome, &[words.as_bytes()]));
        if told {
            let verify = Some(HANDSHAKE_FAILED.into());
            return Some((Known::Told { verify, bits: None }, None));
        }
        // sendmail may go on in the clear after a handshake that failed: what was sent, was sent so.
        if failed && to.dsn.starts_with(b"2.") {
            return Some((in_the_clear(NOT_OFFERED), None));
        }
        let known_begun = deliveries.young || (begun_later && !deliveries.may_be_older(shown));
        if !known_begun {
            deliveries.mark_older(shown);
            return Some((Known::Nothing, None));
        }
        Some((
            if tells && !failed && reached_mail(to.dsn) { in_the_clear(NOT_OFFERED) } else { Known::Nothing },
            None,
        ))
    }
}

fn in_the_clear(verify: &str) -> Known {
    Known::Clear { verify: Some(verify.into()) }
}

/// Whether the outcome shows that the session came to MAIL and RCPT: it was sent, or an address was refused (RFC 3463
/// classes X.1 and X.2). Of what fails otherwise nobody knows whether it came as far as STARTTLS.
fn reached_mail(dsn: &[u8]) -> bool {
    dsn.starts_with(b"2.") || matches!(dsn, [b'4' | b'5', b'.', b'1' | b'2', b'.', ..])
}

/// Whether no session came about.
fn never_began(to: &To<'_>) -> bool {
    !has_reply(to) && says_any(to.outcome, &NO_SESSION)
}

/// Whether a session broke off, if there was one.
fn broke_off(to: &To<'_>) -> bool {
    !has_reply(to) && says_any(to.outcome, &BROKEN)
}

/// Whether the server said something, which can be anything: then there was a session.
fn has_reply(to: &To<'_>) -> bool {
    to.outcome.starts_with(b"reply=") || to.dsn.starts_with(b"2.")
}

fn says_any(text: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| memmem::find(text, word).is_some())
}
