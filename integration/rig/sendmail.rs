//! One private sm-mta: Debian's, unpacked, with a configuration, a queue and maps of its own.
//!
//! Promises: it listens when `start` comes back, and is gone when it is dropped.
//! Must not: deliver mail (see sendmail.mc).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::smtp::Client;
use super::tool::run;
use super::{Result, Rig, listening, wait};

/// Who may authenticate, with PLAIN.
pub(crate) const AUTH_USER: &str = "rig@mail.rig.example";
pub(crate) const AUTH_PASSWORD: &str = "rig-password";

const MC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/sendmail.mc");

/// What a case may say of its sm-mta.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Options {
    /// Where the milter is, in sendmail's notation: `S=`. One filter for each. Left out: the daemon's first listener.
    pub(crate) attach: Vec<String>,
    /// `F=`: what to do when the milter is down. Left out: let mail pass.
    pub(crate) flags: Option<String>,
    /// `T=`: time-outs.
    pub(crate) timeouts: Option<String>,
    /// Lines of the access map, key and value with blanks between.
    pub(crate) access: Vec<String>,
    /// Without an access map, as where nothing else is in it than what a milter does as well.
    pub(crate) no_access_map: bool,
    /// Debian's default: most checks wait for RCPT.
    pub(crate) delay_checks: bool,
    /// Debian's default: client certificates are not asked for.
    pub(crate) no_client_cert: bool,
    /// Lines put into sendmail.mc, where filters are. `{dir}` is the case's folder.
    pub(crate) mc: Vec<String>,
}

pub(crate) struct Sendmail {
    daemon: Child,
    program: PathBuf,
    cf: PathBuf,
    tag: String,
    port: u16,
}

impl Sendmail {
    /// Starts sm-mta in a folder of its own under `parent`. Its log lines are tagged with the tag.
    pub(crate) fn start(rig: &Rig, parent: &Path, tag: &str, options: &Options) -> Result<Sendmail> {
        let folder = parent.join("sendmail");
        let port = rig.port();
        lay_out(rig, &folder, port, options)?;
        let program = program(rig, "sendmail");
        let cf = folder.join("sendmail.cf");
        let output = fs::File::create(folder.join("output")).map_err(|e| format!("sm-mta's output: {e}"))?;
        let mut daemon = Command::new(&program)
            .args(["-bD", "-L", tag, "-C"])
            .arg(&cf)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(|e| format!("sm-mta's output: {e}"))?)
            .stderr(output)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let addresses = [IpAddr::V4(SERVER_V4), IpAddr::V6(SERVER_V6)].map(|ip| SocketAddr::new(ip, port));
        let listening = wait::until("sm-mta to listen", || {
            let gone = daemon.try_wait().ok().flatten();
            gone.map(Err).or_else(|| addresses.iter().all(|at| listening::tcp(*at)).then_some(Ok(())))
        });
        let sendmail = Sendmail { daemon, program, cf, tag: tag.to_owned(), port };
        match listening? {
            Ok(()) => Ok(sendmail),
            Err(status) => {
                let said = fs::read_to_string(folder.join("output")).unwrap_or_default();
                Err(format!("sm-mta ended at once, {status}: {said}"))
            }
        }
    }

    /// Its daemon's process; each connection has a child of it.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Where it keeps what it has accepted.
    pub(crate) fn queue(&self) -> PathBuf {
        self.cf.with_file_name("queue")
    }

    /// Has it read its configuration anew, as an administrator does.
    pub(crate) fn reload(&self) -> Result<()> {
        let pid = i32::try_from(self.daemon.id()).map_err(|e| format!("a process id: {e}"))?;
        kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|e| format!("SIGHUP to sm-mta: {e}"))
    }

    /// A client at this address of the rig's.
    pub(crate) fn connect_from(&self, source: IpAddr) -> Result<Client> {
        let server = match source {
            IpAddr::V4(_) => IpAddr::V4(SERVER_V4),
            IpAddr::V6(_) => IpAddr::V6(SERVER_V6),
        };
        Client::connect(source, SocketAddr::new(server, self.port))
    }

    /// A client of `sendmail -bs`, as a mail program on the same machine would be.
    pub(crate) fn submit(&self) -> Result<Client> {
        let process = Command::new(&self.program)
            .args(["-bs", "-L", &self.tag, "-C"])
            .arg(&self.cf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("sendmail -bs: {e}"))?;
        Client::submission(process)
    }
}

impl Drop for Sendmail {
    /// Its children, one for each connection, end with their clients.
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Where sm-mta listens; the first is mail.rig.example in the rig's /etc/hosts.
pub(super) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 25);
pub(super) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x25);

/// Gives Cyrus SASL, as sendmail uses it, one user.
pub(crate) fn prepare_auth(sendmail_root: &Path) -> Result<()> {
    let database = "/run/sasldb2";
    let conf = format!("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {database}\n");
    fs::create_dir_all("/etc/sasl2")
        .and_then(|()| fs::write("/etc/sasl2/Sendmail.conf", conf))
        .map_err(|e| format!("/etc/sasl2/Sendmail.conf: {e}"))?;
    let (user, realm) = AUTH_USER.split_once('@').unwrap_or((AUTH_USER, ""));
    let mut command = Command::new(sendmail_root.join("usr/sbin/saslpasswd2"));
    command.args(["-c", "-p", "-f", database, "-u", realm, user]);
    run(&mut command, AUTH_PASSWORD).map(drop)
}

/// Makes all that sm-mta reads.
fn lay_out(rig: &Rig, folder: &Path, port: u16, options: &Options) -> Result<()> {
    make_folders(folder)?;
    put(folder, "filters.m4", filters(options).as_bytes())?;
    access_map(rig, folder, &options.access)?;

    let mut m4 = Command::new("m4");
    let define = |name: &str, value: &dyn std::fmt::Display| format!("-D{name}={value}");
    m4.arg(define("RIG_CF", &rig.sendmail_root.join("usr/share/sendmail/cf").display()))
        .arg(define("RIG_DIR", &folder.display()))
        .arg(define("RIG_CERTS", &rig.certs.folder.display()))
        .arg(define("RIG_PORT", &port));
    if options.delay_checks {
        m4.arg("-DRIG_DELAY_CHECKS");
    }
    if options.no_client_cert {
        m4.arg("-DRIG_NO_CLIENT_CERT");
    }
    if options.no_access_map {
        m4.arg("-DRIG_NO_ACCESS_MAP");
    }
    prepare(folder, &run(m4.arg(MC), "")?.stdout).map(drop)
}

/// One of sendmail's programs.
pub(super) fn program(rig: &Rig, name: &str) -> PathBuf {
    rig.sendmail_root.join("usr/libexec/sendmail").join(name)
}

/// Makes what every sm-mta reads, whatever its configuration is; says where that is.
pub(super) fn prepare(folder: &Path, cf: &[u8]) -> Result<PathBuf> {
    make_folders(folder)?;
    put(folder, "service.switch", b"hosts files\naliases files\n")?;
    put(folder, "statistics", b"")?;
    put(folder, "sendmail.cf", cf)?;
    Ok(folder.join("sendmail.cf"))
}

/// Makes the access map from its lines, as an administrator makes it.
pub(super) fn access_map(rig: &Rig, folder: &Path, lines: &[String]) -> Result<()> {
    let mut makemap = Command::new(program(rig, "makemap"));
    makemap.args(["-C", "/dev/null", "hash"]).arg(folder.join("access"));
    run(&mut makemap, &lines.join("\n")).map(drop)
}

pub(super) fn make_folders(folder: &Path) -> Result<()> {
    let queue = folder.join("queue");
    let private = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    private(folder).and_then(|()| private(&queue)).map_err(|e| format!("{}: {e}", queue.display()))
}

pub(super) fn put(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    fs::write(folder.join(name), text).map_err(|e| format!("{}/{name}: {e}", folder.display()))
}

/// The lines that attach the milter, and the case's own.
fn filters(options: &Options) -> String {
    let equate = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {name}={value}"));
    let (flags, timeouts) = (equate("F", &options.flags), equate("T", &options.timeouts));
    let (flags, timeouts) = (flags.unwrap_or_default(), timeouts.unwrap_or_default());
    let filter = |(number, socket): (usize, &String)| {
        format!("INPUT_MAIL_FILTER(`encr-milter{number}', `S={socket}{flags}{timeouts}')dnl\n")
    };
    let filters = (0..).zip(&options.attach).map(filter);
    filters.chain(options.mc.iter().map(|line| format!("{line}\n"))).collect::<Vec<_>>().concat()
}
