//! One private Postfix: Debian's, unpacked, with a configuration, a queue and certificates of its own, and the milter
//! attached by `config/postfix-main.cf` as it stands.
//!
//! Promises: it listens when `start` comes back, chrooted as Debian has it, and is gone with all of its processes when
//! it is dropped. Must not: deliver mail (see postfix-main.cf).

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Group, Pid, User};
use toml::Table;

use super::sendmail::{Options, SERVER_V4, SERVER_V6, put};
use super::smtp::Client;
use super::tool::run;
use super::{Result, Rig, listening, wait};

const SNIPPET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/postfix-main.cf");
const MAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/postfix-main.cf");
const MASTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/postfix-master.cf");

/// Where the snippet has the socket, in the queue folder.
const SOCKET: &str = "encr-milter/milter.sock";

/// Where it speaks TLS from the first byte on.
const WITH_TLS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 26);

/// Cyrus SASL, as Postfix uses it; the user is sendmail's.
const SASL: &str =
    "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: /run/sasldb2\nmech_list: PLAIN\n";

/// Its own folder among a trial's, and its queue. Short: the path of a socket must not be long.
fn folder(parent: &Path) -> PathBuf {
    parent.join("pf")
}

fn queue(parent: &Path) -> PathBuf {
    folder(parent).join("q")
}

/// The daemon's settings that the snippet goes with; a trial's own are laid over them.
pub(crate) fn settings(parent: &Path) -> Result<Table> {
    let queue = queue(parent);
    let settings =
        format!("milter.listen = [\"unix:{}/{SOCKET}\"]\nmilter.socket-group = \"postfix\"", queue.display());
    // The folder is there before the daemon is, as an administrator makes it.
    let socket = queue.join(SOCKET);
    let made = fs::create_dir_all(socket.parent().unwrap_or(&queue));
    made.map_err(|e| format!("{}: {e}", socket.display()))?;
    // What is not root must come by here.
    for folder in [parent, &folder(parent), &queue] {
        mode(folder, 0o711)?;
    }
    toml::from_str(&settings).map_err(|e| format!("settings: {e}"))
}

pub(crate) struct Postfix {
    master: Child,
    root: PathBuf,
    config: PathBuf,
    port: u16,
}

impl Postfix {
    /// Starts it in a folder of its own under `parent`, with `main` at the end of its main.cf. Its log lines are tagged
    /// with the tag. What sendmail's options say is said in Postfix's words.
    pub(crate) fn start(
        rig: &Rig,
        parent: &Path,
        tag: &str,
        options: &Options,
        main: &[String],
    ) -> Result<Postfix> {
        let (folder, queue, port) = (folder(parent), queue(parent), rig.port());
        let root = unpacked(rig)?;
        let config = folder.join("conf");
        make_folders(&folder, &queue)?;
        let own = [said_of_sendmail(options)?, main.to_vec()].concat();
        let fill = |text: &str| {
            [
                ("{root}", root.display().to_string()),
                ("{folder}", folder.display().to_string()),
                ("{queue}", queue.display().to_string()),
                ("{certs}", rig.certs.folder.display().to_string()),
                ("{tag}", tag.to_owned()),
                ("{port}", port.to_string()),
            ]
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let main = fill(&read(MAIN)?) + &read(SNIPPET)? + &own.join("\n") + "\n";
        put(&config, "main.cf", main.as_bytes())?;
        put(&config, "master.cf", fill(&read(MASTER)?).as_bytes())?;
        put(&config, "sasl/smtpd.conf", SASL.as_bytes())?;
        let output = fs::File::create(folder.join("output")).map_err(|e| format!("Postfix's output: {e}"))?;
        let program = root.join("usr/lib/postfix/sbin/master");
        let master = environment(&mut Command::new(&program), &root, &config)
            // In the foreground; with a group of its own, so that its children can be ended with it.
            .args(["-s", "-d", "-c"])
            .arg(&config)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(|e| format!("Postfix's output: {e}"))?)
            .stderr(output)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut postfix = Postfix { master, root, config, port };
        let addresses = [SERVER_V4.into(), SERVER_V6.into(), WITH_TLS.into()];
        let addresses: [SocketAddr; 3] = addresses.map(|ip: IpAddr| SocketAddr::new(ip, port));
        let listening = wait::until("Postfix to listen", || {
            let gone = postfix.master.try_wait().ok().flatten();
            gone.map(Err).or_else(|| addresses.iter().all(|at| listening::tcp(*at)).then_some(Ok(())))
        });
        listening?.map_err(|status| {
            let said = fs::read_to_string(folder.join("output")).unwrap_or_default();
            format!("Postfix ended at once, {status}: {said}{}", rig.syslog.of(tag).join("\n"))
        })?;
        Ok(postfix)
    }

    /// A client at this address of the rig's.
    pub(crate) fn connect_from(&self, source: IpAddr) -> Result<Client> {
        let server = match source {
            IpAddr::V4(_) => IpAddr::V4(SERVER_V4),
            IpAddr::V6(_) => IpAddr::V6(SERVER_V6),
        };
        Client::connect(source, SocketAddr::new(server, self.port))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(SERVER_V4.into(), self.port)
    }

    /// A client of its port for TLS from the first byte on; the greeting comes after the handshake.
    pub(crate) fn connect_for_tls(&self, source: IpAddr) -> Result<Client> {
        Client::connect(source, SocketAddr::new(WITH_TLS.into(), self.port))
    }

    /// Runs one of its commands to the end, with this on its standard input.
    pub(crate) fn command(&self, name: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.root.join("usr/sbin").join(name));
        environment(&mut command, &self.root, &self.config).args(arguments);
        let output = run(&mut command, input)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.master.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.master.wait();
    }
}

fn unpacked(rig: &Rig) -> Result<PathBuf> {
    let root = rig.sendmail_root.with_file_name("postfix-root");
    if root.join(".complete").exists() {
        Ok(root)
    } else {
        Err("Postfix is not unpacked yet: run integration/setup.sh, or integration/test.sh".to_owned())
    }
}

fn environment<'a>(command: &'a mut Command, root: &Path, config: &Path) -> &'a mut Command {
    command.env("MAIL_CONFIG", config).env("LD_LIBRARY_PATH", root.join("usr/lib/postfix"))
}

/// The folders that its package has, each with the owner and the mode that it must have, and what a chrooted process
/// finds below the queue.
fn make_folders(folder: &Path, queue: &Path) -> Result<()> {
    let failed = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let user = User::from_name("postfix").ok().flatten().ok_or("no user postfix (rig/namespace.sh)")?;
    let group = Group::from_name("postdrop").ok().flatten().ok_or("no group postdrop (rig/namespace.sh)")?;
    let owned = |path: &Path, group: Option<u32>, bits: u32| {
        fs::create_dir_all(path)
            .and_then(|()| chown(path, Some(user.uid.as_raw()), group))
            .map_err(|e| failed(&path.display().to_string(), &e))?;
        mode(path, bits)
    };
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private"] {
        owned(&queue.join(name), None, 0o700)?;
    }
    for name in ["saved", "trace"] {
        owned(&queue.join(name), None, 0o700)?;
    }
    owned(&folder.join("data"), None, 0o700)?;
    owned(&queue.join("maildrop"), Some(group.gid.as_raw()), 0o1730)?;
    owned(&queue.join("public"), Some(group.gid.as_raw()), 0o2710)?;
    for path in [folder.join("conf/sasl"), queue.join("pid"), queue.join("etc"), queue.join("run")] {
        fs::create_dir_all(&path).map_err(|e| failed(&path.display().to_string(), &e))?;
    }
    for name in ["hosts", "nsswitch.conf", "host.conf", "resolv.conf", "services"] {
        let copied = fs::copy(Path::new("/etc").join(name), queue.join("etc").join(name));
        copied.map_err(|e| failed(name, &e))?;
    }
    let users = queue.join("run/sasldb2");
    fs::copy("/run/sasldb2", &users).map_err(|e| failed("sasldb2", &e))?;
    chown(&users, None, Some(user.gid.as_raw())).map_err(|e| failed("sasldb2", &e))?;
    mode(&users, 0o640)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| format!("{}: {e}", path.display()))
}

/// What a case says of its sm-mta, as lines of main.cf.
fn said_of_sendmail(options: &Options) -> Result<Vec<String>> {
    let Options { attach, flags, timeouts, access, no_access_map, delay_checks, no_client_cert, mc } =
        options;
    if !access.is_empty() || *no_access_map || *delay_checks || !mc.is_empty() || timeouts.is_some() {
        return Err("this case says what only sendmail can do".to_owned());
    }
    let mut lines = Vec::new();
    if *no_client_cert {
        lines.push("smtpd_tls_ask_ccert = no".to_owned());
    }
    let action = match flags.as_deref() {
        None => "accept",
        Some("T") => "tempfail",
        Some("R") => "reject",
        Some(other) => return Err(format!("no F={other} here")),
    };
    let milters: Vec<String> = attach.iter().map(|socket| in_postfixs_words(socket)).collect();
    // What the snippet says stands there.
    if action != "accept" || milters.iter().any(|milter| *milter != format!("unix:{SOCKET}")) {
        let each = milters.iter().map(|milter| format!("{{ {milter}, default_action={action} }}"));
        lines.push(format!("smtpd_milters = {}", each.collect::<Vec<_>>().join(", ")));
    }
    Ok(lines)
}

/// `inet:8891@127.0.0.1` as Postfix writes it; a unix socket is in its queue folder.
fn in_postfixs_words(socket: &str) -> String {
    match socket.split_once(':').and_then(|(_, place)| place.split_once('@')) {
        Some((port, host)) if host.contains(':') => {
            format!("inet:[{}]:{port}", host.trim_matches(['[', ']']))
        }
        Some((port, host)) => format!("inet:{host}:{port}"),
        None => format!("unix:{SOCKET}"),
    }
}
