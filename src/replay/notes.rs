//! What could not be read or joined, in words with a next step.

use super::{LONGEST, Tally};

const LINES: [&str; 2] = ["line", "lines"];
const MESSAGES: [&str; 2] = ["message", "messages"];
const ATTEMPTS: [&str; 2] = ["delivery attempt", "delivery attempts"];

impl Tally {
    /// What a reader of anything that rests on this replay should know; nothing where all is well.
    pub fn notes(&self) -> Vec<String> {
        let log = &self.mail_log;
        let of_no_program = self.lines.saturating_sub(self.decisions + self.other_objects + log.of_postfix);
        let nothing_known = log.entries == 0 && self.decisions == 0 && of_no_program > 0;
        let mut notes = Vec::new();
        let mut note = |count: u64, [one, many]: [&str; 2], note: &str| {
            if count > 0 {
                notes.push(format!("{count} {}: {note}", if count == 1 { one } else { many }));
            }
        };
        note(
            if nothing_known { of_no_program } else { 0 },
            LINES,
            "none of sendmail's, and no decision record; is this the log? sendmail writes to syslog's facility mail, \
             and decisions are read from the file of `[log] decisions`, or from a log of `format = \"json\"`",
        );
        note(
            if self.decisions == 0 { log.of_postfix } else { 0 },
            LINES,
            "Postfix's, whose log is not read here; what its sessions were is in the file of `[log] decisions`, from \
             the day on which the milter was attached (the guide: With Postfix)",
        );
        note(
            if log.entries == 0 && self.decisions == 0 { self.other_objects } else { 0 },
            ["JSON object", "JSON objects"],
            "none a decision record; a journal is read as text: journalctl -o short-iso | encr-milter … -",
        );
        note(
            log.inbound.unknown,
            MESSAGES,
            "came by TLS of unknown strength, for no STARTTLS line goes with it; set LogLevel to 9 or more \
             (confLOG_LEVEL), and give the log before this one too",
        );
        note(
            log.outbound.unknown,
            ATTEMPTS,
            "nothing says whether it had TLS: the log begins too late, so give the log before this one too, or LogLevel \
             is below 9 (confLOG_LEVEL)",
        );
        note(log.not_joined, MESSAGES, "refused by a milter, and nothing says of which client; not judged");
        note(
            log.not_understood,
            ["entry of sendmail's", "entries of sendmail's"],
            "cut, or of a version that is not known here; passed over",
        );
        note(
            log.senders_cut,
            ["sender", "senders"],
            "too long for the log; rules on `sender` were not held against it",
        );
        note(
            log.servers_cut,
            ["server's name", "servers' names"],
            "too long for the log; rules on `server` saw its address alone",
        );
        note(
            log.forgotten,
            ["process", "processes"],
            "forgotten, for too many were busy at once; messages of it may count as unknown",
        );
        note(
            log.went_back,
            ["time", "times"],
            "a host's log goes back to what was read before; messages that stand in two logs count twice (mail.log and \
             mail.info, a log and its packed copy): give one of them, and pipe the oldest first",
        );
        note(
            log.refused_sessions,
            ["session", "sessions"],
            "refused by sendmail's own TLS rules before MAIL; each counts as a message that was deferred or refused",
        );
        note(
            log.refused_otherwise,
            MESSAGES,
            "refused by sendmail at MAIL for other reasons than TLS: no milter sees it, and it was not judged",
        );
        note(
            log.submissions + log.local_deliveries,
            ["submission or delivery on this host", "submissions and deliveries on this host"],
            "no session with anybody; not judged",
        );
        note(log.without_session, ATTEMPTS, "no connection came about; not judged");
        note(
            log.failed_handshakes,
            ["failed handshake", "failed handshakes"],
            "what followed on it was judged by itself",
        );
        note(
            self.broken_json,
            LINES,
            "JSON by its beginning, and cut or broken; passed over. A record is one whole line",
        );
        note(self.too_long, LINES, &format!("longer than {LONGEST} bytes; passed over"));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_a_next_step() {
        assert_eq!(Tally::default().notes(), Vec::<String>::new());
        let mut tally = Tally { lines: 3, ..Tally::default() };
        assert!(tally.notes()[0].starts_with("3 lines: none of sendmail's"));
        tally.mail_log.entries = 3;
        assert_eq!(tally.notes(), Vec::<String>::new());
        let mut outbound = Tally { lines: 1, ..Tally::default() };
        (outbound.mail_log.entries, outbound.mail_log.outbound.unknown) = (1, 1);
        assert!(
            outbound.notes()[0].contains("the log before this one")
                && outbound.notes()[0].contains("LogLevel")
        );
        // As journalctl -o json has it.
        let objects = Tally { lines: 2, other_objects: 2, ..Tally::default() };
        assert!(objects.notes()[0].starts_with("2 JSON objects: none a decision record"));
        assert!(objects.notes()[0].contains("journalctl -o short-iso"));
        tally.mail_log.of_postfix = 3;
        assert_eq!(tally.notes().len(), 1);
        assert!(tally.notes()[0].starts_with("3 lines: Postfix's"));
        // Beside our own records there is nothing to be missed.
        assert_eq!(Tally { decisions: 1, ..tally.clone() }.notes(), Vec::<String>::new());
        // Nothing else is there: no guess is made about that.
        let mut alone = Tally { lines: 3, ..Tally::default() };
        alone.mail_log.of_postfix = 3;
        assert!(alone.notes().len() == 1 && alone.notes()[0].contains("[log] decisions"));
        tally.mail_log.of_postfix = 0;
        tally.mail_log.inbound.unknown = 1;
        assert!(tally.notes()[0].starts_with("1 message: came by TLS of unknown strength"));
        assert!(tally.notes()[0].contains("LogLevel"));
    }
}
