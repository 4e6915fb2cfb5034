//! Every form of entry, and what is joined from which.

mod bounds;

use super::*;
use crate::policy::decide::Disposition;
use crate::policy::facts::{Direction, TlsState};

const AFTER: &str = "2026-12-31T00:00:00Z";

fn options() -> Options {
    Options {
        recipients: false,
        deliveries: false,
        zone: jiff::tz::TimeZone::UTC,
        reference: AFTER.parse().unwrap(),
    }
}

/// The records of a log, each as its fields in JSON but for host and direction.
fn joined(log: &str, options: Options) -> (Vec<Record<'static>>, Tally) {
    let mut joiner = Joiner::new(options);
    let mut records = Vec::new();
    let mut emit = |record: &Record<'_>| {
        let text = serde_json::to_string(record).unwrap();
        records.push(serde_json::from_str(Box::leak(text.into_boxed_str())).unwrap());
    };
    for line in log.lines() {
        joiner.line(line.as_bytes(), &mut emit);
    }
    joiner.finish(&mut emit);
    (records, joiner.tally)
}

/// The lines with a time and a host before them: `20552: …`, a second apart.
fn log(entries: &str) -> String {
    use std::fmt::Write;
    let mut log = String::new();
    for (second, entry) in (0..).zip(entries.lines().map(str::trim).filter(|entry| !entry.is_empty())) {
        let (pid, entry) = entry.split_once(": ").unwrap();
        let (minute, second) = (second / 60, second % 60);
        let _ = writeln!(log, "2026-11-22T02:{minute:02}:{second:02}.5+00:00 vm sm-mta[{pid}]: {entry}");
    }
    log
}

fn of(entries: &str) -> Vec<Record<'static>> {
    joined(&log(entries), options()).0
}

/// `client, sender, bits`, in a word each.
fn short(records: &[Record<'_>]) -> Vec<String> {
    let say = |record: &Record<'_>| {
        let peer = record.client_name.as_deref().or(record.server_name.as_deref()).unwrap_or("-");
        let whose = record.recipient.as_deref().or(record.sender.as_deref()).unwrap_or("-");
        let bits = match (record.facts().tls.state, record.cipher_bits) {
            (TlsState::Plaintext, _) => "clear".to_owned(),
            (TlsState::NotTold, _) => "unknown".to_owned(),
            (TlsState::Tls, bits) => bits.map_or("tls".to_owned(), |bits| bits.to_string()),
        };
        format!("{peer} {whose} {bits}")
    };
    records.iter().map(say).collect()
}

const TLS: &str = "version=TLSv1.3, verify=NO, cipher=TLS_AES_256_GCM_SHA384, bits=256/256";
const WEAK: &str = "version=TLSv1.2, verify=OK, cipher=AES128-SHA256, bits=128/128";
const MX: &str = "mx.partner.example [192.0.2.7]";

fn from(id: &str, sender: &str, nrcpts: u32, proto: &str, relay: &str) -> String {
    format!(
        "{id}: from={sender}, size=43, class=0, nrcpts={nrcpts}, msgid=<1@x>, proto={proto}, daemon=MTA, relay={relay}"
    )
}

fn to(id: &str, to: &str, relay: &str, outcome: &str) -> String {
    format!(
        "{id}: to={to}, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30043, relay={relay}, {outcome}"
    )
}

const SENT: &str = "dsn=2.0.0, stat=Sent (ok)";

#[test]
fn a_session_with_tls() {
    let records = of(&format!(
        "20552: STARTTLS=server, relay={MX}, {TLS}\n20552: {}",
        from("6AM200re020552", "<a@partner.example>", 1, "ESMTPS", MX)
    ));
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        serde_json::to_string(record).unwrap(),
        concat!(
            r#"{"ts":"2026-11-22T02:00:01.500000Z","host":"vm","queue_id":"6AM200re020552","direction":"inbound","#,
            r#""client_name":"mx.partner.example","client_addr":"192.0.2.7","client_resolve":"OK","#,
            r#""sender":"a@partner.example","tls_version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","#,
            r#""cipher_bits":256,"verify":"NO"}"#
        )
    );
}

#[test]
fn in_the_clear_and_unknown_are_kept_apart() {
    let records = of(&[
        // No STARTTLS: it was not, or its entry is missing.
        format!("1: {}", from("6AM200re000001", "<a@x>", 1, "ESMTP", MX)),
        format!("2: {}", from("6AM200re000002", "<b@x>", 1, "ESMTPS", MX)),
        format!("3: {}", from("6AM200re000003", "<c@x>", 1, "SMTP", MX)),
        // In the clear, then STARTTLS without another EHLO, then with one.
        format!("4: {}", from("6AM200re000004", "<d@x>", 1, "ESMTP", MX)),
        format!("4: STARTTLS=server, relay={MX}, {WEAK}"),
        format!("4: {}", from("6AM200rf000004", "<e@x>", 1, "ESMTP", MX)),
        format!("4: {}", from("6AM200rg000004", "<f@x>", 1, "ESMTPS", MX)),
    ]
    .join("\n"));
    let all = short(&records);
    let mx = "mx.partner.example";
    assert_eq!(
        all,
        [
            ("a@x", "clear"),
            ("b@x", "unknown"),
            ("c@x", "clear"),
            ("d@x", "clear"),
            ("e@x", "128"),
            ("f@x", "128")
        ]
        .map(|(sender, bits)| format!("{mx} {sender} {bits}"))
    );
    assert_eq!(records[1].facts().effective_bits(), None);
}

#[test]
fn another_session_under_the_same_process_id() {
    let records = of(&[
        format!("7: STARTTLS=server, relay={MX}, {TLS}"),
        format!("7: AUTH=server, relay={MX}, authid=user, mech=PLAIN, bits=0"),
        format!("7: {}", from("6AM200re000007", "<a@x>", 1, "ESMTPSA", MX)),
        // Another client.
        format!("7: {}", from("6AM203re000007", "<b@x>", 1, "ESMTP", "mx.other.example [192.0.2.8]")),
        // The same client as at first, but what was known of it is gone.
        format!("7: {}", from("6AM204re000007", "<c@x>", 1, "ESMTPS", MX)),
    ]
    .join("\n"));
    assert_eq!(
        short(&records),
        ["mx.partner.example a@x 256", "mx.other.example b@x clear", "mx.partner.example c@x unknown"]
    );
    assert_eq!(records[0].auth.as_deref(), Some("user"));
    assert_eq!(records[1].auth, None);
}

#[test]
fn a_later_session_of_the_same_client_is_told_by_its_queue_id() {
    let tls = format!("7: STARTTLS=server, relay={MX}, {TLS}");
    let first = format!("7: {}", from("6AM200re000007", "<a@x>", 1, "ESMTPS", MX));
    // Its process began at 02:05:00.
    let later = |proto| format!("7: {}", from("6AM250re000007", "<b@x>", 1, proto, MX));
    let clear = of(&[tls.clone(), first.clone(), later("ESMTP")].join("\n"));
    assert_eq!(short(&clear)[1], "mx.partner.example b@x clear");
    // A sendmail that never writes the S.
    let old = of(&[tls.clone(), later("ESMTP")].join("\n"));
    assert_eq!(short(&old)[0], "mx.partner.example b@x 256");
    // An hour of silence.
    let log = log(&tls) + &log(&later("ESMTPS")).replace("T02:00", "T03:01");
    assert_eq!(short(&joined(&log, options()).0), ["mx.partner.example b@x unknown"]);
    // And where connections are logged, that is enough.
    let connect = format!("7: NOQUEUE: connect from {MX}");
    let told =
        of(&[tls, connect, format!("7: {}", from("6AM200re000007", "<b@x>", 1, "ESMTP", MX))].join("\n"));
    assert_eq!(short(&told), ["mx.partner.example b@x clear"]);
}

#[test]
fn who_the_client_is() {
    for (relay, name, address, resolve) in [
        ("mx.partner.example [192.0.2.7]", "mx.partner.example", "192.0.2.7", "OK"),
        ("[192.0.2.7]", "[192.0.2.7]", "192.0.2.7", "FAIL"),
        ("liar.example [192.0.2.7] (may be forged)", "[192.0.2.7]", "192.0.2.7", "FORGED"),
        ("IDENT:user@mx.partner.example [192.0.2.7]", "mx.partner.example", "192.0.2.7", "OK"),
        ("user@mx.partner.example [192.0.2.7]", "mx.partner.example", "192.0.2.7", "OK"),
        ("IDENT:user@[192.0.2.7]", "[192.0.2.7]", "192.0.2.7", "FAIL"),
        ("six.example [IPv6:2001:db8:0:0:0:0:0:25]", "six.example", "2001:db8::25", "OK"),
        ("[IPv6:2001:db8:0:0:0:0:0:25]", "[IPv6:2001:db8:0:0:0:0:0:25]", "2001:db8::25", "FAIL"),
    ] {
        let records = of(&format!("1: {}", from("6AM200re000001", "<a@x>", 1, "ESMTP", relay)));
        let [record] = &records[..] else { panic!("{relay}: {records:?}") };
        assert_eq!(
            [&record.client_name, &record.client_addr, &record.client_resolve].map(Option::as_deref),
            [Some(name), Some(address), Some(resolve)],
            "{relay}"
        );
    }
    for relay in ["root@localhost", "localhost", "[RESPONSE]", "x [y]", ""] {
        let (records, tally) =
            joined(&log(&format!("1: {}", from("6AM200re000001", "<a@x>", 1, "ESMTP", relay))), options());
        assert_eq!((records.len(), tally.submissions), (0, 1), "{relay}");
    }
}

#[test]
fn what_the_sender_is() {
    let long = format!("<{}@x>", "a".repeat(300));
    for (written, sender) in [
        ("<a@x>", Some("a@x")),
        ("a@x", Some("a@x")),
        ("<>", Some("<>")),
        ("<@relay:a@x>", Some("a@x")),
        ("< a@x >", Some("a@x")),
        (
            r#"<"a, size=0, nrcpts=9, relay=evil [192.0.2.9]"@x>"#,
            Some(r#""a, size=0, nrcpts=9, relay=evil [192.0.2.9]"@x"#),
        ),
        (r#"<"a\\", size=1"@x>"#, Some(r#""a\", size=1"@x"#)),
        (r"<\303\251\t@x>", Some("é\t@x")),
        // Cut at 200 bytes, within quotes or not.
        (&long[..200], None),
        (&format!("<\"{}", &long[..198]), None),
    ] {
        let (records, tally) =
            joined(&log(&format!("1: {}", from("6AM200re000001", written, 1, "ESMTP", MX))), options());
        assert_eq!(records.len(), 1, "{written}");
        assert_eq!(records[0].sender.as_deref(), sender, "{written}");
        assert_eq!(records[0].client_name.as_deref(), Some("mx.partner.example"), "{written}");
        assert_eq!(tally.senders_cut, u64::from(sender.is_none()));
    }
    // A message id is the client's.
    let forged = from("6AM200re000001", "<a@x>", 1, "ESMTP", MX)
        .replace("<1@x>", "<1, proto=ESMTPS, daemon=MTA, relay=evil [192.0.2.9]>");
    assert_eq!(short(&of(&format!("1: {forged}"))), ["mx.partner.example a@x clear"]);
}

#[test]
fn what_sendmails_own_rules_did_is_told() {
    let weak = "encryption too weak 128 less than 168";
    let records = of(&[
        format!("5: STARTTLS=server, relay={MX}, {WEAK}"),
        format!("5: ruleset=tls_client, arg1=OK, arg2=STARTTLS, relay={MX}, reject=503 5.7.0 {weak}"),
        format!("6: 6AM200re000006: ruleset=check_mail, arg1=<a@x>, relay={MX}, reject=454 4.7.0 encryption too weak 0 less than 168"),
        format!("6: {}", from("6AM200re000006", "<a@x>", 0, "ESMTP", MX)),
        format!("7: {}", from("6AM200re000007", "<a@x>", 1, "ESMTP", MX)),
        format!("8: STARTTLS=client, relay=mx.y., {WEAK}"),
        format!("8: ruleset=tls_server, arg1=OK, relay=mx.y, reject=454 4.7.0 {weak}"),
        format!("8: {}", to("6AM200re000007", "<r@y>", "mx.y. [192.0.2.9]", "dsn=4.7.0, stat=Deferred: 454 4.7.0")),
        format!("9: STARTTLS=client, relay=mx.y., {WEAK}"),
        format!("9: {}", to("6AM200re000007", "<r@y>", "mx.y. [192.0.2.9]", SENT)),
    ]
    .join("\n"));
    let done: Vec<_> = records.iter().map(|record| record.disposition.map(Disposition::as_str)).collect();
    assert_eq!(done, [Some("reject"), Some("tempfail"), None, Some("tempfail"), None]);
}

#[test]
fn refused_before_mail() {
    let refused = format!(
        "5: ruleset=tls_client, arg1=OK, arg2=STARTTLS, relay={MX}, reject=454 4.7.0 encryption too weak 128 less than 168"
    );
    let (records, tally) =
        joined(&log(&format!("5: STARTTLS=server, relay={MX}, {WEAK}\n{refused}")), options());
    assert_eq!(short(&records), ["mx.partner.example - 128"]);
    assert_eq!((records[0].cipher.as_deref(), &records[0].queue_id), (Some("AES128-SHA256"), &None));
    assert_eq!(tally.refused_sessions, 1);
    // Without its STARTTLS entry: what the refusal tells.
    let records = of(&refused);
    assert_eq!(short(&records), ["mx.partner.example - 128"]);
    assert_eq!((records[0].verify.as_deref(), &records[0].cipher), (Some("OK"), &None));
}

#[test]
fn refused_at_mail() {
    let refused =
        |text: &str| format!("6: 6AM200re000006: ruleset=check_mail, arg1=<a@x>, relay={MX}, reject={text}");
    let from = format!("6: {}", from("6AM200re000006", "<a@x>", 0, "ESMTP", MX));
    let weak = "454 4.7.0 encryption too weak 0 less than 168";
    // One record for the two.
    assert_eq!(short(&of(&format!("{}\n{from}", refused(weak)))), ["mx.partner.example a@x clear"]);
    assert_eq!(short(&of(&refused(weak))), ["mx.partner.example a@x clear"]);
    assert_eq!(short(&of(&refused("403 4.7.0 authentication required"))), ["mx.partner.example a@x clear"]);
    assert_eq!(short(&of(&refused("403 4.7.0 not authenticated"))), ["mx.partner.example a@x tls"]);
    // TLS whose entry is missing.
    let tls = from.replace("ESMTP", "ESMTPS");
    let told = refused("454 4.7.0 encryption too weak 128 less than 168");
    assert_eq!(short(&of(&format!("{told}\n{tls}"))), ["mx.partner.example a@x 128"]);
    // No cipher has so many bits.
    let told = refused("454 4.7.0 encryption too weak 12826 less than 16800");
    assert_eq!(short(&of(&told)), ["mx.partner.example a@x unknown"]);
    // Of what sendmail refuses for other reasons no milter ever hears.
    let spam = refused("553 5.1.8 <a@x>... Domain of sender address a@x does not exist");
    for log_of_it in [format!("{spam}\n{from}"), spam] {
        let (records, tally) = joined(&log(&log_of_it), options());
        assert_eq!((records.len(), tally.refused_otherwise), (0, 1));
    }
}

#[test]
fn a_refused_mail_leaves_its_queue_id_to_the_next() {
    let id = "6AM200re000006";
    let refused = |sender: &str, text: &str| {
        format!("6: {id}: ruleset=check_mail, arg1=<{sender}>, relay={MX}, reject={text}")
    };
    let milter = |sender: &str| format!("6: {id}: Milter: from=<{sender}>, reject=454 4.7.0 no");
    let (spam, weak) = ("550 5.7.1 <a@x>... Access denied", "454 4.7.0 encryption too weak 0 less than 168");
    let next = |sender: &str, nrcpts| format!("6: {}", from(id, &format!("<{sender}>"), nrcpts, "ESMTP", MX));
    let [a, b, c] = ["a@x", "b@x", "c@x"].map(|sender| format!("mx.partner.example {sender} clear"));
    for (entries, records, otherwise) in [
        (vec![refused("a@x", spam), next("b@x", 1)], vec![&b], 1),
        (vec![refused("a@x", spam), next("b@x", 0)], vec![&b], 1),
        // The same sender again, who is let in now.
        (vec![refused("a@x", spam), next("a@x", 1)], vec![&a], 1),
        (vec![refused("a@x", spam), refused("b@x", spam), next("c@x", 1)], vec![&c], 2),
        (vec![refused("a@x", spam), refused("b@x", weak), next("b@x", 0)], vec![&b], 1),
        (vec![refused("a@x", weak), next("b@x", 1)], vec![&a, &b], 0),
        (vec![refused("a@x", weak), refused("b@x", weak), next("c@x", 1)], vec![&a, &b, &c], 0),
        (
            vec![format!("6: NOQUEUE: connect from {MX}"), milter("a@x"), milter("b@x"), next("c@x", 1)],
            vec![&a, &b, &c],
            0,
        ),
    ] {
        let (told, tally) = joined(&log(&entries.join("\n")), options());
        assert_eq!(short(&told), records.into_iter().cloned().collect::<Vec<_>>(), "{entries:?}");
        assert_eq!(tally.refused_otherwise, otherwise, "{entries:?}");
    }
}

#[test]
fn each_recipient_has_a_record() {
    let entries = [
        format!("6: STARTTLS=server, relay={MX}, {WEAK}"),
        "6: 6AM200re000006: Milter: to=<r1@y>, reject=454 4.7.0 encryption too weak".to_owned(),
        format!("6: 6AM200re000006: ruleset=check_rcpt, arg1=<r2@y>, relay={MX}, reject=454 4.7.0 encryption too weak 128 less than 168"),
        // Not about TLS: no milter hears of it.
        format!("6: 6AM200re000006: ruleset=check_rcpt, arg1=<r3@y>, relay={MX}, reject=550 5.7.1 <r3@y>... Relaying denied"),
        format!("6: {}", from("6AM200re000006", "<a@x>", 3, "ESMTPS", MX)),
        format!("8: {}", to("6AM200re000006", "<r4@y>,<r5@y>", "x", "dsn=4.0.0, stat=Deferred")),
        // A second attempt, then the last of them.
        format!("9: {}", to("6AM200re000006", "<r5@y>", "x", SENT)),
        format!("9: {}", to("6AM200re000006", "<r6@y>", "x", SENT)),
        format!("9: {}", to("6AM200re000006", "<r4@y>", "x", SENT)),
        // Nothing known of whom it is for.
        format!("7: {}", from("6AM200re000007", "<b@x>", 0, "ESMTP", MX)),
        // Given up by the client: its recipient stands before it.
        "10: 6AM200re000010: to=<r7@y>, delay=00:00:00, pri=0, stat=aborted by sender".to_owned(),
        format!("10: {}", from("6AM200re000010", "<c@x>", 1, "ESMTP", MX)),
        // Its recipient never comes.
        format!("11: {}", from("6AM200re000011", "<d@x>", 1, "ESMTP", MX)),
    ]
    .join("\n");
    let (records, _) = joined(&log(&entries), Options { recipients: true, ..options() });
    let told: Vec<_> = short(&records).iter().map(|one| one.replace("mx.partner.example ", "")).collect();
    assert_eq!(
        told,
        ["r1@y 128", "r2@y 128", "r4@y 128", "r5@y 128", "r6@y 128", "b@x clear", "r7@y clear", "d@x clear"]
    );
    assert!(records[..5].iter().all(|record| record.sender.as_deref() == Some("a@x")));
    assert_eq!(of(&entries).len(), 4);
}

#[test]
fn a_milter_refused_and_no_more_is_there() {
    let refused = "6: 6AM200re000006: Milter: from=<a@x>, reject=550 5.7.1 no";
    let (records, tally) = joined(&log(refused), options());
    assert_eq!((records.len(), tally.not_joined), (0, 1));
    let records = of(&format!("6: STARTTLS=server, relay={MX}, {WEAK}\n{refused}"));
    assert_eq!(short(&records), ["mx.partner.example a@x 128"]);
    // Where connections are logged, the client is known, and that there was no handshake.
    let connect = format!("6: NOQUEUE: connect from {MX}");
    assert_eq!(short(&of(&format!("{connect}\n{refused}"))), ["mx.partner.example a@x clear"]);
    // But proto= says that there was one.
    let from = format!("6: {}", from("6AM200re000006", "<a@x>", 0, "ESMTPS", MX));
    assert_eq!(short(&of(&format!("{connect}\n{refused}\n{from}"))), ["mx.partner.example a@x unknown"]);
}

#[test]
fn deliveries() {
    let records = of(&[
        format!("1: {}", from("6AM200re000001", "<a@x>", 2, "ESMTP", MX)),
        format!("20: STARTTLS=client, relay=mx.y., {TLS}"),
        "20: STARTTLS=client, cert-subject=/O=Y/CN=mx.y, cert-issuer=/CN=CA, verifymsg=ok".to_owned(),
        format!("20: {}", to("6AM200re000001", "<r@y>", "mx.y. [192.0.2.9]", SENT)),
        // The same message and server: one record.
        format!("20: {}", to("6AM200re000001", "<s@y>", "mx.y. [192.0.2.9]", SENT)),
        // The same connection, another message; another server, and the first again.
        format!("20: {}", to("6AM200rf000001", "<t@y>", "mx.y. [192.0.2.9]", SENT)),
        format!("20: {}", to("6AM200rf000001", "<u@z>", "mx.z. [192.0.2.10]", SENT)),
        format!("20: {}", to("6AM200rf000001", "<v@y>", "mx.y. [192.0.2.9]", SENT)),
    ]
    .join("\n"));
    let out: Vec<_> =
        records.iter().filter(|record| record.direction == Direction::Outbound).cloned().collect();
    assert_eq!(short(&out), ["mx.y - 256", "mx.y - 256", "mx.z - clear"]);
    // verify=NO: no certificate came, so that its names say nothing.
    assert_eq!(out[0].cn_subject, None);
    assert_eq!((out[0].server_addr.as_deref(), out[2].verify.as_deref()), (Some("192.0.2.9"), Some("NONE")));
}

#[test]
fn each_recipient_of_a_delivery() {
    let entries = [
        format!("20: STARTTLS=client, relay=mx.y., {WEAK}"),
        "20: STARTTLS=client, cert-subject=/O=Y/CN=mx.y, cert-issuer=/CN=CA, verifymsg=ok".to_owned(),
        format!("20: {}", to("6AM200re000001", "<r@y>,<\"a,b\"@y>", "mx.y. [192.0.2.9]", SENT)),
        format!("20: {}", to("6AM200re000001", "s@y", "mx.y. [192.0.2.9]", "dsn=5.1.1, stat=User unknown")),
    ];
    let (records, _) = joined(&log(&entries.join("\n")), Options { deliveries: true, ..options() });
    assert_eq!(short(&records), ["mx.y r@y 128", "mx.y \"a,b\"@y 128", "mx.y s@y 128"]);
    let names = [&records[0].cn_subject, &records[0].cert_subject, &records[0].cert_issuer];
    assert_eq!(names.map(Option::as_deref), [Some("mx.y"), Some("/O=Y/CN=mx.y"), Some("/CN=CA")]);
}

#[test]
fn a_list_that_goes_on() {
    let entries = [
        format!("20: STARTTLS=client, relay=mx.y., {WEAK}"),
        "20: 6AM200re000001: to=<r@y>,<s@y>, [more], ctladdr=<\"a, b=c\"@x> (1/1), delay=1+00:00:01, xdelay=00:00:01, mailer=esmtp, tls_verify=OK, pri=3, relay=mx.y. [192.0.2.9], dsn=2.0.0, stat=Sent".to_owned(),
        // Cut within an address.
        format!("20: {}", to("6AM200re000001", "<t@y>,<u@partn", "mx.y. [192.0.2.9]", SENT)),
    ];
    let (records, _) = joined(&log(&entries.join("\n")), Options { deliveries: true, ..options() });
    assert_eq!(short(&records), ["mx.y r@y 128", "mx.y s@y 128", "mx.y t@y 128"]);
}

#[test]
fn a_delivery_without_a_tls_entry() {
    let mx = "mx.y. [192.0.2.9]";
    let message = format!("1: {}", from("6AM200re000001", "<a@x>", 2, "ESMTP", "root@localhost"));
    // Somebody's handshake: the log would tell of this one too.
    let first = format!("9: STARTTLS=client, relay=mx.other., {TLS}\n{message}");
    let known =
        |entries: &[String]| short(&of(&([std::slice::from_ref(&first), entries].concat().join("\n"))));
    let id = "6AM200re000001";
    let older = "6AM1x0re000001";
    let deferred = "dsn=4.7.1, stat=Deferred: 451 4.7.1 come back later";
    // Sent: in the clear. An address refused: likewise. Else nobody knows how far it came.
    assert_eq!(known(&[format!("2: {}", to(id, "<r@y>", mx, SENT))]), ["mx.y - clear"]);
    assert_eq!(
        known(&[format!("2: {}", to(id, "<r@y>", mx, "dsn=5.1.1, stat=User unknown"))]),
        ["mx.y - clear"]
    );
    assert_eq!(known(&[format!("2: {}", to(id, "<r@y>", mx, deferred))]), ["mx.y - unknown"]);
    assert_eq!(short(&of(&format!("{message}\n2: {}", to(id, "<r@y>", mx, SENT)))), ["mx.y - unknown"]);
    // From log level 10 on it is said.
    let ready = "2: AUTH=client, relay=mx.y., mech=, bits=0".to_owned();
    assert_eq!(known(&[ready.clone(), format!("2: {}", to(id, "<r@y>", mx, deferred))]), ["mx.y - clear"]);
    let tls = format!("2: STARTTLS=client, relay=mx.y., {TLS}");
    assert_eq!(
        known(&[
            tls,
            ready.clone(),
            format!("2: {}", to(id, "<r@y>", mx, deferred)),
            ready,
            format!("2: {}", to(older, "<r@y>", mx, SENT))
        ]),
        ["mx.y - 256", "mx.y - clear"]
    );
    // A message from before the log: its process may be older.
    assert_eq!(known(&[format!("2: {}", to(older, "<r@y>", mx, SENT))]), ["mx.y - unknown"]);
    // But not hours later, unless the connection is one that is known to be as old.
    let late = |entry: &str| log(entry).replace("T02:00", "T03:30");
    let later = late(&format!("2: {}", to(older, "<r@y>", mx, SENT)));
    assert_eq!(short(&joined(&(log(&first) + &later), options()).0), ["mx.y - clear"]);
    // Our own rules say what the session was.
    let refused =
        "2: ruleset=tls_server, arg1=NONE, relay=mx.y, reject=403 4.7.0 encryption too weak 0 less than 128";
    assert_eq!(
        known(&[refused.to_owned(), format!("2: {}", to(older, "<r@y>", mx, deferred))]),
        ["mx.y - clear"]
    );
    for (bits, told) in [("0", "clear"), ("128", "128")] {
        let refused = format!(
            "2: {id}: ruleset=tls_rcpt, arg1=r@y, relay=mx.y., reject=454 4.7.0 encryption too weak {bits} less than 256"
        );
        let entries = [refused, format!("2: {}", to(older, "<r@y>", mx, "dsn=4.2.0, stat=Deferred"))];
        assert_eq!(known(&entries), [format!("mx.y - {told}")]);
    }
    let refused =
        "2: ruleset=tls_server, arg1=OK, relay=mx.y, reject=454 4.7.0 encryption too weak 128 less than 256";
    assert_eq!(
        known(&[refused.to_owned(), format!("2: {}", to(older, "<r@y>", mx, deferred))]),
        ["mx.y - 128"]
    );
}

#[test]
fn a_delivery_that_took_longer_than_time_is() {
    let sent = format!("20: {}", to("6AM200re000001", "<r@y>", "mx.y. [192.0.2.9]", SENT));
    let sent = sent.replace("xdelay=00:00:00", "xdelay=999999999+00:00:00");
    assert_eq!(short(&of(&sent)), ["mx.y - unknown"]);
}

#[test]
fn a_handshake_of_ours_that_failed() {
    let error = "2: STARTTLS=client, error: connect failed=-1, reason=wrong version number, SSL_error=1, errno=0, retry=-1";
    let failed = "dsn=4.7.0, stat=Deferred: 454 4.7.0 TLS handshake failed.";
    let id = "6AM201re000001";
    let begin = format!("1: {}", from("6AM200re000001", "<a@x>", 1, "ESMTP", "root@localhost"));
    let delivery = |outcome| format!("2: {}", to(id, "<r@y>", "mx.y. [192.0.2.9]", outcome));
    let refused = "2: ruleset=tls_server, arg1=SOFTWARE, relay=mx.y, reject=454 4.7.0 TLS handshake failed.";
    for entries in [
        [begin.as_str(), error, refused, &delivery(failed)].join("\n"),
        [begin.as_str(), error, &delivery(failed)].join("\n"),
    ] {
        let records = of(&entries);
        assert_eq!(short(&records), ["mx.y - tls"]);
        assert_eq!(records[0].verify.as_deref(), Some("SOFTWARE"));
    }
    // It was sent all the same: in the clear.
    assert_eq!(short(&of(&[begin.as_str(), error, &delivery(SENT)].join("\n"))), ["mx.y - clear"]);
}

#[test]
fn no_session_no_record() {
    let id = "6AM200re000001";
    let (records, tally) = joined(
        &log(&[
            format!("2: {}", to(id, "<r@y>", "mx.y. [192.0.2.9]", "dsn=4.4.1, stat=Deferred: Connection refused by mx.y.")),
            format!("2: {}", to(id, "<r@y>", "mx.y.", "dsn=5.1.2, stat=Host unknown (Name server: mx.y.: host not found)")),
            format!("2: {}", to(id, "<r@y>", "y", SENT)),
            "2: 6AM200re000001: to=<r@y>, delay=00:00:00, mailer=esmtp, pri=30043, stat=queued".to_owned(),
            "2: 6AM200re000001: to=r, ctladdr=root (0/0), delay=00:00:00, xdelay=00:00:00, mailer=relay, pri=30043, relay=[127.0.0.1] [127.0.0.1], dsn=2.0.0, stat=Sent".to_owned(),
        ]
        .join("\n")),
        options(),
    );
    assert_eq!((records.len(), tally.without_session, tally.local_deliveries), (0, 2, 2));

    // A process may come back to a server that is down by then; what a server says itself can be anything.
    let tried = |outcome| format!("2: {}", to("6AM200rf000001", "<r@y>", "mx.y. [192.0.2.9]", outcome));
    let earlier = [
        format!("2: STARTTLS=client, relay=mx.y., {TLS}"),
        format!("2: {}", to(id, "<r@y>", "mx.y. [192.0.2.9]", SENT)),
    ]
    .join("\n");
    for (outcome, more, without) in [
        ("dsn=4.4.1, stat=Deferred: Connection refused by mx.y.", 0, 1),
        ("dsn=4.4.2, stat=Deferred: Connection timed out with mx.y.", 1, 0),
        ("dsn=4.2.0, reply=450 4.2.0 Connection refused, stat=Deferred: 450 4.2.0 Connection refused", 1, 0),
        ("dsn=2.0.0, stat=Sent (Host unknown, and yet)", 1, 0),
    ] {
        let (records, tally) = joined(&log(&format!("{earlier}\n{}", tried(outcome))), options());
        assert_eq!((records.len(), tally.without_session), (1 + more, without), "{outcome}");
    }
}

#[test]
fn a_servers_name_that_was_cut() {
    let whole = "mail-gateway-number-17.partner-of-ours.example";
    let cut = "mail-gateway-numbe...ner-of-ours.example.";
    let id = "6AM200re000001";
    let delivery = format!("2: {}", to(id, "<r@y>", &format!("{cut} [192.0.2.9]"), SENT));
    let (records, tally) =
        joined(&log(&format!("2: STARTTLS=client, relay={whole}., {TLS}\n{delivery}")), options());
    assert_eq!(short(&records), [format!("{whole} - 256")]);
    assert_eq!(tally.servers_cut, 0);
    let (records, tally) = joined(&log(&delivery), options());
    assert_eq!((records[0].server_name.as_deref(), tally.servers_cut), (None, 1));
    // Two servers of a message whose names are cut to the same.
    let second = format!("{}\n{}", delivery, delivery.replace("192.0.2.9", "192.0.2.10"));
    assert_eq!(joined(&log(&second), options()).0.len(), 2);
}

#[test]
fn long_entries_come_in_pieces() {
    let entry = from("6AM200re000006", "<a@x>", 0, "ESMTP", MX);
    let (head, tail) = entry.strip_prefix("6AM200re000006: ").unwrap().split_at(20);
    let (middle, tail) = tail.split_at(20);
    let pieces = [
        format!("6: 6AM200re000006[1]: {head} ..."),
        format!("6: 6AM200re000006[2]: {middle} ..."),
        format!("6: 6AM200re000006[3]: {tail}"),
    ];
    assert_eq!(short(&of(&pieces.join("\n"))), ["mx.partner.example a@x clear"]);
    // The beginning is missing; the end is.
    for (entries, not_understood) in [(&pieces[1..], 2), (&pieces[..2], 1)] {
        let (records, tally) = joined(&log(&entries.join("\n")), options());
        assert_eq!((records.len(), tally.not_understood), (0, not_understood));
    }
}

#[test]
fn who_else_writes_into_the_log() {
    let (records, tally) = joined(
        concat!(
            "2026-11-22T02:00:00+00:00 vm postfix/qmgr[9]: 6AM200re000001: from=<a@x>, size=4, class=0, nrcpts=1, relay=x [192.0.2.7]\n",
            "2026-11-22T02:00:00+00:00 vm encr-milter[9]: 6AM200re000001: verdict=pass\n",
            "2026-11-22T02:00:00+00:00 vm sm-msp[9]: 6AM200re000001: from=root, size=5, class=0, nrcpts=1, relay=root@localhost\n",
            "2026-11-22T02:00:00+00:00 vm sm-msp[9]: 6AM200re000001: to=<r@y>, delay=00:00:00, mailer=esmtp, pri=3, relay=mx.y. [192.0.2.9], dsn=2.0.0, stat=Sent\n",
            "2026-11-22T02:00:00+00:00 vm smtpd[9]: from=<a@x>, to=<b@y>, relay=x [192.0.2.7]\n",
            "2026-11-22T02:00:00+00:00 vm kernel: eth0 is up\n",
            "-- Logs begin at Sun 2026-11-22 --\n",
            "\n",
        ),
        options(),
    );
    assert_eq!(records, []);
    assert_eq!((tally.lines, tally.entries, tally.submissions, tally.local_deliveries), (8, 2, 1, 1));
    assert_eq!(tally.not_understood, 0);
}
