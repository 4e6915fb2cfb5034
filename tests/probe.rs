//! `probe`, the real binary, against servers in process: sound ones of every strength, and such as misbehave.
//!
//! Promises: no mail is ever begun; whatever a server does, the answer comes in time, says what is wrong, and shows
//! nothing of the server's bytes that could act on a terminal.

// A test may stop at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use openssl::ssl::{SslContextBuilder, SslVersion};
use serde_json::Value;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};
use support::smtp_server::{Connection, Identity, Server, Way};
use support::until;

fn probe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_encr-milter")).arg("probe").args(arguments).output().unwrap()
}

/// The one host of a report, with the exit code.
fn looked(server: &Server, more: &[&str]) -> (i32, Value) {
    let target = server.target();
    let output = probe(&[&["--json", "--ipv4", target.as_str()], more].concat());
    let code = output.status.code().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["ok"], code == 0);
    (code, report["hosts"][0].clone())
}

fn server_with(narrow: impl Fn(&mut SslContextBuilder)) -> Server {
    let identity = Identity::issue("localhost", &["localhost"], 20, None);
    let mut context = identity.server();
    narrow(&mut context);
    Server::sound(Some(context))
}

/// What was tried of a kind, and whether it was accepted.
fn tried(host: &Value, kind: &str) -> Vec<String> {
    let list = host["accepts"][kind].as_array().unwrap();
    list.iter()
        .map(|tried| {
            let offered = tried["offered"].as_str().unwrap().split(' ').next().unwrap();
            format!("{offered} {}", tried["outcome"].as_str().unwrap())
        })
        .collect()
}

fn met(host: &Value) -> Vec<u64> {
    let all = host["thresholds"].as_array().unwrap();
    all.iter().filter(|one| one["met"] == true).map(|one| one["bits"].as_u64().unwrap()).collect()
}

#[test]
fn a_sound_server_is_told_whole() {
    let server = server_with(|_| {});
    let (code, host) = looked(&server, &["--helo", "mail.our.example"]);
    assert_eq!((code, &host["starttls"]), (0, &Value::from("works")), "{host:#}");
    let session = &host["session"];
    assert_eq!(session["tls_version"], "TLSv1.3");
    assert_eq!((&session["cipher_bits"], &session["alg_bits"]), (&Value::from(256), &Value::from(256)));
    assert_eq!(session["only_with_weak_settings"], false);
    assert_eq!(host["certificate"]["subject"], "/O=Partner+20&+20Sons/CN=localhost");
    assert_eq!(host["certificate"]["names"], serde_json::json!(["localhost"]));
    assert_eq!(met(&host), [0, 112, 128, 168, 256]);
    let versions = ["TLSv1 accepted", "TLSv1.1 accepted", "TLSv1.2 accepted", "TLSv1.3 accepted"];
    assert_eq!(tried(&host, "versions"), versions);
    let strengths = tried(&host, "strengths");
    assert_eq!(strengths.first().map(String::as_str), Some("0 accepted"), "{strengths:?}");
    assert_eq!(strengths[2..], ["128 accepted", "256 accepted"]);
    // Greeting and commands only: no message was begun.
    let said = server.said();
    assert_eq!(said[..3], ["EHLO mail.our.example", "STARTTLS", "EHLO mail.our.example"]);
    assert!(said.iter().all(|line| ["EHLO mail.our.example", "STARTTLS", "QUIT"].contains(&line.as_str())));
}

#[test]
fn quick_is_one_connection() {
    let server = server_with(|_| {});
    let (code, host) = looked(&server, &["--quick"]);
    assert_eq!((code, host.get("accepts")), (0, None));
    assert_eq!(server.said().iter().filter(|line| *line == "STARTTLS").count(), 1);
}

#[test]
fn what_168_means_is_said_and_required() {
    let server = server_with(|context| {
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_min_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_cipher_list("ECDHE-RSA-AES128-GCM-SHA256").unwrap();
    });
    let (code, host) = looked(&server, &["--require", "168"]);
    assert_eq!((code, met(&host)), (1, vec![0, 112, 128]), "{host:#}");
    let threshold = &host["thresholds"][3];
    assert_eq!(threshold["reason"], "encryption too weak 128 less than 168");
    assert!(
        threshold["means"].as_str().unwrap().contains("AES-128, which TLS 1.3 makes mandatory, is refused")
    );
    assert_eq!(
        tried(&host, "versions"),
        ["TLSv1 declined", "TLSv1.1 declined", "TLSv1.2 accepted", "TLSv1.3 declined"]
    );
    assert_eq!(tried(&host, "strengths")[2..], ["128 accepted", "256 declined"]);
    assert_eq!(host["most"]["sendmail"], "TLS_Srv:localhost\tENCR:128");
    assert_eq!(
        host["most"]["policy"],
        "server = [\"localhost\"], observe = { min-bits = 128, min-version = \"TLSv1.2\" }"
    );
    assert_eq!(looked(&server, &["--require", "128", "--quick"]).0, 0);
}

#[test]
fn an_old_server_is_not_taken_for_one_without_tls() {
    let server = server_with(|context| context.set_max_proto_version(Some(SslVersion::TLS1)).unwrap());
    let (code, host) = looked(&server, &[]);
    assert_eq!((code, &host["session"]["tls_version"]), (0, &Value::from("TLSv1")), "{host:#}");
    assert_eq!(host["session"]["only_with_weak_settings"], true);
    assert!(host["notes"][0].as_str().unwrap().contains("with the usual settings"), "{host:#}");
}

#[test]
fn certificates_are_verified_as_sendmail_does_and_the_name_beside() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Identity::authority();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let ca = ca.to_str().unwrap();
    for (names, days, trusts, objection, matches) in [
        (["localhost"], 20, true, None, true),
        (["*.partner.example"], 20, true, None, false),
        (["localhost"], 20, false, Some("unable to get local issuer certificate"), true),
        (["localhost"], -1, true, Some("certificate has expired"), true),
    ] {
        let identity = Identity::issue("localhost", &names, days, Some(&authority));
        let server = Server::sound(Some(identity.server()));
        let more = if trusts { vec!["--quick", "--ca", ca] } else { vec!["--quick"] };
        let (code, host) = looked(&server, &more);
        let certificate = &host["certificate"];
        assert_eq!((code, &certificate["name_matches"]), (0, &Value::from(matches)), "{host:#}");
        let objections = certificate["objections"].as_array().unwrap();
        match objection {
            None => assert!(objections.is_empty(), "{objections:?}"),
            Some(words) => assert!(objections.contains(&Value::from(words)), "{objections:?}"),
        }
        let policy = folder.path().join("policy.toml");
        std::fs::write(
            &policy,
            "version = 1\n[exempt]\nnetworks = []\n[[rule]]\nname = \"out\"\nserver = [\"localhost\"]\nenforce = { verify = true }\n",
        )
        .unwrap();
        let (_, host) = looked(&server, &[&more[..], &["--policy", policy.to_str().unwrap()]].concat());
        let verdict = if objection.is_none() { "pass" } else { "fail" };
        assert_eq!(host["decision"]["verdict"], verdict, "{host:#}");
    }
}

#[test]
fn a_server_without_starttls_is_an_answer_and_no_fault() {
    let plain = Server::sound(None);
    let (code, host) = looked(&plain, &[]);
    assert_eq!((code, &host["starttls"], met(&host)), (1, &Value::from("not-offered"), vec![0]));
    // Nobody waits for the answer to QUIT.
    let said = until("the end", || Some(plain.said()).filter(|said| said.len() > 1));
    assert!(said.len() == 2 && said[0].starts_with("EHLO ") && said[1] == "QUIT", "{said:?}");
    let refusing = Server::start(|connection| {
        connection.send(b"220 mx ESMTP\r\n");
        connection.line();
        connection.send(b"250-mx\r\n250 STARTTLS\r\n");
        connection.line();
        connection.send(b"454 4.3.3 TLS not available\r\n");
        connection.line();
    });
    let (code, host) = looked(&refusing, &[]);
    assert_eq!((code, &host["starttls"]), (1, &Value::from("refused")));
    assert_eq!(host["starttls_reply"], "454 4.3.3 TLS not available");
    let old = Server::start(|connection| {
        connection.send(b"220 old SMTP\r\n");
        for answer in ["502 what?\r\n", "250 old\r\n", "221 bye\r\n"] {
            connection.line();
            connection.send(answer.as_bytes());
        }
    });
    let (code, host) = looked(&old, &[]);
    assert_eq!((code, &host["starttls"]), (1, &Value::from("not-offered")), "{host:#}");
    assert!(old.said()[1].starts_with("HELO "));
}

/// Each with how it behaves, the exit code, and the code of the fault.
type Misbehaviour = (&'static str, fn(&mut Connection), i32, &'static str);

const MISBEHAVIOUR: &[Misbehaviour] = &[
    ("closes at once", |_| {}, 69, "closed"),
    ("hangs", |connection| while connection.line().is_some() {}, 69, "timed-out"),
    (
        "trickles",
        |connection| {
            while connection.send(b"220-") {
                thread::sleep(Duration::from_millis(50));
            }
        },
        69,
        "timed-out",
    ),
    (
        "greets without an end",
        |connection| {
            connection.send(b"220-mx\r\n");
            while connection.send(b"220-and another line of it, which is sent again and again\r\n") {}
        },
        76,
        "too-much",
    ),
    (
        "says a line without an end",
        |connection| {
            connection.send(b"220 ");
            while connection.send(&[b'x'; 1000]) {}
        },
        76,
        "too-much",
    ),
    ("refuses", |connection| _ = connection.send(b"554 5.7.1 not you\r\n"), 69, "refused"),
    ("is too busy", |connection| _ = connection.send(b"421 4.3.2 too busy\r\n"), 69, "refused"),
    (
        "speaks another protocol",
        |connection| {
            connection.send(b"SSH-2.0-OpenSSH_9.2\r\n");
            connection.line();
        },
        76,
        "not-smtp",
    ),
    (
        "sends what acts on a terminal",
        |connection| {
            connection.send(b"\x1b]0;owned\x07\xff\xfe\r\n");
            connection.line();
        },
        76,
        "not-smtp",
    ),
    (
        "changes its code in the middle",
        |connection| {
            connection.send(b"220-mx\r\n554 no\r\n");
            connection.line();
        },
        76,
        "not-smtp",
    ),
    (
        "closes at EHLO",
        |connection| {
            connection.send(b"220 mx\r\n");
            connection.line();
        },
        69,
        "closed",
    ),
    (
        "refuses at EHLO",
        |connection| {
            connection.send(b"220 mx\r\n");
            connection.line();
            connection.send(b"550 5.7.1 no reverse name\r\n");
        },
        69,
        "refused",
    ),
    (
        "injects behind its 220",
        |connection| {
            starttls(connection, b"220 go\r\n250 X-INJECTED\r\n");
            connection.line();
        },
        76,
        "injected",
    ),
    (
        "says something else than TLS",
        |connection| {
            starttls(connection, b"220 go\r\n");
            // Only once the client has begun its handshake.
            if let Way::Plain(stream) = &mut connection.way {
                let _ = std::io::Read::read(stream, &mut [0; 16]);
            }
            connection.send(b"500 what do you mean by all these bytes? I do not understand them\r\n");
            connection.line();
        },
        76,
        "handshake",
    ),
    (
        "hangs in the handshake",
        |connection| {
            starttls(connection, b"220 go\r\n");
            while connection.line().is_some() {}
        },
        69,
        "timed-out",
    ),
    ("closes in the handshake", |connection| starttls(connection, b"220 go\r\n"), 76, "handshake"),
];

fn starttls(connection: &mut Connection, answer: &[u8]) {
    connection.send(b"220 mx\r\n");
    connection.line();
    connection.send(b"250-mx\r\n250 STARTTLS\r\n");
    connection.line();
    connection.send(answer);
}

#[test]
fn whatever_a_server_does_is_told_in_time() {
    thread::scope(|scope| {
        for (name, behave, code, fault) in MISBEHAVIOUR {
            scope.spawn(move || {
                let server = Server::start(behave);
                let begun = Instant::now();
                let (told, host) = looked(&server, &["--timeout", "2"]);
                assert_eq!((told, &host["fault"]["code"]), (*code, &Value::from(*fault)), "{name}: {host:#}");
                // Some five steps of two seconds at the most, on a busy machine.
                assert!(begun.elapsed() < support::DEADLINE, "{name}");
                let shown = probe(&["--timeout", "2", "--ipv4", &server.target()]);
                assert_eq!(shown.status.code(), Some(*code), "{name}");
                let wild = |byte: &u8| *byte < b' ' && *byte != b'\n' || *byte == 0x7f;
                assert!(
                    !shown.stdout.iter().any(wild),
                    "{name}: {:?}",
                    String::from_utf8_lossy(&shown.stdout)
                );
                assert!(shown.stdout.len() < 4000, "{name}");
            });
        }
    });
}

#[test]
fn what_was_negotiated_is_told_even_where_the_server_goes_then() {
    let identity = Identity::issue("localhost", &["localhost"], 20, None);
    let context = identity.server().build();
    let server = Server::start(move |connection| {
        starttls(connection, b"220 go\r\n");
        connection.handshake(&context);
        connection.line();
    });
    let (code, host) = looked(&server, &["--quick"]);
    assert_eq!((code, &host["session"]["cipher_bits"]), (69, &Value::from(256)), "{host:#}");
    assert_eq!(host["fault"]["message"], "the server closed the connection at EHLO within TLS");
    assert!(
        host["fault"]["next_step"].as_str().unwrap().contains("a certificate of its clients"),
        "{host:#}"
    );
    assert_eq!(met(&host), [0, 112, 128, 168, 256]);
    // Fewer bits than are asked for are an answer all the same.
    assert_eq!(looked(&server, &["--quick", "--require", "256"]).0, 69);
    assert_eq!(looked(&server, &["--quick", "--require", "257"]).0, 1);
}

/// What a server does within TLS.
type Within = (&'static str, fn(&mut Connection) -> bool, i32, &'static str);

#[test]
fn what_a_server_does_within_tls_counts_as_before_it() {
    const BEHAVIOUR: &[Within] = &[
        ("is silent", |connection| connection.line().is_none(), 69, "timed-out"),
        ("refuses", |connection| connection.send(b"554 5.7.1 not you\r\n"), 69, "refused"),
        ("closes", |_| true, 69, "closed"),
        ("is no SMTP", |connection| connection.send(b"hello\r\n"), 76, "not-smtp"),
        ("floods a line", |connection| connection.send(&b"250-x".repeat(100_000)), 76, "too-much"),
        ("floods lines", |connection| connection.send(&b"250-x\r\n".repeat(100_000)), 76, "too-much"),
    ];
    thread::scope(|scope| {
        for (name, behave, code, fault) in BEHAVIOUR {
            scope.spawn(move || {
                let context = Identity::issue("localhost", &["localhost"], 20, None).server().build();
                let server = Server::start(move |connection| {
                    starttls(connection, b"220 go\r\n");
                    connection.handshake(&context);
                    connection.line();
                    behave(connection);
                });
                let (told, host) = looked(&server, &["--quick", "--timeout", "5"]);
                assert_eq!((told, &host["fault"]["code"]), (*code, &Value::from(*fault)), "{name}: {host:#}");
                assert_eq!(host["session"]["cipher_bits"], 256, "{name}");
            });
        }
    });
}

#[test]
fn a_cipher_that_does_not_encrypt_is_noted() {
    let null = server_with(|context| {
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_cipher_list("eNULL:@SECLEVEL=0").unwrap();
    });
    let (_, host) = looked(&null, &[]);
    assert_eq!((&host["session"]["cipher_bits"], met(&host)), (&Value::from(0), vec![0]), "{host:#}");
    let notes = |host: &Value| host["notes"].to_string();
    assert!(notes(&host).contains("the cipher does not encrypt (NULL)"), "{host:#}");
    let both = server_with(|context| {
        context.set_cipher_list("ALL:eNULL:@SECLEVEL=0").unwrap();
    });
    let (code, host) = looked(&both, &[]);
    assert_eq!((code, &host["session"]["cipher_bits"]), (0, &Value::from(256)));
    assert!(notes(&host).contains("from a client that offers no other"), "{host:#}");
    let neither = server_with(|context| context.set_cipher_list("ALL:!eNULL:@SECLEVEL=0").unwrap());
    let (_, host) = looked(&neither, &[]);
    assert!(!notes(&host).contains("NULL"), "{host:#}");
}

#[test]
fn a_failed_handshake_contradicts_nothing() {
    let server = Server::start(|connection| starttls(connection, b"220 go\r\n"));
    let (code, host) = looked(&server, &["--quick"]);
    assert_eq!((code, met(&host)), (76, vec![]), "{host:#}");
    let nothing = host["thresholds"][0]["means"].as_str().unwrap();
    assert!(nothing.contains("sendmail defers mail where a handshake fails"), "{nothing}");
}

#[test]
fn a_server_that_has_had_enough_of_us_ends_the_trying() {
    let identity = Identity::issue("localhost", &["localhost"], 20, None);
    let context = identity.server().build();
    let server = Server::start(move |connection| {
        if connection.number > 1 {
            connection.send(b"421 4.7.0 too many connections\r\n");
            return;
        }
        connection.send(b"220 mx.partner.example ESMTP\r\n");
        connection.serve(Some(&context));
    });
    let (code, host) = looked(&server, &[]);
    assert_eq!((code, tried(&host, "versions")), (0, vec!["TLSv1 accepted".to_owned()]), "{host:#}");
    let ended = host["accepts"]["ended"].as_str().unwrap();
    assert!(ended.contains("421 4.7.0 too many connections"), "{ended}");
}

#[test]
fn nobody_there_and_wrong_arguments() {
    let port = support::free_port();
    let output = probe(&["--ipv4", &format!("localhost:{port}")]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Connection refused"));
    assert_eq!(probe(&["no-such-host.invalid"]).status.code(), Some(69));
    for (arguments, words) in [
        (vec!["unix:/run/x"], "an SMTP server is reached by TCP"),
        (vec!["localhost:99999"], "is no port"),
        (vec!["localhost", "--helo", "a\r\nMAIL FROM:<x>"], "a host's name"),
        (vec!["localhost", "--require", "many"], "a number of bits"),
        (vec!["localhost", "--timeout", "0"], "--timeout"),
    ] {
        let output = probe(&arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{arguments:?}: {output:?}");
    }
}

/// A name server with one answer: an MX for each of these, or a response code.
fn name_server(records: &'static [(u16, &'static str)], code: u8) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            // The name ends with an empty label; type and class follow.
            let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = question[..end].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
            answer[6..12].copy_from_slice(&[0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
            for (preference, host) in records {
                let mut data = preference.to_be_bytes().to_vec();
                for label in host.split('.').filter(|label| !label.is_empty()) {
                    data.push(u8::try_from(label.len()).unwrap());
                    data.extend_from_slice(label.as_bytes());
                }
                data.push(0);
                answer.extend_from_slice(&[0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60]);
                answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
                answer.extend_from_slice(&data);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[test]
fn the_hosts_of_a_domain_are_looked_at_by_preference() {
    let server = server_with(|_| {});
    let target = format!("partner.example:{}", server.address.port());
    let two = name_server(&[(20, "localhost"), (10, "no-such-host.invalid")], 0);
    let output = probe(&["--mx", "--json", "--quick", "--ipv4", "--resolver", &two, &target]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // One was not reached; the other is sound.
    assert_eq!((output.status.code(), report["hosts"].as_array().map(Vec::len)), (Some(69), Some(2)));
    assert_eq!(
        (&report["hosts"][0]["preference"], &report["hosts"][0]["fault"]["code"]),
        (&10.into(), &"no-address".into())
    );
    assert_eq!(
        (&report["hosts"][1]["preference"], &report["hosts"][1]["starttls"]),
        (&20.into(), &"works".into())
    );

    let nobody = name_server(&[(0, ".")], 0);
    let output = probe(&["--mx", "--resolver", &nobody, "partner.example"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("takes no mail"), "{output:?}");
    let unknown = name_server(&[], 3);
    let output = probe(&["--mx", "--resolver", &unknown, "partner.example"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no such domain"), "{output:?}");
    let none = name_server(&[], 0);
    let target = format!("localhost:{}", server.address.port());
    let output = probe(&["--mx", "--quick", "--ipv4", "--resolver", &none, &target]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("localhost has no MX"), "{output:?}");
}
