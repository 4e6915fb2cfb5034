//! What syslog puts before an entry: the time, the host, the program and its process.
//!
//! Takes what rsyslog, syslog-ng, journalctl (`short`, `short-iso` and both `-precise`) and older systems write: a time stamp of ISO 8601 or
//! the traditional one, an optional `<PRI>` before it, RFC 5424's order, Solaris' `[ID …]`. Promises: any bytes will do;
//! nothing is copied.

use jiff::Timestamp;
use std::borrow::Cow;

use super::clock::Clock;
use super::queue_id::QueueId;
use super::scan::{number, position};
use super::stamps::{Stamp, Stamps};
use super::{Options, entry, is_of_others};
use crate::policy::facts::text;

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    pub(super) stamp: Stamp<'l>,
    pub(super) host: &'l [u8],
    /// The program's name, which can be anything.
    pub(super) tag: &'l [u8],
    pub(super) pid: u32,
    /// What the program said.
    pub(super) content: &'l [u8],
}

/// Takes a line apart that is behind others of its log; nothing where it is none of a program that told its process.
#[inline]
pub(super) fn line<'l>(line: &'l [u8], stamps: &Stamps) -> Option<Line<'l>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (stamp, rest, ordered) = stamps.of(line)?;
    let (host, rest) = word(rest)?;
    if ordered {
        return rfc5424(stamp, host, rest);
    }
    let open = rest.iter().position(|byte| matches!(byte, b'[' | b' ' | b':'))?;
    let (tag, rest) = rest.split_at_checked(open)?;
    let rest = rest.strip_prefix(b"[")?;
    let (pid, rest) = number(rest)?;
    let content = rest.strip_prefix(b"]: ")?;
    // Solaris: `[ID 801593 mail.info] `
    let content = match content.strip_prefix(b"[ID ") {
        Some(id) => id.get(position(b']', id)? + 2..)?,
        None => content,
    };
    Some(Line { stamp, host, tag, pid, content })
}

/// `app pid msgid - content`
fn rfc5424<'l>(stamp: Stamp<'l>, host: &'l [u8], rest: &'l [u8]) -> Option<Line<'l>> {
    let (tag, rest) = word(rest)?;
    let (pid, rest) = number(rest)?;
    let (_message_id, rest) = word(rest.strip_prefix(b" ")?)?;
    let content = rest.strip_prefix(b"- ")?;
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    Some(Line { stamp, host, tag, pid, content })
}

/// Up to the next blank, and what is behind it.
pub(super) fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = position(b' ', text).filter(|end| *end > 0)?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// The time stamp and the host of the first of these lines, to sort rotated files by; nothing where it is none of
/// syslog's. Its year may be told by a line behind it.
pub fn stamp_of<'l>(lines: &'l [u8], options: &Options) -> Option<(Timestamp, Cow<'l, str>)> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let (found, rest, _) = Stamps::default().of(first)?;
    let (host, _) = word(rest)?;
    let mut clock = Clock::default();
    let mut at = clock.at(found.read()?, own_queue_id(first), options)?.at;
    for line in lines {
        if clock.is_certain() {
            break;
        }
        let told = own_queue_id(line).zip(Stamps::default().of(line).and_then(|(found, ..)| found.read()));
        let reading = told.and_then(|(queue_id, read)| clock.at(read, Some(queue_id), options));
        if reading.is_some_and(|reading| reading.redates) {
            at = clock.redate(at, options);
        }
    }
    Some((at, text(host)))
}

/// The queue id of an entry of sendmail's. Other programs' may look like one, and tell no year.
fn own_queue_id(line: &[u8]) -> Option<QueueId> {
    let line = self::line(line, &Stamps::default()).filter(|line| !is_of_others(line.tag))?;
    entry::queue_id(line.content).map(|(id, ..)| id)
}

/// Whether a line looks as syslog writes it: to tell a mail log from anything else.
pub fn is_syslog(line: &[u8]) -> bool {
    Stamps::default().of(line).is_some_and(|(found, rest, _)| found.read().is_some() && word(rest).is_some())
}
