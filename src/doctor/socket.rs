//! Whether sendmail may open the milter's socket, and whether what answers there is a milter that asks as we do.
//!
//! It is asked as sendmail asks it: the offer of version 6, and then the end of the conversation. No session is begun.

use super::daemon::start;
use super::finding::{Area, Findings};
use super::safety::{Rules, Unsafe};
use super::{Known, Sendmail};
use crate::listener::Address;
use crate::sendmail::cf::Filter;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const AREA: Area = Area::Mta;
/// What sendmail 8.17 offers: version 6, all actions, all that can be left out.
const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];
/// An answer has some hundred bytes.
const MAX_ANSWER: u32 = 64 * 1024;
/// What we ask for with MAIL, and cannot do without.
const NEEDED: [&str; 3] = ["{client_addr}", "{cipher_bits}", "{verify}"];

pub(super) fn examine(known: &Known<'_>, sendmail: &Sendmail, filter: &Filter, findings: &mut Findings) {
    let Some(address) = filter.socket.as_deref().and_then(|socket| socket.parse::<Address>().ok()) else {
        return;
    };
    if let Address::Unix(path) = &address {
        match Rules::of(&sendmail.cf) {
            Some(rules) => match rules.check(&known.machine, path) {
                Ok(()) => findings.ok(AREA, "socket-safe", format!("sendmail may open {}", path.display())),
                Err(why) => tell(known, &why, findings),
            },
            None => findings.problem(
                AREA,
                "socket-safe",
                format!(
                    "RunAsUser={} is nobody whom this machine knows",
                    sendmail.cf.option("RunAsUser").unwrap_or_default()
                ),
                &["mend confRUN_AS_USER in sendmail.mc"],
            ),
        }
        if findings.has_problem("socket-safe") && !known.machine.exists(path) {
            return;
        }
    }
    speaks(known, &address, findings);
}

fn tell(known: &Known<'_>, why: &Unsafe, findings: &mut Findings) {
    let mut problem = |found: String, remedy: &[&str]| findings.problem(AREA, "socket-safe", found, remedy);
    match why {
        Unsafe::Missing(path) => problem(
            format!("{} is missing: sendmail finds nobody there", path.display()),
            &[start(&known.machine)],
        ),
        Unsafe::Folder { path, mode, everybody } => {
            let who = if *everybody { "everybody" } else { "a group" };
            problem(
                format!(
                    "sendmail does not open the socket, and its log says why (`local socket name`): {who} may write to {} ({mode:04o})",
                    path.display()
                ),
                &[&format!("chmod go-w {}", path.display())],
            );
        }
        Unsafe::Link(path) => problem(
            format!("sendmail does not open {}: it is a link, or has a second name", path.display()),
            &["name the socket itself in S="],
        ),
        Unsafe::NoSocket(path) => {
            problem(format!("{} is no socket", path.display()), &["move it away, and restart the daemon"]);
        }
        Unsafe::Denied { path, owner, user } => problem(
            format!("sendmail (as {user}) may not use {} ({owner})", path.display()),
            &[
                &format!(
                    "socket-group = \"GROUP OF {user}\" below [milter] of the daemon's file, and the daemon a member of it"
                ),
                "mode 0755 for the folder",
            ],
        ),
        Unsafe::NotSeen(path, error) => findings.not_looked(
            AREA,
            "socket-safe",
            format!("{} cannot be looked at: {error}", path.display()),
            &["run doctor as root"],
        ),
    }
}

/// Whether a milter answers there.
fn speaks(known: &Known<'_>, address: &Address, findings: &mut Findings) {
    let shown = address.to_string();
    match negotiate(known, address) {
        Ok(asked) if NEEDED.iter().all(|name| asked.contains(name)) => {
            findings.ok(
                AREA,
                "socket-answers",
                format!("a milter answers on {shown}, and asks for the macros that are needed"),
            );
        }
        Ok(_) => findings.problem(
            AREA,
            "socket-answers",
            format!(
                "what answers on {shown} is a milter, but does not ask for {}: it is not encr-milter",
                NEEDED.join(", ")
            ),
            &["which process listens there? `ss -lxtp` as root shows"],
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => findings.not_looked(
            AREA,
            "socket-answers",
            format!("{shown} may not be opened by whoever runs doctor: {error}"),
            &["run doctor as root"],
        ),
        Err(error) => findings.problem(
            AREA,
            "socket-answers",
            format!("no milter answers on {shown}: {error}"),
            &["systemctl restart encr-milter", "journalctl -u encr-milter"],
        ),
    }
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

fn connect(known: &Known<'_>, address: &Address) -> io::Result<Box<dyn Duplex>> {
    let timeout = Some(known.settings.timeout);
    Ok(match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(known.machine.path(path))?;
            stream.set_read_timeout(timeout)?;
            stream.set_write_timeout(timeout)?;
            Box::new(stream)
        }
        Address::Tcp { v6, port, host } => Box::new(tcp(host, *port, *v6, known.settings.timeout)?),
    })
}

/// Connects to a name's first address of a family.
pub(super) fn tcp(host: &str, port: u16, v6: bool, timeout: Duration) -> io::Result<TcpStream> {
    let address = (host, port).to_socket_addrs()?.find(|address| address.is_ipv6() == v6);
    let address = address.ok_or_else(|| io::Error::other("the name has no such address"))?;
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// Offers what sendmail offers; gives the macros that are asked for with MAIL.
fn negotiate(known: &Known<'_>, address: &Address) -> io::Result<String> {
    let mut stream = connect(known, address)?;
    let mut frame = 13u32.to_be_bytes().to_vec();
    frame.push(b'O');
    frame.extend(OFFER.iter().flat_map(|word| word.to_be_bytes()));
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(no_answer)?;
    let length = u32::from_be_bytes(length);
    if !(13..=MAX_ANSWER).contains(&length) {
        return Err(io::Error::other("what it says is no milter's answer"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).map_err(no_answer)?;
    if answer.first() != Some(&b'O') {
        return Err(io::Error::other("it does not answer the negotiation"));
    }
    stream.write_all(&[0, 0, 0, 1, b'Q'])?;
    Ok(asked_at_mail(answer.get(13..).unwrap_or_default()))
}

fn no_answer(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::other("it does not answer in time"),
        io::ErrorKind::UnexpectedEof => io::Error::other("it closes the connection without an answer"),
        _ => error,
    }
}

/// The list of stage 2, MAIL: a number, and names with a NUL at the end, for each stage.
fn asked_at_mail(mut lists: &[u8]) -> String {
    while let Some((stage, rest)) = lists.split_first_chunk::<4>() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let names = rest.get(..end).unwrap_or_default();
        if u32::from_be_bytes(*stage) == 2 {
            return String::from_utf8_lossy(names).into_owned();
        }
        lists = rest.get(end + 1..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_mail_is_found_among_the_others() {
        let payload = b"\0\0\0\0a b\0\0\0\0\x02i {verify}\0\0\0\0\x03\0";
        assert_eq!(asked_at_mail(payload), "i {verify}");
        for odd in [&b""[..], b"\0\0", b"\0\0\0\x01x", b"\0\0\0\x02"] {
            assert_eq!(asked_at_mail(odd), "");
        }
    }
}
