//! `doctor`, the real binary, over trees of files with a milter, a daemon's control socket and an MTA of our own: in
//! health, and broken in one way at a time.
//!
//! Promises: what is not as it should be has a remedy; what could not be looked at never passes for sound.

// A test may stop at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};
use support::smtp_server::{Identity, Server};
use support::tree::{
    CF, CF_FILE, DAEMON, DAEMON_FILE, DECISIONS, POLICY, POLICY_FILE, Tree, answer, listen, negotiated, touch,
};

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
    let rest = ["attached", "log-level", "access-first", "starttls"].map(|code| format!("not-looked {code}"));
    let wrong = ["problem daemon-file", "problem sendmail-cf"].map(str::to_owned);
    assert_eq!(tree.wrong(&[]), [&wrong[..], &rest].concat());
}

/// What lies there, how it comes there, and what is said of it.
type Odd<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

/// Whatever lies in its place, there is an answer, soon, and nothing that rests on it is `ok`.
#[test]
fn what_is_no_sendmail_cf_says_nothing() {
    let zeros = |path: &Path| File::create(path).unwrap().set_len(1 << 30).unwrap();
    let kinds: [Odd<'_>; 8] = [
        ("empty", &|path| fs::write(path, "").unwrap(), "no mailer"),
        (
            "garbage",
            &|path| fs::write(path, [0xff, 0, b'\n', b'O', b'X'].repeat(10_000)).unwrap(),
            "no mailer",
        ),
        ("cut off", &|path| fs::write(path, CF.split("Mlocal").next().unwrap()).unwrap(), "no mailer"),
        ("many lines", &|path| fs::write(path, "x\n".repeat(2_000_000)).unwrap(), "no mailer"),
        ("a folder", &|path| fs::create_dir(path).unwrap(), "a folder, and no file"),
        (
            "a pipe",
            &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "a pipe, and no file",
        ),
        ("a device", &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(), "a device, and no file"),
        ("a gigabyte", &zeros, "more than 4 MB"),
    ];
    for (kind, make, why) in kinds {
        let tree = Tree::healthy();
        fs::remove_file(tree.path(CF_FILE)).unwrap();
        make(&tree.path(CF_FILE));
        let begun = std::time::Instant::now();
        let output = tree.examine(&["--json"]);
        assert!(begun.elapsed() < support::DEADLINE, "{kind}: {:?}", begun.elapsed());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let of = |code: &str| findings.iter().find(|finding| finding["code"] == code).unwrap();
        assert_eq!(of("sendmail-cf")["level"], "problem", "{kind}");
        assert!(of("sendmail-cf")["found"].as_str().unwrap().contains(why), "{kind}: {}", of("sendmail-cf"));
        for code in ["attached", "log-level", "access-first"] {
            assert_eq!(of(code)["level"], "not-looked", "{kind}: {code}");
        }
        // The MTA was named: it can be asked.
        assert_eq!(of("starttls")["level"], "ok", "{kind}");
    }
}

/// Where nothing is to be read from, nothing is waited for.
#[test]
fn a_pipe_in_the_place_of_any_file_is_told() {
    for (file, expected) in [
        ("etc/mail/access", "not-looked access-first"),
        (DECISIONS, "not-looked macros-told"),
        ("run/sendmail.pid", "not-looked not-restarted"),
    ] {
        let tree = Tree::healthy();
        fs::remove_file(tree.path(file)).unwrap();
        nix::unistd::mkfifo(&tree.path(file), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = tree.wrong(&[]);
        assert!(found.iter().any(|wrong| wrong == expected), "{file}: {found:?}");
    }
}

/// What stands below a finding.
fn remedy(tree: &Tree, code: &str) -> String {
    let report: Value = serde_json::from_slice(&tree.examine(&["--json"]).stdout).unwrap();
    let finding =
        report["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code).unwrap();
    let lines: Vec<&str> =
        finding["remedy"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    lines.join("\n")
}

#[test]
fn the_line_to_write_is_that_for_the_rules_there_are() {
    let tree = Tree::healthy();
    tree.change(CF_FILE, "\nXencr-milter", "\n#Xencr-milter");
    assert!(remedy(&tree, "attached").contains("milter.sock, F=T, T=C:10s"), "{}", remedy(&tree, "attached"));
    tree.put(POLICY_FILE, &POLICY.replace("soft-fail", "observe"));
    let line = remedy(&tree, "attached");
    assert!(line.contains("milter.sock, T=C:10s") && !line.contains("F=T"), "{line}");
    tree.put(POLICY_FILE, "version = 1\n[[rule]]\n");
    let line = remedy(&tree, "attached");
    assert!(
        line.contains("milter.sock, T=C:10s") && line.contains("with F=T before T= where rules"),
        "{line}"
    );
}

#[test]
fn without_starttls_debians_own_way_to_it_is_named() {
    let mut tree = Tree::healthy();
    tree.mta = Some(Server::sound(None));
    assert!(remedy(&tree, "starttls").contains("confSERVER_CERT"));
    tree.put("usr/share/sendmail/update_tls", "#!/bin/sh\n");
    let lines = remedy(&tree, "starttls");
    assert!(lines.contains("sh /usr/share/sendmail/update_tls new"), "{lines}");
    assert!(lines.contains("include(`/etc/mail/tls/starttls.m4')dnl"), "{lines}");
}

#[test]
fn mail_of_the_host_itself_is_no_alarm_on_its_first_day() {
    let tree = Tree::healthy();
    let record = |day: u8, address: &str| {
        format!(
            "{{\"ts\":\"2026-11-{day}T02:07:29Z\",\"direction\":\"inbound\",\"client_addr\":\"{address}\",\"verdict\":\"exempt\"}}\n"
        )
    };
    tree.put(DECISIONS, &(record(20, "127.0.0.1") + &record(20, "::1")));
    assert_eq!(tree.wrong(&[]), ["not-looked all-exempt"]);
    assert!(remedy(&tree, "all-exempt").contains("another host"), "{}", remedy(&tree, "all-exempt"));
    // Days later somebody else should have come; and whoever is exempt by a network of the policy's is not the host itself.
    tree.put(DECISIONS, &(record(20, "127.0.0.1") + &record(22, "127.0.0.1")));
    assert_eq!(tree.wrong(&[]), ["warning all-exempt"]);
    tree.put(DECISIONS, &(record(20, "127.0.0.1") + &record(20, "192.0.2.1")));
    assert_eq!(tree.wrong(&[]), ["warning all-exempt"]);
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
    // Its name is ours, and nobody can be asked there.
    (
        |tree| tree.change(CF_FILE, "S=local:/run", &format!("S=unix:{}run", "/".repeat(5000))),
        &["problem attached", "problem socket-agreed"],
    ),
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
            tree.put("etc/mail/other.cf", "O PidFile=/run/sendmail.pid\nMlocal, P=/x\n");
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
    fs::remove_file(tree.path("etc/postfix/master.cf")).unwrap();
    let ours = "smtpd_milters = { unix:/run/encr-milter/milter.sock, default_action=tempfail }\n";
    for (lines, expected) in [
        // What an entry says of itself goes before the general word.
        ("milter_default_action = accept\n", &[][..]),
        ("milter_mail_macros = i\nmilter_connect_macros = j\n", &[]),
        ("milter_macro_v = 8.17.1\n", &["warning macro-values"]),
        ("mail_name = MyMTA\n", &["warning macro-values"]),
        ("milter_macro_v = $mail_name 1\n", &[]),
        ("milter_macro_defaults = auth_type=TLS,\n  {cipher_bits}=256\n", &["problem macro-values"]),
        ("milter_macro_defaults = daemon_port=25\n", &[]),
        ("smtpd_milter_maps = cidr:/etc/postfix/m\n", &["warning attached"]),
        ("receive_override_options = no_milters\n", &["problem attached"]),
        ("non_smtpd_milters = $smtpd_milters\n", &["warning attached"]),
    ] {
        tree.put("etc/postfix/main.cf", &format!("{ours}{lines}"));
        assert_eq!(tree.wrong(&[]), expected, "{lines}");
    }
    let inner = "127.0.0.1:10025 inet n - y - - smtpd\n  -o receive_override_options=no_milters\n";
    tree.put("etc/postfix/main.cf", ours);
    tree.put("etc/postfix/master.cf", inner);
    assert_eq!(tree.wrong(&[]), [] as [&str; 0]);
    tree.put("etc/postfix/master.cf", &inner.replace("127.0.0.1:10025", "smtp"));
    assert_eq!(tree.wrong(&[]), ["warning attached"]);
    fs::remove_file(tree.path("etc/postfix/master.cf")).unwrap();
    for (action, expected) in [
        ("accept", &["warning when-down"][..]),
        ("reject", &["warning when-down"]),
        ("never", &["problem when-down"]),
    ] {
        tree.put("etc/postfix/main.cf", &ours.replace("tempfail", action));
        assert_eq!(tree.wrong(&[]), expected, "{action}");
    }
    tree.put("etc/postfix/main.cf", "# nothing yet\n");
    assert_eq!(tree.wrong(&[]), ["problem attached"]);
}

#[test]
fn postfix_that_asks_no_client_for_the_certificate_that_rules_want_is_told_of() {
    let tree = Tree::healthy();
    for name in [CF_FILE, "run/sendmail.pid"] {
        fs::remove_file(tree.path(name)).unwrap();
    }
    let ours = "smtpd_milters = { unix:/run/encr-milter/milter.sock, default_action=tempfail }\n";
    let trusts = "smtpd_tls_CAfile = /etc/ssl/ca.pem\n";
    // The daemon that runs has another policy in force, which is told as well.
    let told = || -> Vec<String> {
        tree.wrong(&[]).into_iter().filter(|found| found.ends_with("client-certificates")).collect()
    };
    tree.put("etc/postfix/main.cf", ours);
    assert_eq!(told(), [] as [&str; 0], "no rule wants one");
    for (mode, level) in [("observe", "warning"), ("enforce", "problem")] {
        tree.put(
            "etc/encr-milter/policy.toml",
            &format!("version = 1\n[[rule]]\nname = \"r\"\nclient = [\"partner.example\"]\n{mode} = {{ verify = true }}\n"),
        );
        let wrong = format!("{level} client-certificates");
        for (lines, expected) in [
            (trusts.to_owned(), vec![wrong.clone()]),
            ("smtpd_tls_ask_ccert = yes\n".to_owned(), vec![wrong.clone()]),
            (format!("smtpd_tls_ask_ccert = yes\n{trusts}"), vec![]),
            (format!("smtpd_tls_req_ccert = yes\n{trusts}"), vec![]),
            ("smtpd_tls_ask_ccert = yes\ntls_append_default_CA = yes\n".to_owned(), vec![]),
        ] {
            tree.put("etc/postfix/main.cf", &format!("{ours}{lines}"));
            assert_eq!(told(), expected, "{mode}: {lines}");
        }
    }
    tree.put("etc/postfix/main.cf", &format!("{ours}{trusts}"));
    tree.put("etc/postfix/master.cf", "smtp inet n - y - - smtpd\n  -o smtpd_tls_ask_ccert=yes\n");
    assert_eq!(told(), [] as [&str; 0], "a service asks");
}
