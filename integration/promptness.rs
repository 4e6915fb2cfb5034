//! Over TCP the daemon answers as promptly as over a unix socket.
//!
//! sendmail writes a command in two parts without TCP_NODELAY, so the second waits for our delayed ACK, 40 ms and more,
//! every time, unless the daemon sees to it. The fastest of several answers is therefore enough to tell, and a busy
//! machine does not spoil it.

use std::fs;
use std::time::{Duration, Instant};

use crate::rig::daemon::{Daemon, merge};
use crate::rig::mta::Kind;
use crate::rig::sendmail::Options;
use crate::rig::{Result, Rig};

const MESSAGES: usize = 10;
/// Half of what a delayed ACK takes. Without one it is under 1 ms.
const LIMIT: Duration = Duration::from_millis(20);

const POLICY: &str = "
version = 1
[exempt]
networks = []
[[rule]]
name = \"partner\"
client = [\"partner.example\"]
soft-fail = { min-bits = 128 }
";

pub(crate) fn promptness(rig: &Rig) -> Result<()> {
    prompt(rig, "tcp-is-prompt", Kind::Sendmail)
}

/// The same with Postfix, which writes a command in one part.
pub(crate) fn with_postfix(rig: &Rig) -> Result<()> {
    prompt(rig, "postfix-tcp-is-prompt", Kind::Postfix)
}

fn prompt(rig: &Rig, tag: &str, kind: Kind) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut settings = kind.settings(folder.path())?;
    let tcp = format!("milter.listen = [\"inet:{}@127.0.0.1\"]", rig.port());
    merge(&mut settings, &toml::from_str(&tcp).map_err(|e| format!("settings: {e}"))?);
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
    fs::write(folder.path().join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let mta = kind.start(rig, folder.path(), tag, &options, &[])?;

    let mut client = mta.connect_from([127, 0, 0, 2].into())?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    for (command, code) in [("MAIL FROM:<anna@partner.example>", 250), ("RCPT TO:<bob@rig.example>", 454)] {
        let mut fastest = Duration::MAX;
        for _ in 0..MESSAGES {
            if command.starts_with("RCPT") {
                client.say("MAIL FROM:<anna@partner.example>")?;
            }
            let asked = Instant::now();
            let reply = client.say(command)?;
            fastest = fastest.min(asked.elapsed());
            if reply.code != code {
                return Err(format!("{command}: {}", reply.text()));
            }
            client.say("RSET")?;
        }
        if fastest > LIMIT {
            return Err(format!("{command}: the fastest of {MESSAGES} answers took {fastest:?}"));
        }
    }
    Ok(())
}
