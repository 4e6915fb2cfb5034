//! The files of a whole machine, below a folder, and who answers there: a milter, a daemon's control socket, an MTA of our own.
//!
//! Promises: as it is made, nothing is wrong with it, and `doctor` finds nothing.

use super::smtp_server::{Identity, Server};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::thread;
use std::time::SystemTime;

pub(crate) const POLICY: &str =
    "version = 1\n[[rule]]\nname = \"everyone\"\nclient = [\"*\"]\nsoft-fail = { min-bits = 128 }\n";
pub(crate) const DAEMON: &str = "version = 1\n[log]\ndecisions = \"/var/log/encr-milter/decisions.jsonl\"\n";
pub(crate) const CF: &str = "\
O PidFile=/run/sendmail.pid
O InputMailFilters=encr-milter
Mlocal, P=/usr/sbin/sensible-mda, F=lsDFMAw5:/|@qPn9S, A=sensible-mda $u
Kaccess hash -T<TMPF> -o /etc/mail/access
Xencr-milter, S=local:/run/encr-milter/milter.sock, F=T, T=C:10s;S:10s;R:60s;E:2m
";
pub(crate) const DAEMON_FILE: &str = "etc/encr-milter/encr-milter.toml";
pub(crate) const POLICY_FILE: &str = "etc/encr-milter/policy.toml";
pub(crate) const CF_FILE: &str = "etc/mail/sendmail.cf";
pub(crate) const DECISIONS: &str = "var/log/encr-milter/decisions.jsonl";

/// A machine: its files, and who answers there.
pub(crate) struct Tree {
    pub(crate) root: tempfile::TempDir,
    pub(crate) mta: Option<Server>,
}

/// What `GET /status` of a daemon says.
pub(crate) const STATUS: &str = r#"{"version":"0.1.0","pid":322,"state":"running","since":"2026-11-22T00:00:00Z",
    "config":"/etc/encr-milter/encr-milter.toml",
    "policy":{"fingerprint":"POLICY","rules":1,"keys":1,"since":"2026-11-22T00:00:00Z"},
    "last_load":{"outcome":"in-force","cause":"start","at":"2026-11-22T00:00:00Z","took_ms":1,"changes":[],
        "further_changes":0,"notes":[],"errors":0,"warnings":0,"diagnostics":[],"drawn":""},
    "loads":{"in_force":1,"refused":0},"listeners":[],"connections":{},
    "decisions":{"accept":9,"tempfail":0,"reject":0,"unknown":0,"in_doubt":0},
    "lost":{"log":{"queue_full":LOST,"not_written":0}}}"#;

impl Tree {
    /// One where nothing is wrong.
    pub(crate) fn healthy() -> Self {
        static IDENTITY: LazyLock<Identity> =
            LazyLock::new(|| Identity::issue("localhost", &["localhost"], 90, None));
        let root = tempfile::tempdir().unwrap();
        let tree = Self { root, mta: Some(Server::sound(Some(IDENTITY.server()))) };
        for folder in
            ["etc/encr-milter", "etc/mail", "run/encr-milter", "var/lib/encr-milter", "var/log/encr-milter"]
        {
            fs::create_dir_all(tree.path(folder)).unwrap();
        }
        for folder in ["", "run", "run/encr-milter"] {
            tree.mode(folder, 0o755);
        }
        let record = "{\"ts\":\"2026-11-22T02:07:29Z\",\"direction\":\"inbound\",\"verdict\":\"pass\",\"policy\":\"000000000000\"}\n";
        tree.put(DAEMON_FILE, DAEMON);
        tree.put(POLICY_FILE, POLICY);
        tree.put(DECISIONS, record);
        tree.put("etc/mail/access", "# nothing\n");
        tree.put("etc/mail/access.db", "");
        tree.put(CF_FILE, CF);
        tree.put("run/sendmail.pid", "321\n/usr/sbin/sendmail -bd -q10m\n");
        tree.process(321, "sendmail-mta", "sendmail: MTA: accepting connections");
        tree.process(322, "encr-milter", "encr-milter\0run\0-c\0/etc/encr-milter/encr-milter.toml");
        tree.milter(|stream| answer(stream, &negotiated("i {client_addr} {cipher_bits} {verify}")));
        tree.control(&tree.fingerprint(), 0);
        tree
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        let at = self.path(name).metadata().unwrap().modified().unwrap();
        self.put(name, &text.replace(from, to));
        touch(&self.path(name), at);
    }

    /// A process of this user.
    pub(crate) fn process(&self, pid: u32, name: &str, title: &str) {
        self.put(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.put(&format!("proc/{pid}/cmdline"), title);
        let uid = nix::unistd::geteuid();
        self.put(
            &format!("proc/{pid}/status"),
            &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\nGroups:\t\n"),
        );
    }

    /// What the policy's fingerprint is, `check` says.
    pub(crate) fn fingerprint(&self) -> String {
        let check = run(&["check", "--json", "--policy", self.path(POLICY_FILE).to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&check.stdout).unwrap();
        report["policy"].as_str().unwrap().to_owned()
    }

    /// Somebody on the milter's socket.
    pub(crate) fn milter(&self, serve: impl Fn(&mut UnixStream) + Send + 'static) {
        let path = self.path("run/encr-milter/milter.sock");
        let _ = fs::remove_file(&path);
        listen(&path, serve);
        self.mode("run/encr-milter/milter.sock", 0o660);
    }

    /// A daemon that tells this of itself.
    pub(crate) fn control(&self, policy: &str, lost: u64) {
        let body = STATUS.replace("POLICY", policy).replace("LOST", &lost.to_string());
        let path = self.path("run/encr-milter/control.sock");
        let _ = fs::remove_file(&path);
        listen(&path, move |stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        });
    }

    pub(crate) fn examine(&self, more: &[&str]) -> Output {
        let root = self.root.path().to_str().unwrap();
        let mut arguments = vec!["doctor", "--root", root, "--timeout", "5", "--helo", "localhost"];
        let target = self.mta.as_ref().map(Server::target);
        if let Some(target) = &target {
            arguments.extend(["--mta", target]);
        }
        run(&[&arguments[..], more].concat())
    }

    /// `level code` of all that is not as it should be.
    pub(crate) fn wrong(&self, more: &[&str]) -> Vec<String> {
        let output = self.examine(&[&["--json"], more].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code() == Some(0), report["problems"] == 0, "{report:#}");
        assert_eq!(output.status.code() == Some(78), report["problems"] != 0, "{report:#}");
        let mut found = Vec::new();
        for finding in report["findings"].as_array().unwrap() {
            let level = finding["level"].as_str().unwrap();
            if level != "ok" {
                if !finding["remedy"].is_array() {
                    found.push(format!("no remedy: {finding}"));
                }
                found.push(format!("{level} {}", finding["code"].as_str().unwrap()));
            }
        }
        found.dedup();
        found
    }
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_encr-milter")).args(arguments).output().unwrap()
}

pub(crate) fn touch(path: &Path, at: SystemTime) {
    File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}

pub(crate) fn listen(path: &Path, serve: impl Fn(&mut UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&mut stream.unwrap());
        }
    });
}

/// Answers the offer with these bytes, and waits for the end.
pub(crate) fn answer(stream: &mut UnixStream, bytes: &[u8]) {
    let mut offer = [0; 17];
    let _ = stream.read_exact(&mut offer);
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 16]);
}

/// A milter's answer that asks for these macros with MAIL.
pub(crate) fn negotiated(macros: &str) -> Vec<u8> {
    let mut payload = vec![b'O'];
    payload.extend([6u32, 0, 0].iter().flat_map(|word| word.to_be_bytes()));
    payload.extend([0, 0, 0, 2]);
    payload.extend(macros.as_bytes());
    payload.push(0);
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], &payload].concat()
}
