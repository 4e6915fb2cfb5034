//! The journal, in its own protocol: an entry's fields are fields of the journal, each with the prefix `ENCR_`.
//!
//! Promises: values arrive as they are, line feeds and all, for their length is told; nothing in one can become
//! another field. An entry too long for a datagram goes as a sealed file in memory, as the protocol has it.

use super::place::Receiver;
use super::syslog::{Facility, MOMENT};
use crate::telemetry::entry::{Entry, Format, Said};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const IDENTIFIER: &str = "encr-milter";
const PREFIX: &str = "ENCR_";

pub(super) struct Journal {
    path: PathBuf,
    facility: Facility,
    socket: Option<UnixDatagram>,
}

impl Journal {
    pub(super) fn new(path: &Path, facility: Facility) -> Self {
        Self { path: path.to_owned(), facility, socket: None }
    }

    /// By its path each time, so that a journal that has been restarted has it.
    fn datagram(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(unix_socket()?),
        };
        match socket.send_to(message, &self.path) {
            Ok(_) => Ok(()),
            // As sd_journal_send(3) does.
            Err(error) if is_too_large(&error) => file(socket, message, &self.path),
            Err(error) => Err(error),
        }
    }
}

impl Receiver for Journal {
    fn message(&self, _: &Entry, said: &Said<'_>, _: Format) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        field(&mut out, "MESSAGE", &said.text);
        field(&mut out, "PRIORITY", &(said.priority as u8).to_string());
        field(&mut out, "SYSLOG_IDENTIFIER", IDENTIFIER);
        field(&mut out, "SYSLOG_FACILITY", &self.facility.number().to_string());
        let mut name = PREFIX.to_owned();
        for (short, value) in &said.fields {
            name.truncate(PREFIX.len());
            name.extend(
                short.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }),
            );
            field(&mut out, &name, value);
        }
        out
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.datagram(message)
    }
}

/// A socket that does not wait for long.
pub(super) fn unix_socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(MOMENT))?;
    Ok(socket)
}

/// Whether a message is more than a datagram can be.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::EMSGSIZE, Errno::ENOBUFS].iter().any(|errno| number == Some(*errno as i32))
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Sends what is too long for a datagram.
fn file(socket: &UnixDatagram, message: &[u8], path: &Path) -> io::Result<()> {
    let memory = memfd_create(c"encr-milter", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?;
    let mut memory = File::from(memory);
    memory.write_all(message)?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    let descriptors = [memory.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg(socket.as_raw_fd(), &[], &rights, MsgFlags::empty(), Some(&UnixAddr::new(path)?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_line_feed_has_its_length_told() {
        let mut out = Vec::new();
        field(&mut out, "A", "b=c");
        field(&mut out, "D", "e\nPRIORITY=0");
        assert_eq!(out, b"A=b=c\nD\n\x0c\0\0\0\0\0\0\0e\nPRIORITY=0\n");
    }
}
