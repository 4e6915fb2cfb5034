//! The samples of `config/` do as they stand: m4 takes the snippet, sendmail finds the daemon by it, and both ways of its
//! F= do what the snippet says.
//!
//! Must not: change a line of them but the one that the snippet itself tells to change.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::{Result, Rig};

const SNIPPET: &str = include_str!("../config/sendmail-milter.mc");
const POLICY: &str = include_str!("../config/policy.toml");
/// What the snippet and the daemon's defaults agree on. /run is the rig's own.
const SOCKET: &str = "/run/encr-milter/milter.sock";

/// Both tests need the one socket that the snippet names: each has its turn.
static TURN: Mutex<()> = Mutex::new(());

/// As shipped: mail passes where the daemon does not answer.
pub(crate) fn passing(rig: &Rig) -> Result<()> {
    attach(rig, "sample-passing", SNIPPET, "250")
}

/// With the second line in the place of the first, as the snippet says: mail is deferred.
pub(crate) fn deferring(rig: &Rig) -> Result<()> {
    let first = SNIPPET.lines().find(|line| line.starts_with("INPUT_MAIL_FILTER")).unwrap_or_default();
    let second = SNIPPET.lines().find_map(|line| {
        line.strip_prefix("dnl INPUT_MAIL_FILTER").map(|rest| format!("INPUT_MAIL_FILTER{rest}"))
    });
    let second = second.ok_or("the snippet shows no line with F=")?;
    if first.is_empty() || !second.contains("F=T") {
        return Err(format!("the snippet's lines:\n{first}\n{second}"));
    }
    attach(rig, "sample-deferring", &SNIPPET.replace(first, &second), "451")
}

fn attach(rig: &Rig, tag: &str, snippet: &str, without_daemon: &str) -> Result<()> {
    let failed = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);

    let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| failed("a folder", e))?;
    let run = Path::new(SOCKET).parent().unwrap_or(Path::new("/run"));
    fs::create_dir_all(run).map_err(|e| failed("/run/encr-milter", e))?;
    let settings = format!("milter.listen = [\"unix:{SOCKET}\"]");
    let settings = toml::from_str(&settings).map_err(|e| format!("settings: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
    // The sample exempts this host, which all clients of the rig are.
    let policy = POLICY.replace("#networks = [\"127.0.0.0/8\", \"::1/128\"]", "networks = []");
    fs::write(folder.path().join("policy.toml"), policy).map_err(|e| failed("policy.toml", e))?;
    daemon.start()?;
    let options = Options { mc: snippet.lines().map(str::to_owned).collect(), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), tag, &options)?;

    expect(&sendmail, "250")?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    let decisions = daemon.decisions()?;
    let observed = decisions.first().is_some_and(|record| {
        record["rule"] == "everyone" && record["mode"] == "observe" && record["verdict"] == "fail"
    });
    if !observed || decisions.len() != 1 {
        return Err(format!("one observed failure of rule everyone was to be recorded: {decisions:?}"));
    }
    expect(&sendmail, without_daemon)
}

/// One message in the clear; the reply to its MAIL.
fn expect(sendmail: &Sendmail, code: &str) -> Result<()> {
    let mut client = sendmail.connect_from([127, 0, 0, 2].into())?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    let mut reply = client.say("MAIL FROM:<anna@partner.example>")?;
    if reply.code == 250 {
        reply = client.say("RCPT TO:<bob@rig.example>")?;
    }
    if reply.code.to_string() == code { Ok(()) } else { Err(format!("{code} was due: {}", reply.text())) }
}
