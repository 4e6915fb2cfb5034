//! What was counted while a log was read: what was joined, and what was not, and why.

use super::facts::Known;

/// Counts of what a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Lines, of whatever program.
    pub lines: u64,
    /// Lines of Postfix, which are not read.
    pub of_postfix: u64,
    /// Entries of sendmail that tell of TLS, senders, recipients or refusals.
    pub entries: u64,
    /// Entries that ought to tell of these and could not be read: cut, or of another version.
    pub not_understood: u64,
    /// Records of messages that came in.
    pub inbound: Records,
    /// Records of deliveries.
    pub outbound: Records,
    /// Among the inbound records those of sessions that sendmail's own rules refused before MAIL.
    pub refused_sessions: u64,
    /// Messages that sendmail refused at MAIL for reasons other than TLS: no milter sees them, and they have no record.
    pub refused_otherwise: u64,
    /// Handshakes that failed. What followed them, if anything did, has its own record.
    pub failed_handshakes: u64,
    /// Messages that a process of this host handed in: no session, no record.
    pub submissions: u64,
    /// Deliveries to a mailbox or program of this host, or handed to the MTA of this host: no record.
    pub local_deliveries: u64,
    /// Attempts at delivery that came to no session (connection refused, host unknown, …): no record.
    pub without_session: u64,
    /// Messages of which too little is there: refused by a milter, and the client is not told.
    pub not_joined: u64,
    /// Messages whose sender is too long for the log.
    pub senders_cut: u64,
    /// Deliveries to a server whose name is too long for the log, and stands nowhere else.
    pub servers_cut: u64,
    /// How often a host's log goes back in time: the same days come once more, or files in a wrong order.
    pub went_back: u64,
    /// Processes of which everything was forgotten for want of room.
    pub forgotten: u64,
}

/// Counts of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Records {
    /// In the clear.
    pub clear: u64,
    /// With TLS, or with a handshake that failed.
    pub tls: u64,
    /// The log does not say: the STARTTLS entry is missing, or the log begins too late.
    pub unknown: u64,
}

impl Records {
    pub(super) fn add(&mut self, known: &Known) {
        match known {
            Known::Clear { .. } => self.clear += 1,
            // TLS, or a handshake that failed.
            Known::Tls(_) => self.tls += 1,
            Known::Told { bits, verify } if bits.is_some() || verify.is_some() => self.tls += 1,
            Known::Told { .. } | Known::Nothing => self.unknown += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.clear + self.tls + self.unknown
    }
}
