//! One booted machine: systemd as process 1 in containers of systemd-nspawn, with a network that reaches nobody but us.
//!
//! Promises: what is done on it is not seen by any other, nor afterwards: its files lie over the tree that setup.sh has
//! made, in memory. When it is dropped it has ended, and its cgroups are gone; when this program is killed, the
//! kernel ends it with us.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::smtp::Client;
use crate::rig::tool::run;
use crate::rig::{Result, unpacked, wait};

/// A command on the machine, dpkg with all its triggers among them. Nothing that works comes near it.
const LIMIT: Duration = Duration::from_mins(3);
/// Where cgroups of our own are made, as far as there are such hierarchies here.
const HIERARCHIES: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// Each has a network of its own: 10.25.NUMBER.0/24.
static NUMBER: AtomicU8 = AtomicU8::new(1);

pub(crate) struct Machine {
    folder: PathBuf,
    root: PathBuf,
    nspawn: Child,
    init: Pid,
    number: u8,
    cgroups: Vec<PathBuf>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    /// Both outputs, as they came.
    pub(crate) text: String,
}

impl Machine {
    /// Boots one, and waits until it has started all it starts.
    pub(crate) fn boot(tag: &str) -> Result<Machine> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/run/{tag}"));
        let root = folder.join("root");
        for name in ["root", "upper", "work"] {
            fs::create_dir_all(folder.join(name)).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", tree()?.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root), "")?;
        furnish(&root, number)?;
        let cgroups = cgroups(tag)?;
        let nspawn = spawn(&root, &folder.join("console"), &cgroups)?;
        let mut machine = Machine { folder, root, nspawn, init: Pid::from_raw(0), number, cgroups };
        machine.wait_for_init()?;
        machine.connect_network()?;
        wait::within(LIMIT, "the machine to have booted", || {
            let said = machine.sh("systemctl is-system-running").ok()?;
            let state = said.text.trim();
            (state == "running" || state == "degraded").then_some(())
        })
        .map_err(|fault| format!("{fault}\n{}", machine.console()))?;
        Ok(machine)
    }

    /// Runs a command line of the shell, as root, with nothing on its standard input.
    pub(crate) fn sh(&self, script: &str) -> Result<Said> {
        let output = Command::new("timeout")
            .arg(format!("{}s", LIMIT.as_secs()))
            .args(["nsenter", "--target", &self.init.to_string(), "--all", "env", "-i"])
            .args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"])
            .args(["LANG=C.UTF-8", "SYSTEMD_PAGER=", "sh", "-c"])
            .arg(format!("exec 2>&1; cd /root; {script}"))
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("nsenter: {e}"))?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok(Said { code: output.status.code().unwrap_or(-1), text })
    }

    /// The same, where it must succeed. What it said.
    pub(crate) fn must(&self, script: &str) -> Result<String> {
        let said = self.sh(&format!("set -e; {script}"))?;
        if said.code == 0 {
            return Ok(said.text);
        }
        Err(format!("on the machine: {script}\nexit code {}\n{}", said.code, said.text))
    }

    /// One line of an answer.
    pub(crate) fn line(&self, script: &str) -> Result<String> {
        self.must(script).map(|text| text.trim().to_owned())
    }

    /// Waits until a command succeeds.
    pub(crate) fn until(&self, what: &str, script: &str) -> Result<()> {
        wait::until(what, || self.sh(script).is_ok_and(|said| said.code == 0).then_some(()))
    }

    /// Brings a file onto it, below root's home.
    pub(crate) fn bring(&self, file: &Path) -> Result<()> {
        let name = file.file_name().ok_or("a file has a name")?;
        let to = self.root.join("root").join(name);
        fs::copy(file, &to).map(drop).map_err(|e| format!("{} to {}: {e}", file.display(), to.display()))
    }

    /// A connection to its sendmail, from a host of its network: 2 is mx.partner.example, 4 mx.other.example.
    pub(crate) fn connect_from(&self, host: u8) -> Result<Client> {
        let to = SocketAddr::new(self.address(25), 25);
        Client::connect(self.address(host), to)
    }

    fn address(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 25, self.number, host))
    }

    /// Process 1 of the machine is the child of systemd-nspawn.
    fn wait_for_init(&mut self) -> Result<()> {
        let id = self.nspawn.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let init = wait::until("systemd to start", || {
            if let Ok(Some(status)) = self.nspawn.try_wait() {
                return Some(Err(format!("systemd-nspawn has ended, {status}")));
            }
            let children = fs::read_to_string(&children).ok()?;
            let child = children.split_whitespace().next()?;
            let program = fs::read_link(format!("/proc/{child}/exe")).ok()?;
            program.ends_with("systemd").then(|| child.parse().map_err(|e| format!("{child}: {e}")))
        });
        let init = init.and_then(|found| found).map_err(|fault| format!("{fault}\n{}", self.console()))?;
        self.init = Pid::from_raw(init);
        Ok(())
    }

    /// A cable between it and us. Here are the hosts that send it mail.
    fn connect_network(&self) -> Result<()> {
        let (ours, init) = (format!("mc{}", self.number), self.init.to_string());
        let ip = |arguments: &str| run(Command::new("ip").args(arguments.split(' ')), "").map(drop);
        let there = |arguments: &str| {
            run(
                Command::new("nsenter").args(["--target", &init, "--net", "ip"]).args(arguments.split(' ')),
                "",
            )
            .map(drop)
        };
        ip(&format!("link add {ours} type veth peer name host0 netns {init}"))?;
        for host in [2, 4, 9] {
            ip(&format!("address add {}/24 dev {ours}", self.address(host)))?;
        }
        ip(&format!("link set {ours} up"))?;
        there(&format!("address add {}/24 dev host0", self.address(25)))?;
        there("link set host0 up")
    }

    fn console(&self) -> String {
        let text = fs::read(self.folder.join("console")).unwrap_or_default();
        format!("the console:\n{}", String::from_utf8_lossy(&text))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All of it ends with its process 1.
        if self.init.as_raw() > 0 {
            let _ = kill(self.init, Signal::SIGKILL);
        } else {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
        for cgroup in &self.cgroups {
            remove(cgroup);
        }
        let _ = Command::new("umount").arg("--lazy").arg(&self.root).status();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A cgroup with those below it. What has just ended may still be leaving it.
fn remove(cgroup: &Path) {
    let _ = wait::until("a cgroup to be empty", || {
        let below = fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
        below.filter(|path| path.is_dir()).for_each(|path| remove(&path));
        match fs::remove_dir(cgroup) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => None,
            _ => Some(()),
        }
    });
}

/// The tree that setup.sh has made lies in the target folder, beside sendmail's.
fn tree() -> Result<PathBuf> {
    unpacked("machine")
}

/// Names, as DNS would have them.
fn furnish(root: &Path, number: u8) -> Result<()> {
    let hosts = format!(
        "127.0.0.1 localhost\n10.25.{number}.25 mail.rig.example mail\n10.25.{number}.2 mx.partner.example \
         partner.example\n10.25.{number}.4 mx.other.example other.example\n"
    );
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n";
    for (name, text) in [
        ("etc/hosts", hosts.as_str()),
        ("etc/hostname", "mail.rig.example\n"),
        ("etc/nsswitch.conf", nsswitch),
        ("etc/resolv.conf", ""),
        // How busy the machine around it is must not matter.
        (
            "etc/mail/m4/provider.m4",
            "define(`confREFUSE_LA', `10000')dnl\ndefine(`confQUEUE_LA', `10000')dnl\ndefine(`confDELAY_LA', `0')dnl\n",
        ),
        // As on a machine that nobody has given a name to: a new one at each boot.
        ("etc/machine-id", ""),
    ] {
        let path = root.join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    // Debian allows ten connections a minute.
    let access = root.join("etc/mail/access");
    let limits = format!("ClientRate:10.25.{number}\t0\nClientConn:10.25.{number}\t0\n");
    let append = || fs::OpenOptions::new().append(true).open(&access)?.write_all(limits.as_bytes());
    append().map_err(|e| format!("{}: {e}", access.display()))
}

/// Groups of its own: else systemd would take ours for its root, and leave what it makes there.
fn cgroups(tag: &str) -> Result<Vec<PathBuf>> {
    let made = HIERARCHIES.iter().filter(|hierarchy| Path::new(hierarchy).join("cgroup.procs").exists());
    made.map(|hierarchy| {
        let cgroup = Path::new(hierarchy).join(format!("encr-milter-rig-{tag}-{}", outer_pid()?));
        remove(&cgroup);
        fs::create_dir(&cgroup).map_err(|e| format!("{}: {e}", cgroup.display()))?;
        Ok(cgroup)
    })
    .collect()
}

/// Our process id as others on this machine see it: in our own namespace we are always the same.
fn outer_pid() -> Result<String> {
    let namespace = fs::read_link("/proc/self/ns/pid").map_err(|e| format!("our PID namespace: {e}"))?;
    Ok(namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
}

fn spawn(root: &Path, console: &Path, cgroups: &[PathBuf]) -> Result<Child> {
    let console = fs::File::create(console).map_err(|e| format!("{}: {e}", console.display()))?;
    let errors = console.try_clone().map_err(|e| format!("the console: {e}"))?;
    Command::new("sh")
        .args(["-c", "for group in \"$@\"; do echo $$ >\"$group/cgroup.procs\"; done; exec systemd-nspawn --quiet --register=no --keep-unit --boot --private-network --console=pipe --resolv-conf=off --timezone=off --link-journal=no --hostname=mail.rig.example --directory=\"$ROOT\"", "sh"])
        .args(cgroups)
        .env("ROOT", root)
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("systemd-nspawn: {e}"))
}
