//! An sm-mta whose mail leaves: submission, queue, queue runs, and what is returned to the sender.
//!
//! Promises: `send` and `run_queue` come back when every delivery has been tried; what is in the queue is read from
//! its files, for mailq cuts reasons short. Must not: need a running daemon, but where `listen` starts one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::smtp::Client;
use super::tool::{run, run_allowing};
use super::{Result, Rig, listening, sendmail, wait};

const MC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/sender.mc");
const SNIPPET: &str = include_str!("../../config/sendmail-outbound.mc");
/// The socket that the snippet names.
const SOCKET: &str = "local:/run/encr-milter/outbound.sock";
/// Whose mail it is. What is returned to her is kept.
pub(crate) const SENDER: &str = "anna@home.example";
const BOX: &str = "box.anna";
/// With `sendmail -t` these tell how delivery went: EX_DATAERR to EX_NOPERM. That is looked at elsewhere.
const UNDELIVERED: &[i32] = &[65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77];
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 25));

/// What is done with a message that was just handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Delivery is tried before `send` comes back.
    Now,
    /// It waits for the next queue run.
    Queued,
}

/// One message in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: String,
    /// Why the message is still there, as mailq shows it below the sender (there cut short).
    pub(crate) why: String,
    pub(crate) recipients: Vec<Recipient>,
}

/// One recipient who has not got it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) address: String,
    pub(crate) why: String,
}

pub(crate) struct Sender {
    program: PathBuf,
    folder: PathBuf,
    tag: String,
    port: u16,
    daemon: Option<Child>,
}

impl Sender {
    /// Lays it out in a folder of its own under `parent`, with the snippet and access map given.
    pub(crate) fn lay_out(
        rig: &Rig,
        parent: &Path,
        tag: &str,
        snippet: &str,
        access: &[&str],
    ) -> Result<Sender> {
        let folder = parent.join("sender");
        let port = rig.port();
        sendmail::make_folders(&folder)?;
        sendmail::put(&folder, "snippet.mc", snippet.as_bytes())?;
        sendmail::put(&folder, BOX, b"")?;
        let access: Vec<String> = access.iter().map(|line| (*line).to_owned()).collect();
        sendmail::access_map(rig, &folder, &access)?;
        let mut m4 = Command::new("m4");
        m4.arg(format!("-DRIG_CF={}", rig.sendmail_root.join("usr/share/sendmail/cf").display()))
            .arg(format!("-DRIG_DIR={}", folder.display()))
            .arg(format!("-DRIG_CERTS={}", rig.certs.folder.display()))
            .arg(format!("-DRIG_PORT={port}"))
            .arg(format!("-DRIG_PEERS_PORT={}", rig.peers()?.port));
        sendmail::prepare(&folder, &run(m4.arg(MC), "")?.stdout)?;
        let program = sendmail::program(rig, "sendmail");
        Ok(Sender { program, folder, tag: tag.to_owned(), port, daemon: None })
    }

    /// Hands in one message to these recipients, as a program of this host does.
    pub(crate) fn send(&self, when: When, recipients: &[&str]) -> Result<()> {
        let mode = if when == When::Now { "-odi" } else { "-odq" };
        let mut command = self.sendmail();
        command.args(["-i", mode, "-f", SENDER]).args(recipients);
        run_allowing(&mut command, "Subject: news\n\nAll is well.\n", UNDELIVERED).map(drop)
    }

    /// Runs the queue once; what `-v` says of it.
    pub(crate) fn run_queue(&self) -> Result<String> {
        let output = run_allowing(self.sendmail().args(["-q", "-v"]), "", UNDELIVERED)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What mailq shows.
    pub(crate) fn mailq(&self) -> Result<String> {
        let output = run(self.sendmail().arg("-bp"), "")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What is in the queue, the oldest first.
    pub(crate) fn queue(&self) -> Result<Vec<Message>> {
        let queue = self.folder.join("queue");
        let failed = |e: std::io::Error| format!("{}: {e}", queue.display());
        let mut messages = Vec::new();
        for entry in fs::read_dir(&queue).map_err(failed)? {
            messages.extend(queue_file(&entry.map_err(failed)?.path())?);
        }
        messages.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(messages)
    }

    /// What was returned to the sender: whole messages, the oldest first.
    pub(crate) fn returned(&self) -> Result<Vec<String>> {
        let path = self.folder.join(BOX);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(text.split("From MAILER-DAEMON ").skip(1).map(str::to_owned).collect())
    }

    /// Starts it as a service that listens, delivers in the background, and runs its queue each second.
    pub(crate) fn listen(&mut self) -> Result<()> {
        let daemon = self.sendmail().args(["-bD", "-q1s"]).stdin(Stdio::null()).spawn();
        self.daemon = Some(daemon.map_err(|e| format!("sm-mta: {e}"))?);
        let at = SocketAddr::new(ADDRESS, self.port);
        wait::until("sm-mta to listen", || listening::tcp(at).then_some(()))
    }

    /// A client of the service.
    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect([127, 0, 0, 2].into(), SocketAddr::new(ADDRESS, self.port))
    }

    /// Asks its rulesets (`sendmail -bt`); an input as `rulesets/bt.mc` has it. Bytes, for not all of them are text.
    pub(crate) fn ask(&self, input: &[u8]) -> Result<Vec<u8>> {
        let (cf, bt) = (self.folder.join("sendmail.cf"), self.folder.join("bt.cf"));
        let failed = |e: std::io::Error| format!("{}: {e}", bt.display());
        let text = fs::read_to_string(cf).map_err(failed)? + TRANSLATE;
        fs::write(&bt, text).map_err(failed)?;
        let mut command = Command::new(&self.program);
        let output = super::tool::run_bytes(command.args(["-bt", "-C"]).arg(&bt), input, UNDELIVERED)?;
        Ok(output.stdout)
    }

    fn sendmail(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-L", &self.tag, "-C"]).arg(self.folder.join("sendmail.cf"));
        command
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The snippet as it stands, but for the socket, which has sendmail's notation.
pub(crate) fn snippet(socket: &str) -> Result<String> {
    if SNIPPET.matches(SOCKET).count() != 1 {
        return Err(format!("the snippet does not name {SOCKET} once"));
    }
    Ok(SNIPPET.replace(SOCKET, &socket.replacen("unix:", "local:", 1)))
}

/// The same, with the line that it shows for those who would rather wait than send in the clear.
pub(crate) fn deferring_snippet(socket: &str) -> Result<String> {
    let snippet = snippet(socket)?;
    let instead = snippet.lines().find(|line| line.starts_with("#R$-") && line.contains("451 "));
    let delivers = snippet.lines().find(|line| line.contains("<TMPF>\t$@ OK"));
    let (instead, delivers) = instead.zip(delivers).ok_or("the snippet shows no two lines for <TMPF>")?;
    Ok(snippet.replace(delivers, instead.trim_start_matches('#')))
}

/// As in rulesets/bt.mc: `$|` and nothing cannot be typed.
const TRANSLATE: &str = "\nSTranslate\nR$* $$| $*\t$: $1 $| $2\nRNOTHING\t$:\n";

/// Reads one file of a queue. None for what is no message, or is gone by now.
pub(super) fn queue_file(path: &Path) -> Result<Option<Message>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(id) = name.strip_prefix("qf") else { return Ok(None) };
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let mut message = Message { id: id.to_owned(), ..Message::default() };
    let mut why = None;
    for line in text.lines() {
        match (line.chars().next(), line.get(1..)) {
            // Before the sender it is the message's own, before a recipient that one's.
            (Some('M'), Some(text)) => why = Some(text.to_owned()),
            (Some('S'), _) => message.why = why.take().unwrap_or_default(),
            (Some('R'), Some(recipient)) => {
                let address = recipient.split_once(':').map_or(recipient, |(_flags, address)| address);
                let address = address.trim_matches(['<', '>']).to_owned();
                message.recipients.push(Recipient { address, why: why.take().unwrap_or_default() });
            }
            _ => {}
        }
    }
    Ok(Some(message))
}
