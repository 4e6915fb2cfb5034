//! `doctor`, the real binary, over trees of files with a milter, a daemon's control socket and an MTA of our own: in
//! health, and broken in one way at a time.
//!
//! Promises: what is not as it should be has a remedy; what could not be looked at never passes for sound.

// A test may stop at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};
use support::smtp_server::{Identity, Server};

const POLICY: &str =
    "version = 1\n[[rule]]\nname = \"everyone\"\nclient = [\"*\"]\nsoft-fail = { min-bits = 128 }\n";
const DAEMON: &str = "version = 1\n[log]\ndecisions = \"/var/log/encr-milter/decisions.jsonl\"\n";
const CF: &str = "\
O PidFile=/run/sendmail.pid
O InputMailFilters=encr-milter
Kaccess hash -T<TMPF> -o /etc/mail/access
Xencr-milter, S=local:/run/encr-milter/milter.sock, F=T, T=C:10s;S:10s;R:30s;E:2m
";
const DAEMON_FILE: &str = "etc/encr-milter/encr-milter.toml";
const POLICY_FILE: &str = "etc/encr-milter/policy.toml";
const CF_FILE: &str = "etc/mail/sendmail.cf";
const DECISIONS: &str = "var/log/encr-milter/decisions.jsonl";

/// A machine: its files, and who answers there.
struct Tree {
    root: tempfile::TempDir,
    mta: Option<Server>,
}

/// What `GET /status` of a daemon says.
const STATUS: &str = r#"{"version":"0.1.0","pid":322,"state":"running","since":"2026-11-22T00:00:00Z",
    "config":"/etc/encr-milter/encr-milter.toml",
    "policy":{"fingerprint":"POLICY","rules":1,"keys":1,"since":"2026-11-22T00:00:00Z"},
    "last_load":{"outcome":"in-force","cause":"start","at":"2026-11-22T00:00:00Z","took_ms":1,"changes":[],
        "further_changes":0,"notes":[],"errors":0,"warnings":0,"diagnostics":[],"drawn":""},
    "loads":{"in_force":1,"refused":0},"listeners":[],"connections":{},
    "decisions":{"accept":9,"tempfail":0,"reject":0,"unknown":0,"in_doubt":0},
    "lost":{"log":{"queue_full":LOST,"not_written":0}}}"#;

impl Tree {
    /// One where nothing is wrong.
    fn healthy() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        let at = self.path(name).metadata().unwrap().modified().unwrap();
        self.put(name, &text.replace(from, to));
        touch(&self.path(name), at);
    }

    /// A process of this user.
    fn process(&self, pid: u32, name: &str, title: &str) {
        self.put(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.put(&format!("proc/{pid}/cmdline"), title);
        let uid = nix::unistd::geteuid();
        self.put(
            &format!("proc/{pid}/status"),
            &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\nGroups:\t\n"),
        );
    }

    /// What the policy's fingerprint is, `check` says.
    fn fingerprint(&self) -> String {
        let check = run(&["check", "--json", "--policy", self.path(POLICY_FILE).to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&check.stdout).unwrap();
        report["policy"].as_str().unwrap().to_owned()
    }

    /// Somebody on the milter's socket.
    fn milter(&self, serve: impl Fn(&mut UnixStream) + Send + 'static) {
        let path = self.path("run/encr-milter/milter.sock");
        let _ = fs::remove_file(&path);
        listen(&path, serve);
        self.mode("run/encr-milter/milter.sock", 0o660);
    }

    /// A daemon that tells this of itself.
    fn control(&self, policy: &str, lost: u64) {
        let body = STATUS.replace("POLICY", policy).replace("LOST", &lost.to_string());
        let path = self.path("run/encr-milter/control.sock");
        let _ = fs::remove_file(&path);
        listen(&path, move |stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        });
    }

    fn examine(&self, more: &[&str]) -> Output {
        let root = self.root.path().to_str().unwrap();
        let mut arguments = vec!["doctor", "--root", root, "--timeout", "2", "--helo", "localhost"];
        let target = self.mta.as_ref().map(Server::target);
        if let Some(target) = &target {
            arguments.extend(["--mta", target]);
        }
        run(&[&arguments[..], more].concat())
    }

    /// `level code` of all that is not as it should be.
    fn wrong(&self, more: &[&str]) -> Vec<String> {
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

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_encr-milter")).args(arguments).output().unwrap()
}

fn touch(path: &Path, at: SystemTime) {
    File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}

fn listen(path: &Path, serve: impl Fn(&mut UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&mut stream.unwrap());
        }
    });
}

/// Answers the offer with these bytes, and waits for the end.
fn answer(stream: &mut UnixStream, bytes: &[u8]) {
    let mut offer = [0; 17];
    let _ = stream.read_exact(&mut offer);
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 16]);
}

/// A milter's answer that asks for these macros with MAIL.
fn negotiated(macros: &str) -> Vec<u8> {
    let mut payload = vec![b'O'];
    payload.extend([6u32, 0, 0].iter().flat_map(|word| word.to_be_bytes()));
    payload.extend([0, 0, 0, 2]);
    payload.extend(macros.as_bytes());
    payload.push(0);
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], &payload].concat()
}

#[test]
fn nothing_is_wrong_with_a_healthy_machine() {
    let tree = Tree::healthy();
    assert_eq!(tree.wrong(&[]), [] as [&str; 0]);
    let shown = tree.examine(&[]);
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "the daemon\n  ok         ",
        "policy-in-force]",
        "every session is shown to encr-milter [attached]",
        "TLSv1.3, TLS_AES_256_GCM_SHA384, 256 bits [starttls]",
        "\nnothing is wrong\nwhether a message is judged here and now: encr-milter doctor --live\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let quiet = tree.examine(&["--quiet"]);
    assert!(String::from_utf8(quiet.stdout).unwrap().starts_with("nothing is wrong\n"));
}

#[test]
fn what_a_file_says_cannot_act_on_a_terminal() {
    let tree = Tree::healthy();
    tree.put(CF_FILE, &format!("{CF}X\u{1b}]0;owned\u{7}{}, F=T\n", "x".repeat(100_000)));
    let said = tree.examine(&[]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("filter-fault") && !text.contains(['\u{1b}', '\u{7}']), "{text}");
    assert!(text.lines().all(|line| line.len() < 10_000), "{}", text.len());
}

#[test]
fn where_there_is_nothing_nothing_passes_for_sound() {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree { root, mta: None };
    assert_eq!(tree.wrong(&[]), ["problem daemon-file", "problem sendmail-cf"]);
}

/// What is done to a healthy tree, and what is found then.
type Break = (fn(&mut Tree), &'static [&'static str]);

const BROKEN: &[Break] = &[
    (|tree| tree.put(DAEMON_FILE, "version = 1\n[milter]\nlisten = 5\n"), &["problem daemon-file"]),
    (|tree| tree.put(POLICY_FILE, "version = 1\n[[rule]]\n"), &["problem policy", "problem policy-in-force"]),
    (|tree| tree.control("0123456789ab", 0), &["problem policy-in-force"]),
    (|tree| tree.control(&tree.fingerprint(), 7), &["warning lines-lost"]),
    (
        |tree| {
            // It hangs: whoever connects is not answered.
            let path = tree.path("run/encr-milter/control.sock");
            fs::remove_file(&path).unwrap();
            listen(&path, |stream| while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {});
        },
        &["problem daemon-running", "not-looked state-folder", "not-looked decisions-file"],
    ),
    (
        |tree| {
            tree.put(
                POLICY_FILE,
                &POLICY.replace("[[rule]]", "[exempt]\nnetworks = [\"0.0.0.0/0\"]\n[[rule]]"),
            );
            tree.control(&tree.fingerprint(), 0);
        },
        &["problem exempt-everybody"],
    ),
    (
        |tree| {
            tree.put(POLICY_FILE, &POLICY.replace("128 }", "128, from = 9999-01-01 }"));
            tree.control(&tree.fingerprint(), 0);
        },
        &["warning policy-empty"],
    ),
    (|tree| tree.put(DECISIONS, ""), &["warning macros-told"]),
    // As logrotate leaves them.
    (
        |tree| {
            fs::rename(tree.path(DECISIONS), tree.path(&format!("{DECISIONS}.1"))).unwrap();
            tree.put(DECISIONS, "");
        },
        &[],
    ),
    (|tree| fs::remove_dir(tree.path("var/lib/encr-milter")).unwrap(), &["problem state-folder"]),
    (|tree| tree.put(DAEMON_FILE, "version = 1\n"), &["warning decisions-file"]),
    (|tree| touch(&tree.path(POLICY_FILE), SystemTime::now() + Duration::from_hours(1)), &["warning clock"]),
    // Without its control socket the daemon's records tell by which policy it judges.
    (
        |tree| fs::remove_file(tree.path("run/encr-milter/control.sock")).unwrap(),
        &["warning policy-in-force"],
    ),
    (
        |tree| {
            fs::remove_file(tree.path("run/encr-milter/control.sock")).unwrap();
            tree.change(DECISIONS, "000000000000", &tree.fingerprint());
        },
        &[],
    ),
    (
        |tree| {
            fs::remove_file(tree.path("run/encr-milter/control.sock")).unwrap();
            fs::write(tree.path("proc/322/cmdline"), "encr-milter\0run\0--config=/etc/other.toml").unwrap();
        },
        &["problem daemon-running", "not-looked state-folder", "not-looked decisions-file"],
    ),
    (
        |tree| tree.change(CF_FILE, "InputMailFilters=encr-milter", "InputMailFilters=other"),
        &["problem filter-not-defined", "problem attached"],
    ),
    (|tree| tree.change(CF_FILE, "\nXencr-milter", "\n#Xencr-milter"), &["problem attached"]),
    (|tree| tree.change(CF_FILE, "F=T", "Q=T"), &["problem filter-fault", "warning when-down"]),
    (|tree| tree.change(CF_FILE, "F=T", "F=R"), &["warning when-down"]),
    (|tree| tree.change(CF_FILE, "F=T, ", ""), &["warning when-down"]),
    (|tree| tree.change(CF_FILE, "C:10s", "C:10m"), &["warning timeouts"]),
    (
        |tree| tree.change(CF_FILE, "milter.sock", "other.sock"),
        &["problem socket-agreed", "problem socket-safe"],
    ),
    (|tree| tree.change(CF_FILE, "O PidFile", "O LogLevel=8\nO PidFile"), &["warning log-level"]),
    (
        |tree| {
            tree.change(
                CF_FILE,
                "O PidFile",
                "O DaemonPortOptions=Name=MSA, Port=587, I=none\nXnone, S=local:/x\nO PidFile",
            );
        },
        &["problem attached"],
    ),
    (
        |tree| {
            let ports = "O DaemonPortOptions=Name=MTA\nO DaemonPortOptions=Name=MSA, Port=587, I=none\n";
            tree.change(CF_FILE, "O PidFile", &format!("{ports}Xnone, S=local:/x\nO PidFile"));
        },
        &["warning attached"],
    ),
    (
        |tree| tree.change(CF_FILE, "O PidFile", "O RunAsUser=no-such-user\nO PidFile"),
        &["problem socket-safe"],
    ),
    (
        |tree| {
            // It read what was there an hour ago.
            touch(&tree.path("run/sendmail.pid"), SystemTime::now() - Duration::from_hours(1));
        },
        &["problem not-restarted"],
    ),
    (|tree| fs::remove_dir_all(tree.path("proc/321")).unwrap(), &["problem mta-running"]),
    (
        |tree| {
            tree.put("etc/mail/sendmail.mc", "");
            touch(&tree.path("etc/mail/sendmail.mc"), SystemTime::now() + Duration::from_mins(1));
        },
        &["warning not-made"],
    ),
    // The one that runs has another configuration, in which there is no milter.
    (
        |tree| {
            tree.put("etc/mail/other.cf", "O PidFile=/run/sendmail.pid\n");
            tree.put("run/sendmail.pid", "321\n/usr/sbin/sendmail -bd -C /etc/mail/other.cf\n");
        },
        &["warning other-cf", "problem attached"],
    ),
    (|tree| tree.mode("run", 0o775), &["problem socket-safe"]),
    (|tree| tree.milter(|stream| answer(stream, &negotiated("i j"))), &["problem socket-answers"]),
    (
        |tree| tree.milter(|stream| answer(stream, b"220 mail.example.org ESMTP\r\n")),
        &["problem socket-answers"],
    ),
    (|tree| tree.milter(|_| {}), &["problem socket-answers"]),
    (
        |tree| tree.milter(|stream| while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}),
        &["problem socket-answers"],
    ),
    (|tree| tree.mta = Some(Server::sound(None)), &["problem starttls"]),
    (
        |tree| {
            tree.mta =
                Some(Server::sound(Some(Identity::issue("localhost", &["localhost"], 5, None).server())));
        },
        &["warning certificate"],
    ),
    (|tree| tree.mta = None, &["not-looked starttls"]),
    (
        |tree| {
            let mut context = Identity::issue("localhost", &["localhost"], 90, None).server();
            context.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_2)).unwrap();
            context.set_cipher_list("AES128-SHA").unwrap();
            tree.mta = Some(Server::sound(Some(context)));
            tree.put(POLICY_FILE, &POLICY.replace("128", "168"));
            tree.control(&tree.fingerprint(), 0);
        },
        &["warning policy", "problem demand-possible"],
    ),
    (|tree| tree.change("etc/mail/access", "# nothing", "TLS_Clt:\tENCR:112"), &["warning access-first"]),
    (
        |tree| tree.change("etc/mail/access", "# nothing", "TLS_Clt:a.example\tENCR112"),
        &["warning access-lint"],
    ),
    (
        |tree| tree.change("etc/mail/access", "# nothing", "Srv_Features:192.0.2\tV S"),
        &["warning starttls-withheld"],
    ),
    (
        |tree| touch(&tree.path("etc/mail/access"), SystemTime::now() + Duration::from_mins(1)),
        &["warning access-made"],
    ),
    (|tree| fs::remove_file(tree.path("etc/mail/access")).unwrap(), &["not-looked access-first"]),
    (
        |tree| {
            tree.put(
                DAEMON_FILE,
                &format!("{DAEMON}[outbound]\nlisten = \"unix:/run/encr-milter/outbound.sock\"\n"),
            );
        },
        &["warning outbound-asked"],
    ),
    (
        |tree| tree.change(CF_FILE, "Kaccess", "Kencr_milter socket -T<TMPF> local:/run/x.sock\nKaccess"),
        &[
            "problem outbound-asked",
            "warning outbound-case",
            "problem outbound-agreed",
            "problem outbound-answers",
        ],
    ),
    (|tree| tree.change(DECISIONS, "\"pass\"", "\"exempt\""), &["warning all-exempt"]),
    (|tree| tree.change(DECISIONS, "\"pass\"", "\"unknown\""), &["problem macros-told"]),
    (|tree| tree.put(DECISIONS, ""), &["warning macros-told"]),
];

#[test]
fn what_is_broken_is_found_and_nothing_else() {
    let faults = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((number, (break_it, expected))) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|number| Some((number, BROKEN.get(number)?)))
                {
                    let mut tree = Tree::healthy();
                    break_it(&mut tree);
                    let found = tree.wrong(&[]);
                    if found != *expected {
                        let fault = format!("break {number}: found {found:?}, expected {expected:?}");
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A daemon that is started without its socket unit makes the sockets itself, and systemd cannot hold them then.
#[test]
fn a_daemon_is_to_be_started_with_the_socket_unit_that_is_enabled() {
    let tree = Tree::healthy();
    fs::remove_file(tree.path("run/encr-milter/control.sock")).unwrap();
    fs::remove_file(tree.path("run/encr-milter/milter.sock")).unwrap();
    fs::remove_dir_all(tree.path("proc/322")).unwrap();
    let remedies = || -> Vec<String> {
        let report: Value = serde_json::from_slice(&tree.examine(&["--json"]).stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        let first = |finding: &Value| finding["remedy"][0].as_str().unwrap_or_default().to_owned();
        findings.filter(|f| f["code"] == "daemon-running" || f["code"] == "socket-safe").map(first).collect()
    };
    let alone = "systemctl start encr-milter";
    let why = "; journalctl -u encr-milter says why it does not";
    assert_eq!(remedies(), [format!("{alone}{why}"), alone.to_owned()]);
    tree.put("etc/systemd/system/sockets.target.wants/encr-milter.socket", "");
    let both = "systemctl start encr-milter.socket encr-milter";
    assert_eq!(remedies(), [format!("{both}{why}"), both.to_owned()]);
}

#[test]
fn a_message_that_is_begun_is_looked_for() {
    // An MTA that asks nobody: the message is taken, and no record comes.
    let tree = Tree::healthy();
    assert_eq!(tree.wrong(&["--live"]), ["problem live"]);
    let said = tree.mta.as_ref().unwrap().said();
    assert!(said.iter().any(|line| line.starts_with("MAIL FROM:<encr-milter-doctor-")), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("RCPT") || line.starts_with("DATA")), "{said:?}");
}

#[test]
fn postfix_is_looked_at_in_sendmails_place() {
    let tree = Tree::healthy();
    for name in [CF_FILE, "run/sendmail.pid"] {
        fs::remove_file(tree.path(name)).unwrap();
    }
    tree.put("etc/postfix/main.cf", "myhostname = mail.example\n");
    assert_eq!(tree.wrong(&[]), ["problem attached"]);
    tree.put(
        "etc/postfix/main.cf",
        "ours = unix:/run/encr-milter/milter.sock\nsmtpd_milters = inet:localhost:1,\n  $ours\n",
    );
    assert_eq!(tree.wrong(&[]), [] as [&str; 0]);
    tree.put("etc/postfix/master.cf", "submission inet n - y - - smtpd\n  -o smtpd_milters=\n");
    tree.put(
        "etc/postfix/main.cf",
        "smtpd_milters = unix:/run/encr-milter/milter.sock\nmilter_default_action = accept\n",
    );
    assert_eq!(tree.wrong(&[]), ["warning attached", "warning when-down"]);
}
