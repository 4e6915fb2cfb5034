//! The milter over its protocol, spoken by the book by indymilter-test.
//!
//! Promises: what is asked for at negotiation is exactly what is needed; each message of a connection is
//! answered by its own facts; refusals have the wording, and the wire form, that sendmail passes on.
//!
//! What a well-behaved MTA cannot send stands in `raw_mta.rs`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use indymilter::{Actions, MacroStage, ProtoOpts};
use indymilter_test::{Status, TestConnection};
use std::collections::BTreeSet;
use std::ffi::CString;
use support::in_process::{Milter, brief};
use support::mta::{plain, tls};

/// One rule of each temper, at clients of partner.example.
fn rule(modes: &str) -> String {
    format!("[[rule]]\nname = \"partner\"\nclient = [\"partner.example\"]\n{modes}\n")
}

async fn open(milter: &Milter) -> TestConnection {
    TestConnection::configure().open_unix(milter.path()).await.unwrap()
}

async fn mail(connection: &mut TestConnection, told: &[(&str, &str)], sender: &str) -> Status {
    connection.macros(MacroStage::Mail, told.to_vec()).await.unwrap();
    connection.mail([sender]).await.unwrap()
}

fn tempfail(text: &str) -> Status {
    Status::Tempfail { message: Some(CString::new(text).unwrap()) }
}

fn reject(text: &str) -> Status {
    Status::Reject { message: Some(CString::new(text).unwrap()) }
}

#[test]
fn the_negotiation_asks_for_mail_and_rcpt_and_our_macros_and_no_action() {
    let milter = Milter::start("");
    milter.block_on(async {
        for over_tcp in [false, true] {
            let connection = if over_tcp {
                TestConnection::configure().open_tcp(milter.address()).await.unwrap()
            } else {
                open(&milter).await
            };
            assert_eq!(connection.negotiated_actions(), Actions::empty());
            assert_eq!(
                connection.negotiated_opts(),
                ProtoOpts::NO_CONNECT
                    | ProtoOpts::NO_HELO
                    | ProtoOpts::NO_DATA
                    | ProtoOpts::NO_HEADER
                    | ProtoOpts::NO_EOH
                    | ProtoOpts::NO_BODY
                    | ProtoOpts::NO_UNKNOWN
            );
            for stage in MacroStage::all() {
                let list = connection.requested_macros().get(&stage).map(|list| list.to_str().unwrap());
                let names: BTreeSet<&str> = list.unwrap_or("none asked for").split_whitespace().collect();
                let expected: &[&str] = match stage {
                    MacroStage::Mail => &[
                        "i",
                        "j",
                        "{client_addr}",
                        "{client_name}",
                        "{client_resolve}",
                        "v",
                        "{tls_version}",
                        "{cipher}",
                        "{cipher_bits}",
                        "{verify}",
                        "{cn_subject}",
                        "{cert_subject}",
                        "{cert_issuer}",
                        "{auth_type}",
                        "{auth_authen}",
                        "{auth_ssf}",
                    ],
                    // An empty list silences a stage; none at all would bring the MTA's own.
                    _ => &[],
                };
                assert_eq!(names, expected.iter().copied().collect(), "{stage:?}");
            }
            connection.close().await.unwrap();
        }
    });
}

#[test]
fn what_an_old_mta_does_not_offer_is_not_asked_for() {
    let milter = Milter::start(&rule("enforce = { min-bits = 128 }"));
    milter.block_on(async {
        let mut connection = TestConnection::configure()
            .protocol_version(2)
            .available_actions(Actions::ADD_HEADER | Actions::REPLACE_BODY)
            .available_opts(ProtoOpts::NO_BODY)
            .open_unix(milter.path())
            .await
            .unwrap();
        assert_eq!(connection.negotiated_actions(), Actions::empty());
        assert_eq!(connection.negotiated_opts(), ProtoOpts::NO_BODY);
        assert!(connection.requested_macros().is_empty());
        // Every stage that it cannot leave out is answered, so that mail goes on.
        assert_eq!(connection.connect("mx.partner.example", [192, 0, 2, 7]).await.unwrap(), Status::Continue);
        assert_eq!(connection.helo("mx.partner.example").await.unwrap(), Status::Continue);
        assert_eq!(mail(&mut connection, &tls("A1", "256"), "<a@x>").await, Status::Accept);
        assert_eq!(mail(&mut connection, &plain("A2"), "<a@x>").await, Status::Continue);
        assert!(matches!(connection.rcpt(["<r@y>"]).await.unwrap(), Status::Reject { .. }));
        assert_eq!(connection.rcpt(["<postmaster@y>"]).await.unwrap(), Status::Continue);
        assert_eq!(connection.data().await.unwrap(), Status::Continue);
        assert_eq!(connection.header("Subject", "x").await.unwrap(), Status::Continue);
        assert_eq!(connection.eoh().await.unwrap(), Status::Continue);
        assert_eq!(connection.unknown("HELP").await.unwrap(), Status::Continue);
        let (actions, status) = connection.eom().await.unwrap();
        assert!(actions.actions.is_empty());
        assert_eq!(status, Status::Accept);
        connection.close().await.unwrap();
    });
}

#[test]
fn a_message_costs_one_exchange_where_nothing_is_to_be_said_at_rcpt() {
    let recipients = "[[rule]]\nname = \"hr\"\nrecipient = [\"hr.example\"]\nobserve = { min-bits = 256 }\n";
    for (text, told, sender, expected) in [
        ("", plain("A"), "<a@x>", Status::Accept),
        (&*rule("observe = { min-bits = 128 }"), plain("A"), "<a@x>", Status::Accept),
        (&*rule("enforce = { min-bits = 128 }"), tls("A", "128"), "<a@x>", Status::Accept),
        (&*rule("enforce = { min-bits = 128 }"), plain("A"), "<a@x>", Status::Continue),
        (&*rule("enforce = { min-bits = 128 }"), plain("A"), "<>", Status::Continue),
        (&*rule("exempt = {}"), plain("A"), "<a@x>", Status::Accept),
        // The MTA tells who it is, and nothing of the bits: unknown, and so let through.
        (
            &*rule("enforce = { min-bits = 128 }"),
            vec![("{client_name}", "mx.partner.example"), ("{client_resolve}", "OK"), ("{cipher}", "X")],
            "<a@x>",
            Status::Accept,
        ),
        // Where a rule may speak of recipients, they are asked for, unless nothing can matter any more.
        (recipients, tls("A", "256"), "<a@x>", Status::Continue),
        (recipients, vec![("{client_addr}", "127.0.0.1")], "<a@x>", Status::Accept),
        (recipients, vec![("{client_addr}", "192.0.2.7"), ("{auth_authen}", "u")], "<a@x>", Status::Accept),
    ] {
        let milter = Milter::start(text);
        milter.block_on(async {
            let mut connection = open(&milter).await;
            // A message that is settled leaves the connection ready for the next one, with nothing between.
            for round in 0..if expected == Status::Accept { 2 } else { 1 } {
                let status = mail(&mut connection, &told, sender).await;
                assert_eq!(status, expected, "round {round}: {text} {told:?}");
                let records = milter.take_records();
                // Settled at MAIL is recorded at MAIL; the rest is yet to come.
                assert_eq!(records.len(), usize::from(expected == Status::Accept), "{text}: {records:?}");
            }
            connection.close().await.unwrap();
        });
    }
}

#[test]
fn refusals_have_their_exact_words_on_the_wire() {
    let contact = "[reply]\ncontact = \"https://mail.example.org/tls%20help?a=50%\"\n";
    let see = "rule partner, see https://mail.example.org/tls%%20help?a=50%%";
    for (modes, told, expected) in [
        (
            "soft-fail = { min-bits = 168 }",
            tls("A", "128"),
            tempfail(&format!("454 4.7.0 encryption too weak 128 less than 168, {see}")),
        ),
        (
            "soft-fail = { min-bits = 168 }",
            plain("A"),
            tempfail(&format!("454 4.7.0 encryption needed, STARTTLS with at least 168 bits, {see}")),
        ),
        (
            "enforce = { min-bits = 168 }",
            plain("A"),
            reject(&format!("550 5.7.10 encryption needed, STARTTLS with at least 168 bits, {see}")),
        ),
        (
            "enforce = { min-bits = 168 }",
            tls("A", "128"),
            reject(&format!("554 5.7.0 encryption too weak 128 less than 168, {see}")),
        ),
        (
            "enforce = { min-bits = 128, verify = true }",
            tls("A", "256"),
            reject(&format!("554 5.7.0 no authentication requested, {see}")),
        ),
        (
            "enforce = { min-version = \"TLSv1.2\" }",
            [plain("A"), vec![("{tls_version}", "TLSv1.1"), ("{cipher_bits}", "256")]].concat(),
            reject(&format!("554 5.7.0 TLS version too old TLSv1.1 less than TLSv1.2, {see}")),
        ),
        (
            "enforce = { cn = \"mx.partner.example\" }",
            [
                plain("A"),
                vec![("{cipher_bits}", "256"), ("{verify}", "OK"), ("{cn_subject}", "e(v)il 100%\r\n250 x")],
            ]
            .concat(),
            reject(&format!("554 5.7.0 CN e[v]il 100%%??250 x does not match mx.partner.example, {see}")),
        ),
    ] {
        let milter = Milter::start(&format!("{contact}{}", rule(modes)));
        milter.block_on(async {
            let mut connection = open(&milter).await;
            assert_eq!(mail(&mut connection, &told, "<a@x>").await, Status::Continue);
            assert_eq!(connection.rcpt(["<r@y>"]).await.unwrap(), expected, "{modes}");
            // What the record shows is what sendmail makes of it: each `%%` is a `%` again.
            let (Status::Tempfail { message } | Status::Reject { message }) = expected else { panic!() };
            let shown = message.unwrap().into_string().unwrap().replace("%%", "%");
            assert_eq!(milter.take_records()[0]["reply"], shown);
            connection.close().await.unwrap();
        });
    }
}

#[test]
fn postmaster_is_reachable_beside_recipients_that_are_refused() {
    let milter = Milter::start(&rule("enforce = { min-bits = 128 }"));
    milter.block_on(async {
        let mut connection = open(&milter).await;
        assert_eq!(mail(&mut connection, &plain("A"), "<a@x>").await, Status::Continue);
        for (recipient, refused) in [
            ("<r@y>", true),
            ("<postmaster>", false),
            ("<PostMaster@any.where>", false),
            ("<postmaster@sub@y>", true),
            ("<not-postmaster@y>", true),
            ("<@relay,@other:postmaster@y>", false),
        ] {
            let status = connection.rcpt([recipient]).await.unwrap();
            assert_eq!(matches!(status, Status::Reject { .. }), refused, "{recipient}: {status:?}");
        }
        let (_, status) = connection.eom().await.unwrap();
        assert_eq!(status, Status::Accept);
        connection.close().await.unwrap();
    });
    let weak = "encryption too weak 0 less than 128";
    assert_eq!(
        milter.take_records().iter().map(brief).collect::<Vec<_>>(),
        [
            format!("fail | reject | partner | r@y | {weak}"),
            "exempt | accept | - | postmaster | recipient postmaster".to_owned(),
            "exempt | accept | - | PostMaster@any.where | recipient postmaster".to_owned(),
            format!("fail | reject | partner | postmaster@sub@y | {weak}"),
            format!("fail | reject | partner | not-postmaster@y | {weak}"),
            "exempt | accept | - | postmaster@y | recipient postmaster".to_owned(),
        ]
    );
}

#[test]
fn each_message_of_a_connection_is_judged_by_its_own_facts() {
    let milter = Milter::start(&rule("soft-fail = { min-bits = 256 }\nenforce = { min-bits = 128 }"));
    milter.block_on(async {
        let mut connection = open(&milter).await;
        // In the clear, then STARTTLS, a stronger one, in the clear again (another client's session), and a
        // client that is none of the rule's.
        let stranger = vec![("{client_addr}", "203.0.113.9"), ("{client_name}", "[203.0.113.9]")];
        let forged: Vec<_> = plain("F").into_iter().filter(|(name, _)| *name != "{client_resolve}").collect();
        let relayed = [plain("E"), vec![("{auth_type}", "PLAIN"), ("{auth_authen}", "user")]].concat();
        for (told, expected) in [
            (plain("A"), Some("550")),
            (tls("B", "128"), Some("454")),
            (tls("C", "256"), None),
            (plain("D"), Some("550")),
            (tls("D", "112"), Some("554")),
            (relayed, None),
            (stranger, None),
            ([forged.clone(), vec![("{client_resolve}", "FORGED")]].concat(), None),
            (plain("G"), Some("550")),
        ] {
            let status = mail(&mut connection, &told, "<a@x>").await;
            let code = match expected {
                None => {
                    assert_eq!(status, Status::Accept, "{told:?}");
                    None
                }
                Some(_) => {
                    assert_eq!(status, Status::Continue, "{told:?}");
                    match connection.rcpt(["<r@y>"]).await.unwrap() {
                        Status::Tempfail { message } | Status::Reject { message } => message,
                        other => panic!("{other:?}"),
                    }
                }
            };
            let code = code.map(|text| text.to_str().unwrap()[..3].to_owned());
            assert_eq!(code.as_deref(), expected, "{told:?}");
            // A message that was refused is over for the MTA: it says so, or begins the next one.
            connection.abort().await.unwrap();
        }
        connection.close().await.unwrap();
    });
    let records = milter.take_records();
    assert_eq!(records.len(), 9, "{records:?}");
    assert_eq!(
        records.iter().map(|record| record["verdict"].as_str().unwrap()).collect::<Vec<_>>(),
        ["fail", "fail", "pass", "fail", "fail", "exempt", "no-rule", "no-rule", "fail"]
    );
}

#[test]
fn a_transaction_that_is_given_up_leaves_nothing_for_the_next() {
    let milter = Milter::start(&rule("enforce = { min-bits = 128 }"));
    milter.block_on(async {
        let mut connection = open(&milter).await;
        assert_eq!(mail(&mut connection, &plain("A"), "<a@x>").await, Status::Continue);
        connection.abort().await.unwrap();
        assert_eq!(mail(&mut connection, &tls("B", "128"), "<b@x>").await, Status::Accept);
        // A recipient of nobody's message.
        connection.abort().await.unwrap();
        assert_eq!(connection.rcpt(["<r@y>"]).await.unwrap(), Status::Continue);
        // And a MAIL of which nothing was told: not what was told of B, nor of A.
        assert_eq!(connection.mail(["<c@x>"]).await.unwrap(), Status::Accept);
        connection.close().await.unwrap();
    });
    assert_eq!(
        milter.take_records().iter().map(brief).collect::<Vec<_>>(),
        [
            "fail | reject | partner | - | encryption too weak 0 less than 128",
            "pass | accept | partner | - | -",
            "unknown | accept | - | - | not told by the MTA: {client_addr}",
        ]
    );
}

#[test]
fn ehlo_between_messages_and_within_one() {
    let milter = Milter::start(&rule("enforce = { min-bits = 128 }"));
    milter.block_on(async {
        let mut connection = TestConnection::configure()
            .available_opts(ProtoOpts::all() - ProtoOpts::NO_HELO)
            .open_unix(milter.path())
            .await
            .unwrap();
        assert_eq!(connection.helo("one").await.unwrap(), Status::Continue);
        assert_eq!(mail(&mut connection, &plain("A"), "<a@x>").await, Status::Continue);
        // STARTTLS, and a second EHLO, which ends the transaction.
        assert_eq!(connection.helo("two").await.unwrap(), Status::Continue);
        assert_eq!(connection.rcpt(["<r@y>"]).await.unwrap(), Status::Continue);
        assert_eq!(mail(&mut connection, &tls("B", "256"), "<b@x>").await, Status::Accept);
        assert_eq!(connection.helo("three").await.unwrap(), Status::Continue);
        assert_eq!(mail(&mut connection, &plain("C"), "<c@x>").await, Status::Continue);
        assert!(matches!(connection.rcpt(["<r@y>"]).await.unwrap(), Status::Reject { .. }));
        connection.close().await.unwrap();
    });
    let told: Vec<_> = milter
        .take_records()
        .iter()
        .map(|record| {
            (record["queue_id"].as_str().unwrap().to_owned(), record["verdict"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [("A", "fail"), ("B", "pass"), ("C", "fail")];
    assert_eq!(told, expected.map(|(id, verdict)| (id.to_owned(), verdict.to_owned())));
}

#[test]
fn recipients_have_rules_of_their_own() {
    let text = "
        [[rule]]\nname = \"hr\"\nrecipient = [\"hr.example\"]\nenforce = { min-bits = 256 }
        [[rule]]\nname = \"boss\"\nrecipient = [\"boss@hr.example\"]\nsoft-fail = { min-bits = 1024 }
        [[rule]]\nname = \"open\"\nrecipient = [\"open.hr.example\"]\nexempt = { reason = \"by contract\" }
        [[rule]]\nname = \"seen\"\nrecipient = [\"*\"]\nobserve = { min-bits = 256 }\n";
    let milter = Milter::start(text);
    milter.block_on(async {
        let mut connection = open(&milter).await;
        assert_eq!(mail(&mut connection, &tls("A", "128"), "<a@x>").await, Status::Continue);
        for (recipient, expected) in [
            ("<u@hr.example>", reject("554 5.7.0 encryption too weak 128 less than 256, rule hr")),
            ("<u@Sub.HR.example>", reject("554 5.7.0 encryption too weak 128 less than 256, rule hr")),
            ("<Boss@hr.example>", tempfail("454 4.7.0 encryption too weak 128 less than 1024, rule boss")),
            ("<u@open.hr.example>", Status::Continue),
            ("<u@elsewhere.example>", Status::Continue),
            ("<postmaster@hr.example>", Status::Continue),
        ] {
            assert_eq!(connection.rcpt([recipient]).await.unwrap(), expected, "{recipient}");
        }
        let (_, status) = connection.eom().await.unwrap();
        assert_eq!(status, Status::Accept);
        connection.close().await.unwrap();
    });
    let records = milter.take_records();
    assert_eq!(
        records.iter().map(brief).collect::<Vec<_>>(),
        [
            "fail | reject | hr | u@hr.example | encryption too weak 128 less than 256",
            "fail | reject | hr | u@Sub.HR.example | encryption too weak 128 less than 256",
            "fail | tempfail | boss | Boss@hr.example | encryption too weak 128 less than 1024",
            "exempt | accept | open | u@open.hr.example | by contract",
            "fail | accept | seen | u@elsewhere.example | encryption too weak 128 less than 256",
            "exempt | accept | - | postmaster@hr.example | recipient postmaster",
        ]
    );
    assert!(records.iter().all(|record| record["policy"] == milter.fingerprint()));
}

#[test]
fn a_message_keeps_the_policy_that_it_began_with() {
    let milter = Milter::start(&rule("enforce = { min-bits = 128 }"));
    let old = milter.fingerprint();
    milter.block_on(async {
        let mut connection = open(&milter).await;
        assert_eq!(mail(&mut connection, &plain("A"), "<a@x>").await, Status::Continue);
        milter.swap(&rule("observe = { min-bits = 128 }"));
        let refused = reject("550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule partner");
        assert_eq!(connection.rcpt(["<r@y>"]).await.unwrap(), refused);
        // The next one, in the same connection, has the new one.
        assert_eq!(mail(&mut connection, &plain("B"), "<a@x>").await, Status::Accept);
        connection.close().await.unwrap();
    });
    let policies: Vec<_> = milter.take_records().iter().map(|record| record["policy"].clone()).collect();
    assert_eq!(policies, [old, milter.fingerprint()]);
}
