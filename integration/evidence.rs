//! Evidence on a disk that is full, with a live sm-mta: mail goes on, and nothing of what was decided is lost when there
//! is room again.
//!
//! The state folder is a file system of its own, in memory and small.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::{Result, Rig, tool, wait};

const TAG: &str = "evidence-full-disk";
/// Whoever calls itself partner.example and comes in the clear is refused.
pub(crate) const POLICY: &str = "
version = 1
[exempt]
networks = []
[[rule]]
name = \"partner\"
client = [\"partner.example\"]
enforce = { min-bits = 128 }
";
const FULL: &str = "cannot write evidence: it is kept in memory";
const AGAIN: &str = "evidence is written again";
const MESSAGES: usize = 20;

pub(crate) fn full_disk(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &toml::Table::new())?;
    fs::write(folder.path().join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    let state = folder.path().join("state");
    let mut mount = Command::new("mount");
    tool::run(mount.args(["-t", "tmpfs", "-o", "size=512k", "evidence"]).arg(&state), "")?;
    let result = on_small_disk(rig, &mut daemon, &state, folder.path());
    // Nothing may have it open when it is taken away.
    drop(daemon);
    tool::run(Command::new("umount").arg(&state), "")?;
    result
}

fn on_small_disk(rig: &Rig, daemon: &mut Daemon, state: &Path, folder: &Path) -> Result<()> {
    let database = state.join("evidence.db");
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder, TAG, &options)?;

    // Once while the file is there, and once where it cannot even be made.
    let mut sent = send(&sendmail)?;
    wait::until("the first evidence", || (decisions_in(&database)? == sent).then_some(()))?;
    for begin_without in [false, true] {
        if begin_without {
            daemon.signal(Signal::SIGTERM)?;
            daemon.wait()?;
            fs::remove_file(&database).map_err(|e| format!("evidence.db: {e}"))?;
            sent = 0;
        }
        let filler = fill(state)?;
        let from = daemon.log.len();
        if begin_without {
            daemon.start()?;
        }
        sent += send(&sendmail)?;
        let told = daemon.log.wait_for(from, &[FULL.to_owned(), "the disk is full: make room".to_owned()])?;
        sent += send(&sendmail)?;
        fs::remove_file(&filler).map_err(|e| format!("the filler: {e}"))?;
        daemon.log.wait_for(told, &[AGAIN.to_owned()])?;
        sent += send(&sendmail)?;
    }
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    if decisions_in(&database) != Some(sent) {
        return Err(format!("{sent} messages, and in evidence: {:?}", decisions_in(&database)));
    }
    let log = daemon.log.lines().join("\n");
    if log.contains("were lost") { Err(log) } else { Ok(()) }
}

/// Takes all room that there is.
fn fill(folder: &Path) -> Result<std::path::PathBuf> {
    let path = folder.join("filler");
    let mut file = File::create(&path).map_err(|e| format!("the filler: {e}"))?;
    while let Ok(1..) = file.write(&[0; 4096]) {}
    Ok(path)
}

/// Some messages, each refused as it should be. Gives how many.
pub(crate) fn send(sendmail: &Sendmail) -> Result<usize> {
    let mut client = sendmail.connect_from([127, 0, 0, 2].into())?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    for _ in 0..MESSAGES {
        client.say("MAIL FROM:<anna@partner.example>")?;
        let reply = client.say("RCPT TO:<bob@rig.example>")?;
        if reply.code != 550 {
            return Err(format!("RCPT: {}", reply.text()));
        }
        client.say("RSET")?;
    }
    client.say("QUIT")?;
    Ok(MESSAGES)
}

/// Nothing where there is no such file yet.
fn decisions_in(path: &Path) -> Option<usize> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    let sql = "SELECT coalesce(sum(count), 0) FROM evidence WHERE decided = 1";
    connection.query_row(sql, [], |row| row.get(0)).ok()
}
