//! Messages as syslog daemons take them: RFC 3164 on the local socket, RFC 5424 over a network.
//!
//! Promises: one line, never longer than the most that was settled, and cut where everybody sees it; what a client
//! sent can forge neither a message nor an element of structured data.

use super::Facility;
use crate::policy::record::plain;
use crate::telemetry::entry::{Priority, Said};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::fmt::Write;

const NAME: &str = "encr-milter";
/// The element of structured data that has our fields. 32473 is set aside for those who have no number of their own
/// (RFC 5612).
const ELEMENT: &str = "encr@32473";
/// What is kept for the text, whatever the fields take.
const TEXT: usize = 160;
/// A field's own part of structured data.
const VALUE: usize = 1024;

/// What is the same in all messages.
pub(super) struct Header {
    facility: Facility,
    host: String,
    pid: u32,
}

impl Header {
    pub(super) fn of_this_process(facility: Facility) -> Self {
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let printable = !host.is_empty() && host.len() <= 255 && host.bytes().all(|b| b.is_ascii_graphic());
        Self { facility, host: if printable { host } else { "-".to_owned() }, pid: std::process::id() }
    }

    fn pri(&self, priority: Priority) -> u16 {
        u16::from(self.facility.number()) * 8 + priority as u16
    }
}

/// The line of text. Files that syslog writes do not show the priority, so what is wrong says so.
pub(super) fn text(said: &Said<'_>) -> String {
    match said.priority {
        Priority::Error => format!("ERROR {}", said.text),
        Priority::Warning => format!("WARN {}", said.text),
        Priority::Notice | Priority::Info | Priority::Debug => said.text.clone(),
    }
}

/// `<22>Nov  2 02:07:29 encr-milter[123]: …`, in local time, as the libc of this machine would write it.
pub(super) fn rfc3164(header: &Header, said: &Said<'_>, text: &str, most: usize) -> Vec<u8> {
    let local = said.ts.to_zoned(TimeZone::system());
    let stamp = strtime::format("%b %e %H:%M:%S", &local).unwrap_or_default();
    let head = format!("<{}>{stamp} {NAME}[{}]: ", header.pri(said.priority), header.pid);
    with_text(head, text, most)
}

/// `<22>1 2026-11-22T02:07:29.061272Z host encr-milter 123 decision [encr@32473 verdict="fail" …] …`
pub(super) fn rfc5424(header: &Header, said: &Said<'_>, text: &str, most: usize) -> Vec<u8> {
    let mut head = format!(
        "<{}>1 {:.6} {} {NAME} {} {} ",
        header.pri(said.priority),
        said.ts,
        header.host,
        header.pid,
        said.kind
    );
    let room = most.saturating_sub(head.len() + text.len().min(TEXT));
    head.push_str(&structured_data(said, room));
    head.push(' ');
    with_text(head, text, most)
}

/// The fields as structured data. Those for which there is no room are left out, and counted in `left_out`.
fn structured_data(said: &Said<'_>, room: usize) -> String {
    const LEFT_OUT: &str = " left_out=\"99\"";
    let mut data = format!("[{ELEMENT}");
    let mut left_out = 0;
    for (name, value) in &said.fields {
        // A PARAM-NAME is no longer than this.
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(32).collect();
        let mut parameter = format!(" {name}=\"");
        for c in cut(&plain(value), VALUE).chars() {
            if matches!(c, '"' | '\\' | ']') {
                parameter.push('\\');
            }
            parameter.push(c);
        }
        parameter.push('"');
        if data.len() + parameter.len() + LEFT_OUT.len() < room {
            data.push_str(&parameter);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 && data.len() + LEFT_OUT.len() < room {
        // Writing to a String cannot fail.
        let _ = write!(data, " left_out=\"{left_out}\"");
    }
    if data.len() == ELEMENT.len() + 1 || data.len() >= room {
        return "-".to_owned();
    }
    data.push(']');
    data
}

fn with_text(head: String, text: &str, most: usize) -> Vec<u8> {
    let room = most.saturating_sub(head.len());
    let mut message = head.into_bytes();
    message.extend_from_slice(cut(text, room).as_bytes());
    message
}

/// The text, or so much of it that it fits with the words that say how much is missing.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let words = |kept: usize| format!(" [cut: {} bytes more]", text.len() - kept);
    let kept = text.floor_char_boundary(most.saturating_sub(words(0).len()));
    let mut out = text.get(..kept).unwrap_or_default().to_owned();
    out.push_str(&words(kept));
    out.truncate(out.floor_char_boundary(most));
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::entry::Entry;
    use tracing::Level;

    const HEADER: Header = Header { facility: Facility(2), host: String::new(), pid: 7 };

    fn message(entry: &Entry, most: usize) -> String {
        let said = entry.said();
        let header = Header { host: "mx.example".to_owned(), ..HEADER };
        String::from_utf8(rfc5424(&header, &said, &text(&said), most)).unwrap()
    }

    #[test]
    fn an_event_is_a_message_of_both_kinds() {
        let entry = Entry::now(Level::WARN, "looks\nodd", vec![("what", "a\"]\\\u{0}b".to_owned())]);
        let said = entry.said();
        let local = String::from_utf8(rfc3164(&HEADER, &said, &text(&said), 8192)).unwrap();
        assert!(local.starts_with("<20>"), "{local}");
        assert!(local.ends_with(" encr-milter[7]: WARN looks\\nodd what=\"a\\\"]\\\\\\u{0}b\""), "{local}");
        // `Nov  2 02:07:29`: always so long.
        assert_eq!(local.find(" encr-milter"), Some("<20>".len() + 15), "{local}");
        let remote = message(&entry, 8192);
        let ends = " mx.example encr-milter 7 event [encr@32473 what=\"a\\\"\\]\\\\\\\\u{0}b\"] WARN looks\\nodd what=\"a\\\"]\\\\\\u{0}b\"";
        assert!(remote.starts_with("<20>1 2") && remote.ends_with(ends), "{remote}");
        assert!(message(&Entry::now(Level::INFO, "x", Vec::new()), 8192).ends_with(" event - x"));
    }

    #[test]
    fn what_is_too_long_is_cut_where_one_sees_it() {
        let long = "é".repeat(1_000_000);
        let entry = Entry::now(Level::INFO, long.clone(), vec![("what", long), ("short", "x".to_owned())]);
        for most in [480, 1000, 2048, 8192, 65_000] {
            let said = entry.said();
            let local = String::from_utf8(rfc3164(&HEADER, &said, &said.text, most)).unwrap();
            let remote = message(&entry, most);
            for message in [&local, &remote] {
                assert!(message.len() <= most && message.len() > most - 8, "{} of {most}", message.len());
                assert!(message.ends_with(" bytes more]"), "{most}");
            }
            assert!(remote.contains("short=\"x\""), "{most}");
        }
        let told = message(&entry, 480);
        assert!(told.contains("left_out=\"1\"]"), "{told}");
    }
}
