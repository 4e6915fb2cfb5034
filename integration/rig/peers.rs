//! The sm-mta to which mail goes. It is a host for each strength: in the clear, weak, strong, self-signed, broken, …
//!
//! Promises: what it took can be counted, recipient by recipient, as soon as its sender was told so.
//! Must not: deliver (see peers.mc).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::sender::queue_file;
use super::tool::run;
use super::{Result, Rig, listening, sendmail, wait};

const MC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/peers.mc");
const TAG: &str = "peers";
/// From clear.peer.example to long.peer.example: see namespace.sh.
const ADDRESSES: std::ops::RangeInclusive<u8> = 41..=50;
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x44);

pub(crate) struct Peers {
    daemon: Child,
    folder: TempDir,
    /// The one port of all of them.
    pub(crate) port: u16,
}

impl Peers {
    pub(crate) fn start(rig: &Rig) -> Result<Peers> {
        let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
        let port = rig.port();
        let mut m4 = Command::new("m4");
        m4.arg(format!("-DRIG_CF={}", rig.sendmail_root.join("usr/share/sendmail/cf").display()))
            .arg(format!("-DRIG_DIR={}", folder.path().display()))
            .arg(format!("-DRIG_CERTS={}", rig.certs.folder.display()))
            .arg(format!("-DRIG_PORT={port}"));
        let cf = sendmail::prepare(folder.path(), &run(m4.arg(MC), "")?.stdout)?;
        let output = folder.path().join("output");
        let said = fs::File::create(&output).map_err(|e| format!("the peers' output: {e}"))?;
        let mut daemon = Command::new(sendmail::program(rig, "sendmail"))
            .args(["-bD", "-L", TAG, "-C"])
            .arg(cf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(|e| format!("the peers' sm-mta: {e}"))?;
        let addresses = ADDRESSES.map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        let addresses: Vec<IpAddr> = addresses.chain([IpAddr::V6(SIX)]).collect();
        let listening = wait::until("the peers to listen", || {
            let gone = daemon.try_wait().ok().flatten();
            let all = || addresses.iter().all(|ip| listening::tcp(SocketAddr::new(*ip, port)));
            gone.map(Err).or_else(|| all().then_some(Ok(())))
        });
        // From here on it ends with the value.
        let peers = Peers { daemon, folder, port };
        listening?.map_err(|status| {
            format!("the peers ended at once, {status}: {}", fs::read_to_string(output).unwrap_or_default())
        })?;
        Ok(peers)
    }

    /// How often this recipient's mail was taken.
    pub(crate) fn taken(&self, recipient: &str) -> Result<usize> {
        let queue: PathBuf = self.folder.path().join("queue");
        let mut taken = 0;
        for entry in fs::read_dir(&queue).map_err(|e| format!("{}: {e}", queue.display()))? {
            let path = entry.map_err(|e| format!("{}: {e}", queue.display()))?.path();
            let message = queue_file(&path)?;
            let recipients = message.iter().flat_map(|message| &message.recipients);
            taken += recipients.filter(|one| one.address == recipient).count();
        }
        Ok(taken)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
