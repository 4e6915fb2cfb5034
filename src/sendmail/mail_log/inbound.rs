//! Sessions of clients: from `STARTTLS=server`, `AUTH=server`, refusals and `from=` to the records of messages.

use super::entry::{self, From, Refused, Ruleset, Side, TlsEntry};
use super::facts::{Auth, Inbound, Known};
use super::queue_id::QueueId;
use super::relay::{self, Client};
use super::scan::before;
use super::state::{Message, MessageKey, Process, Refusal};
use super::{Joiner, MAX_UNDATED, Place};
use crate::policy::facts::{bare_address, text};
use crate::policy::record::Record;
use std::sync::Arc;

/// A session's first queue id is made when it begins. So much later than that no entry of an earlier one can be of it, by
/// whatever clocks.
const APART: i64 = 60;

impl Joiner {
    /// A session begins, and whatever the process id stood for before is over.
    pub(super) fn connected(&mut self, place: Place, relay: &[u8]) {
        let mut process = Process { last: place.at, ..Process::default() };
        if Client::of(relay).is_some() {
            process.session(relay, place.at).whole = true;
        }
        self.processes.insert(place.process, process);
    }

    pub(super) fn process(&mut self, place: Place) -> &mut Process {
        let process = self.processes.get_or_insert(place.process, Process::default);
        process.last = place.at;
        process
    }

    pub(super) fn server_tls(&mut self, place: Place, entry: &TlsEntry<'_>) {
        let tls = self.suites.tls(entry);
        let session = self.process(place).session(entry.relay, place.at);
        if session.tls.replace(tls).is_some() {
            // A session has one handshake: this is another session of the same client.
            session.auth = None;
            session.since = place.at;
        }
    }

    pub(super) fn names_of(&mut self, place: Place, side: Side, subject: &[u8], issuer: &[u8]) {
        let process = self.process(place);
        let tls = match side {
            Side::Server => process.session.as_mut().and_then(|session| session.tls.as_mut()),
            Side::Client => process.deliveries().last_mut().and_then(|one| match &mut one.known {
                Known::Tls(tls) => Some(tls),
                _ => None,
            }),
        };
        if let Some(tls) = tls {
            Arc::make_mut(tls).name(subject, issuer);
        }
    }

    pub(super) fn authenticated(&mut self, place: Place, relay: &[u8], auth: Auth) {
        if Client::of(relay).is_some() {
            self.process(place).session(relay, place.at).auth = Some(Arc::new(auth));
        }
    }

    pub(super) fn handshake_failed(&mut self, place: Place, side: Side) {
        self.tally.failed_handshakes += 1;
        if side == Side::Client {
            self.process(place).deliveries().failed = true;
        }
    }

    pub(super) fn refused(
        &mut self,
        place: Place,
        refused: &Refused<'_>,
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        match (refused.ruleset, refused.queue_id) {
            (Ruleset::TlsServer | Ruleset::TlsRcpt, _) => self.server_refused(place, refused),
            (Ruleset::TlsClient, None) => self.session_refused(place, refused, emit),
            (Ruleset::TlsClient, Some(_)) | (_, None) => {}
            (Ruleset::CheckMail | Ruleset::CheckRcpt, Some(queue_id)) => {
                let about_tls = entry::is_about_tls(refused.text);
                // A recipient that was refused for another reason is none that a milter sees.
                if refused.ruleset == Ruleset::CheckMail || about_tls {
                    self.message_refused(place, queue_id, refused, about_tls, emit);
                }
            }
        }
    }

    /// sendmail's own rules refused the session after its handshake: there is no message.
    fn session_refused(&mut self, place: Place, refused: &Refused<'_>, emit: &mut impl FnMut(&Record<'_>)) {
        let known = match self.session_known(place, refused.relay) {
            (Known::Nothing, _) => {
                Known::Told { verify: Some(text(refused.about).into()), bits: entry::told(refused.text).bits }
            }
            (known, _) => known,
        };
        let done = entry::done(refused.text);
        let refusal = Refusal { at: place.at, relay: refused.relay.into(), known, done };
        let Some(host) = self.hosts.get_mut(place.host as usize) else { return };
        host.undated.push(refusal);
        if host.clock.is_certain() || host.undated.len() >= MAX_UNDATED {
            self.date(place.host, emit);
        }
    }

    /// Gives the refused sessions whose year is known by now, or will never be.
    pub(super) fn date(&mut self, host: u32, emit: &mut impl FnMut(&Record<'_>)) {
        let Some(host) = self.hosts.get_mut(host as usize) else { return };
        let refusals = std::mem::take(&mut host.undated);
        for Refusal { at, relay, known, done } in refusals {
            let inbound = Inbound {
                at,
                host: &host.name,
                queue_id: None,
                client: Client::of(&relay),
                sender: None,
                known: &known,
                auth: None,
                done,
            };
            self.tally.refused_sessions += u64::from(give(inbound, None, &mut self.tally.inbound, emit));
        }
    }

    /// What is known of the session with this client: by its entries alone.
    fn session_known(&mut self, place: Place, relay: &[u8]) -> (Known, Option<Arc<Auth>>) {
        let session = self.processes.get(place.process).and_then(|process| process.session.as_ref());
        match session.filter(|session| relay::same_client(&session.relay, relay)) {
            Some(session) => (session.known(), session.auth.clone()),
            None => (Known::Nothing, None),
        }
    }

    /// A message was refused by a ruleset. Its `from=` follows as a rule, and tells more.
    fn message_refused(
        &mut self,
        place: Place,
        queue_id: QueueId,
        refused: &Refused<'_>,
        about_tls: bool,
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        if refused.ruleset == Ruleset::CheckMail {
            self.part(place, queue_id, None, |_| true, emit);
        }
        let (known, auth) = self.session_known(place, refused.relay);
        let message = self.message(place, queue_id);
        message.relay = Some(refused.relay.into());
        if message.known == Known::Nothing {
            message.known = known;
            message.auth = auth;
        }
        if about_tls {
            message.done = entry::done(refused.text);
        }
        if about_tls && message.told == entry::Told::default() {
            message.told = entry::told(refused.text);
        }
        if refused.ruleset == Ruleset::CheckMail {
            message.sender = Some(text(refused.about).into());
            message.refused_otherwise = !about_tls;
        } else {
            message.collect(&text(refused.about));
        }
    }

    pub(super) fn milter_refused(
        &mut self,
        place: Place,
        queue_id: QueueId,
        sender: Option<&[u8]>,
        recipient: Option<&[u8]>,
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        if sender.is_some() {
            self.part(place, queue_id, None, |_| true, emit);
        }
        let session = self.processes.get(place.process).and_then(|process| process.session.as_ref());
        let told = session.map(|session| (session.relay.clone(), session.known(), session.auth.clone()));
        let message = self.message(place, queue_id);
        if let (None, Some((relay, known, auth))) = (&message.relay, told) {
            message.relay = Some(relay);
            message.known = known;
            message.auth = auth;
        }
        if let Some(sender) = sender {
            message.sender = Some(text(sender).into());
        }
        if let Some(recipient) = recipient {
            message.collect(&text(recipient));
        }
    }

    /// A MAIL that was refused leaves its queue id to the next one of the session. What was refused has its own record
    /// then, if it is another's: by its sender.
    fn part(
        &mut self,
        place: Place,
        queue_id: QueueId,
        next: Option<&Known>,
        is_another: impl FnOnce(&str) -> bool,
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        let key = (place.host, queue_id);
        let refused = self.messages.get(key).filter(|message| !message.settled);
        if !refused.and_then(|message| message.sender.as_deref()).is_some_and(is_another) {
            return;
        }
        let Some(mut message) = self.messages.remove(key) else { return };
        // There is no way back from TLS.
        if let (Known::Nothing, Some(Known::Clear { .. })) = (&message.known, next) {
            message.known = Known::Clear { verify: None };
        }
        self.let_go(vec![(key, message)], emit);
    }

    /// The message, made where it was not known.
    fn message(&mut self, place: Place, queue_id: QueueId) -> &mut Message {
        let new = || Message { at: place.at, ..Message::default() };
        self.messages.get_or_insert((place.host, queue_id), new)
    }

    /// A transaction is over: the message has its record.
    pub(super) fn from(&mut self, place: Place, from: &From<'_>, emit: &mut impl FnMut(&Record<'_>)) {
        let Some(host) = self.hosts.get_mut(place.host as usize) else { return };
        host.took(from.queue_id);
        let Some(client) = Client::of(from.relay).filter(|_| !place.submission) else {
            self.tally.submissions += 1;
            return;
        };
        let (mut known, auth) = self.message_known(place, from);
        let key = (place.host, from.queue_id);
        if self.messages.len() > 0 {
            let is_another = |refused: &str| {
                let differs = |sender| bare_address(&text(sender)) != bare_address(refused);
                from.recipients > 0 || from.sender.is_some_and(differs)
            };
            self.part(place, from.queue_id, Some(&known), is_another, emit);
        }
        let earlier =
            if self.messages.len() == 0 { None } else { self.messages.remove(key).map(|message| *message) };
        if earlier.as_ref().is_some_and(|message| message.refused_otherwise) {
            self.tally.refused_otherwise += 1;
            return;
        }
        if let (Known::Nothing, Some(earlier)) = (&known, &earlier) {
            known = Known::of(earlier.told);
        }
        let sender = from.sender.map(text);
        if sender.is_none() {
            self.tally.senders_cut += 1;
        }
        let mut message = earlier.unwrap_or_default();
        let told = message.sender.take();
        let Some(host) = self.hosts.get(place.host as usize) else { return };
        let inbound = Inbound {
            at: place.at,
            host: &host.name,
            queue_id: Some(from.queue_id.as_str()),
            client: Some(client),
            sender: sender.as_deref().or(told.as_deref()),
            known: &known,
            auth: auth.as_deref(),
            done: message.done,
        };
        if !self.options.recipients {
            give(inbound, None, &mut self.tally.inbound, emit);
            return;
        }
        let collected = std::mem::take(&mut message.recipients);
        for recipient in &collected {
            if message.record(recipient) {
                give(inbound, Some(recipient), &mut self.tally.inbound, emit);
            }
        }
        message.awaited = from.recipients.saturating_sub(message.taken);
        if message.awaited == 0 {
            if !message.has_records() {
                give(inbound, None, &mut self.tally.inbound, emit);
            }
            return;
        }
        message.at = place.at;
        message.relay = Some(from.relay.into());
        message.sender = inbound.sender.map(Box::from);
        message.known = known;
        message.auth = auth;
        message.settled = true;
        self.messages.insert(key, message);
    }

    /// What is known of the session of this message.
    fn message_known(&mut self, place: Place, from: &From<'_>) -> (Known, Option<Arc<Auth>>) {
        // ESMTP, ESMTPS, ESMTPA, ESMTPSA; UTF8SMTPS
        let protocol = from.protocol.unwrap_or_default();
        let letters = before(protocol, b"SMTP").map_or(&b""[..], |(_, letters)| letters);
        let says = |letter: u8| letters.contains(&letter);
        let Some(host) = self.hosts.get_mut(place.host as usize) else { return (Known::Nothing, None) };
        host.tells_tls |= says(b'S');
        let tells = host.tells_tls;
        let session = self.processes.get(place.process).and_then(|process| {
            process.session.take_if(|session| {
                let begun = || from.queue_id.seconds(place.at);
                let later = || begun().is_some_and(|begun| begun > session.since.as_second() + APART);
                let another = tells && !says(b'S') && !says(b'A') && later();
                another || !relay::same_client(&session.relay, from.relay)
            });
            process.session.as_ref()
        });
        let (known, auth) =
            session.map(|session| (session.known(), session.auth.clone())).unwrap_or_default();
        let known = match known {
            Known::Nothing if !says(b'S') => Known::Clear { verify: None },
            // Its entry was lost.
            Known::Clear { .. } if says(b'S') => Known::Nothing,
            known => known,
        };
        (known, auth.or_else(|| says(b'A').then(|| Arc::new(Auth::of_somebody()))))
    }

    /// A recipient of a message that came in, as its first delivery names it.
    pub(super) fn recipient(
        &mut self,
        place: Place,
        queue_id: QueueId,
        recipient: &[u8],
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        let key = (place.host, queue_id);
        let Some(host) = self.hosts.get(place.host as usize) else { return };
        let Some(message) = self.messages.get(key).filter(|message| message.settled) else { return };
        let recipient = text(recipient);
        if !message.record(&recipient) {
            return;
        }
        message.awaited = message.awaited.saturating_sub(1);
        let inbound = inbound_of(&host.name, &queue_id, message);
        give(inbound, Some(&recipient), &mut self.tally.inbound, emit);
        if message.awaited == 0 {
            self.messages.remove(key);
        }
    }

    /// A recipient of a transaction that came to nothing: its entry stands before `from=`.
    pub(super) fn given_up(&mut self, place: Place, queue_id: QueueId, recipient: &[u8]) {
        let message = self.message(place, queue_id);
        if !message.settled {
            message.taken += 1;
            message.collect(&text(recipient));
        }
    }

    /// Messages that wait no longer.
    pub(super) fn let_go(
        &mut self,
        mut held: Vec<(MessageKey, Box<Message>)>,
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        held.sort_unstable_by(|((_, one), a), ((_, other), b)| {
            (a.at, one.as_str()).cmp(&(b.at, other.as_str()))
        });
        for ((host, queue_id), mut message) in held {
            let Some(host) = self.hosts.get(host as usize) else { continue };
            if !message.settled {
                if message.refused_otherwise {
                    self.tally.refused_otherwise += 1;
                    continue;
                }
                if message.relay.is_none() {
                    self.tally.not_joined += 1;
                    continue;
                }
                if message.known == Known::Nothing {
                    // No bits are more often no TLS than a cipher without any.
                    message.known = match message.told.bits {
                        Some(0) => Known::Clear { verify: None },
                        _ => Known::of(message.told),
                    };
                }
            }
            let recipients = std::mem::take(&mut message.recipients);
            let wanted = if self.options.recipients { recipients } else { Vec::new() };
            let recorded = message.has_records() || !wanted.is_empty();
            let inbound = inbound_of(&host.name, &queue_id, &message);
            for recipient in &wanted {
                give(inbound, Some(recipient), &mut self.tally.inbound, emit);
            }
            if !recorded {
                give(inbound, None, &mut self.tally.inbound, emit);
            }
        }
    }
}

fn inbound_of<'r>(host: &'r str, queue_id: &'r QueueId, message: &'r Message) -> Inbound<'r> {
    Inbound {
        at: message.at,
        host,
        queue_id: Some(queue_id.as_str()),
        client: message.relay.as_deref().and_then(Client::of),
        sender: message.sender.as_deref(),
        known: &message.known,
        auth: message.auth.as_deref(),
        done: message.done,
    }
}

/// Gives a record, and counts it. False where there is none to give.
fn give(
    inbound: Inbound<'_>,
    recipient: Option<&str>,
    count: &mut super::Records,
    emit: &mut impl FnMut(&Record<'_>),
) -> bool {
    let told = inbound.tell(recipient, emit);
    if told {
        count.add(inbound.known);
    }
    told
}
