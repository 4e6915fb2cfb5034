//! Over TCP the daemon answers as promptly as over a unix socket.
//!
//! sendmail writes a command in two parts without TCP_NODELAY, so the second waits for our delayed ACK, 40 ms and more,
//! every time, unless the daemon sees to it. The fastest of several answers is therefore enough to tell, and a busy
//! machine does not spoil it.

use std::fs;
use std::time::{Duration, Instant};

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::{Result, Rig};

const TAG: &str = "tcp-is-prompt";
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
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let settings = format!("milter.listen = [\"inet:{}@127.0.0.1\"]", rig.port());
    let settings = toml::from_str(&settings).map_err(|e| format!("settings: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
    fs::write(folder.path().join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), TAG, &options)?;

    let mut client = sendmail.connect_from([127, 0, 0, 2].into())?;
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
