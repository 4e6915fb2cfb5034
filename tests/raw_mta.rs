//! What no well-behaved MTA sends, sent by one of our own: macros that are missing, stale, broken or absurd;
//! frames that are cut, dribbled, too large, unknown, or out of order.
//!
//! Promises: a message of which nothing was told is let through and said to be `unknown`, and never judged by
//! what was told of another; whatever a connection does, the next one is served.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::in_process::{Milter, brief};
use support::mta::{Mta, OFFER, argument, frame, macros, offer, plain, tls};

/// Everybody needs 128 bits.
/// The largest frame that is taken.
const MAX_FRAME: u32 = 128 * 1024;
const ENFORCE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";
const UNKNOWN: &str = "unknown | accept | - | - | not told by the MTA: {client_addr}";
const WEAK: &str = "fail | reject | all | - | encryption too weak 0 less than 128";

/// One message in the clear and one with TLS: the milter is well, whatever happened before.
fn is_well(milter: &Milter) {
    milter.take_records();
    for mut mta in [milter.connect(), Mta::tcp(milter.address()).unwrap()] {
        mta.negotiate();
        mta.macros(&plain("W1"));
        assert_eq!(mta.mail("<a@x>"), "continue");
        assert_eq!(mta.rcpt("<r@y>"), REFUSED);
        mta.macros(&tls("W2", "256"));
        assert_eq!(mta.mail("<a@x>"), "accept");
        mta.quit();
    }
    assert_eq!(
        milter.take_records().iter().map(|record| record["verdict"].clone()).collect::<Vec<_>>(),
        ["fail", "pass", "fail", "pass"]
    );
}

fn briefs(records: &[Value]) -> Vec<String> {
    records.iter().map(brief).collect()
}

#[test]
fn the_answer_to_sendmails_offer_to_the_byte() {
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.connect();
    let reply = mta.negotiate();
    // Version 6; no action; and left out: CONNECT 1, HELO 2, BODY 0x10, HEADER 0x20, EOH 0x40, UNKNOWN 0x100,
    // DATA 0x200, but neither MAIL 4 nor RCPT 8.
    assert_eq!(reply.payload[..12], offer([6, 0, 0x373]), "{reply:?}");
    // Then lists of macros: stage, names, NUL. Mail is stage 2.
    let mut lists = std::collections::BTreeMap::new();
    let mut rest = &reply.payload[12..];
    while !rest.is_empty() {
        let stage = u32::from_be_bytes(rest[..4].try_into().unwrap());
        let end = rest[4..].iter().position(|byte| *byte == 0).unwrap() + 4;
        assert_eq!(lists.insert(stage, String::from_utf8(rest[4..end].to_vec()).unwrap()), None);
        rest = &rest[end + 1..];
    }
    let at_mail = lists.remove(&2).unwrap();
    assert!(at_mail.split(' ').any(|name| name == "{client_addr}"), "{at_mail}");
    assert!(at_mail.split(' ').count() < 50, "sendmail breaks the session at 51 names");
    assert_eq!(lists.keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6]);
    assert!(lists.values().all(String::is_empty), "{lists:?}");
    mta.quit();
}

#[test]
fn a_message_of_which_nothing_was_told_is_unknown_and_never_the_one_before() {
    let told = macros('M', &plain("OLD"));
    let empty: &[(&str, &[u8])] = &[
        ("no packet at all", b""),
        ("a packet of nothing", &frame('D', b"")),
        ("a packet for MAIL with no macros", &frame('D', b"M")),
        ("macros of another stage", &frame('D', &macros('R', &plain("X")))),
        ("a stage that does not exist", &frame('D', &macros('?', &plain("X")))),
        ("names without values", &frame('D', b"M{client_addr}\0")),
        ("one string without its NUL", &frame('D', b"M{client_addr}\x00192.0.2.7")),
        ("empty strings", &frame('D', b"M\0\0\0\0\0\0")),
        ("an empty value", &frame('D', b"M{client_addr}\0\0")),
        ("nothing that we know", &frame('D', b"M{unheard_of}\x00192.0.2.7\0_\0x\0")),
        ("told, and then another packet that tells nothing", &[frame('D', &told), frame('D', b"M")].concat()),
    ];
    let milter = Milter::start(ENFORCE);
    for (what, packets) in empty {
        for before in [plain("OLD"), tls("OLD", "256")] {
            let mut mta = milter.negotiated();
            mta.macros(&before);
            let first = mta.mail("<a@x>");
            assert_eq!(first == "continue", before.len() == plain("").len(), "{what}");
            if first == "continue" {
                assert_eq!(mta.rcpt("<r@y>"), REFUSED);
                mta.frame('A', b"");
            }
            milter.take_records();
            mta.bytes(packets);
            assert_eq!(mta.mail("<second@x>"), "accept", "{what}");
            let records = milter.take_records();
            assert_eq!(briefs(&records), [UNKNOWN], "{what}");
            for field in ["queue_id", "client_addr", "client_name", "cipher_bits", "tls_version", "host"] {
                assert_eq!(records[0].get(field), None, "{what}: {field}");
            }
            assert_eq!(records[0]["sender"], "second@x");
            // And a third, of which it is told again.
            mta.macros(&plain("THIRD"));
            assert_eq!(mta.mail("<third@x>"), "continue", "{what}");
            mta.quit();
        }
    }
    is_well(&milter);
}

#[test]
fn macros_that_another_command_followed_are_stale() {
    let connect = b"mx.partner.example\x004\0\x19192.0.2.7\0";
    let commands: &[(&str, char, &[u8], bool)] = &[
        ("CONNECT", 'C', connect, true),
        ("HELO", 'H', b"mx\0", true),
        ("RCPT", 'R', b"<r@y>\0", true),
        ("DATA", 'T', b"", true),
        ("header", 'L', b"Subject\0x\0", true),
        ("end of headers", 'N', b"", true),
        ("body", 'B', b"text", true),
        ("end of message", 'E', b"", true),
        ("unknown", 'U', b"HELP\0", true),
        ("abort", 'A', b"", false),
        ("quit, and another connection", 'K', b"", false),
        ("negotiation", 'O', &offer(OFFER), true),
    ];
    let milter = Milter::start(ENFORCE);
    for (what, kind, payload, answered) in commands {
        let mut mta = milter.negotiated();
        mta.macros(&plain("STALE"));
        mta.frame(*kind, payload);
        if *answered {
            let reply = mta.reply();
            assert!(['c', 'a', 'O'].contains(&reply.kind), "{what}: {reply:?}");
        }
        assert_eq!(mta.mail("<a@x>"), "accept", "{what}");
        assert_eq!(briefs(&milter.take_records()), [UNKNOWN], "{what}");
        mta.quit();
    }
}

#[test]
fn odd_macros_are_read_as_far_as_they_make_sense() {
    /// What it is, the payload, the answer to MAIL, and what the record has.
    type Odd<'a> = (&'a str, Vec<u8>, &'a str, &'a [(&'a str, &'a str)]);
    let long = vec![b'x'; 100_000];
    let with = |extra: &[u8]| [macros('M', &plain("Q")), extra.to_vec()].concat();
    let cases: &[Odd<'_>] = &[
        ("unknown ones beside", with(b"{future}\0x\0Z\0\0"), "continue", &[("queue_id", "Q")]),
        ("an odd number of strings", with(b"{cipher_bits}\0"), "continue", &[]),
        ("a last string without its NUL", with(b"{cipher_bits}\x00256"), "continue", &[]),
        ("of a name that comes twice, the first", with(b"i\0Q2\0{client_addr}\x00127.0.0.1\0"), "continue", &[
            ("queue_id", "Q"),
            ("client_addr", "192.0.2.7"),
        ]),
        ("a line feed in a value", with(b"{auth_ssf}\0\n{verdict}=pass\0"), "continue", &[]),
        ("no UTF-8", b"Mi\0Q\xff\xfe\0{client_addr}\x00192.0.2.7\0{client_name}\0\xc3\xa9\x80.example\0{client_resolve}\0OK\0".to_vec(), "continue", &[
            ("queue_id", "Q\\xff\\xfe"),
            ("client_name", "\u{e9}\\x80.example"),
        ]),
        ("an address that is none", b"M{client_addr}\0somewhere\0".to_vec(), "continue", &[("client_addr", "somewhere")]),
        ("standard input, which is this host", b"M{client_addr}\x000\0".to_vec(), "accept", &[("client_addr", "0")]),
        ("only TLS, and no address", b"M{cipher_bits}\x00256\0{tls_version}\0TLSv1.3\0".to_vec(), "accept", &[("verdict", "pass")]),
        ("only weak TLS, and no address", b"M{cipher_bits}\x00112\0{tls_version}\0TLSv1.3\0".to_vec(), "continue", &[]),
        ("empty TLS macros, as some MTAs send them in the clear", with(b"{tls_version}\0\0{cipher}\0\0{cipher_bits}\0\0{verify}\0\0"), "continue", &[]),
        ("0 bits and no TLS, as others do", with(b"{cipher_bits}\x000\0{verify}\0NONE\0"), "continue", &[]),
        ("a very long value", with(&[b"{cn_subject}\0".as_slice(), &long, b"\0"].concat()), "continue", &[]),
    ];
    let milter = Milter::start(ENFORCE);
    for (what, payload, expected, fields) in cases {
        let mut mta = milter.negotiated();
        mta.frame('D', payload);
        assert_eq!(mta.mail("<a@x>"), *expected, "{what}");
        mta.quit();
        let records = milter.take_records();
        assert_eq!(records.len(), 1, "{what}: {records:?}");
        for (name, value) in *fields {
            assert_eq!(records[0][name], *value, "{what}");
        }
    }
    is_well(&milter);
}

#[test]
fn of_two_packets_for_one_mail_the_last_counts() {
    // As in libmilter, whose next packet of a stage takes the place of the one before.
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.negotiated();
    mta.macros(&plain("FIRST"));
    mta.macros(&tls("SECOND", "256"));
    assert_eq!(mta.mail("<a@x>"), "accept");
    mta.macros(&tls("FIRST", "256"));
    mta.macros(&plain("SECOND"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    // Macros of other stages, which we did not ask for, change nothing.
    mta.frame('A', b"");
    mta.macros(&tls("THIRD", "256"));
    mta.frame('D', &macros('R', &plain("NOT")));
    mta.frame('D', b"");
    assert_eq!(mta.mail("<a@x>"), "accept");
    mta.quit();
    let ids: Vec<_> = milter.take_records().iter().map(|record| record["queue_id"].clone()).collect();
    assert_eq!(ids, ["SECOND", "SECOND", "THIRD"]);
}

#[test]
fn bits_that_make_no_sense_are_unknown_and_no_outage() {
    let milter = Milter::start(ENFORCE);
    for bits in [
        "abc",
        "-1",
        "1e9",
        "99999999999999999999",
        "1025",
        "65536",
        " 256",
        "256 ",
        "0x80",
        "12.5",
        "\u{0663}",
    ] {
        for told in [tls("Q", bits), [plain("Q"), vec![("{cipher_bits}", bits)]].concat()] {
            let mut mta = milter.negotiated();
            mta.macros(&told);
            assert_eq!(mta.mail("<a@x>"), "accept", "{bits:?}");
            mta.quit();
            let records = milter.take_records();
            assert_eq!(
                briefs(&records),
                ["unknown | accept | all | - | not told by the MTA: {cipher_bits}"],
                "{bits:?}"
            );
            assert_eq!(records[0].get("cipher_bits"), None, "{bits:?}");
        }
    }
    // An empty value is an absent one: beside other TLS macros not told, without them in the clear.
    for (told, expected) in [
        (tls("Q", ""), "unknown | accept | all | - | not told by the MTA: {cipher_bits}"),
        ([plain("Q"), vec![("{cipher_bits}", "")]].concat(), WEAK),
        (tls("Q", "0"), WEAK),
        ([plain("Q"), vec![("{cipher_bits}", "00")]].concat(), WEAK),
        ([tls("Q", "abc"), vec![("{auth_ssf}", "256")]].concat(), "pass | accept | all | - | -"),
        ([plain("Q"), vec![("{auth_ssf}", "many")]].concat(), WEAK),
    ] {
        let mut mta = milter.negotiated();
        mta.macros(&told);
        mta.mail("<a@x>");
        mta.quit();
        assert_eq!(briefs(&milter.take_records()), [expected], "{told:?}");
    }
}

/// A message that is refused, from the first byte of its connection to the last. Also: how many bytes there
/// are when MAIL is whole, and when RCPT is.
fn conversation() -> (Vec<u8>, usize, usize) {
    let mut bytes = frame('O', &offer(OFFER));
    bytes.extend(frame('D', &macros('M', &plain("CUT"))));
    bytes.extend(frame('M', &argument("<a@x>")));
    let mail = bytes.len();
    bytes.extend(frame('R', &argument("<r@y>")));
    let rcpt = bytes.len();
    bytes.extend(frame('E', b""));
    bytes.extend(frame('Q', b""));
    (bytes, mail, rcpt)
}

#[test]
fn a_connection_may_be_cut_at_any_byte() {
    let milter = Milter::start(ENFORCE);
    let (bytes, mail, rcpt) = conversation();
    for length in 0..=bytes.len() {
        let mut mta = if length % 2 == 0 { milter.connect() } else { Mta::tcp(milter.address()).unwrap() };
        mta.bytes(&bytes[..length]);
        mta.end_sending();
        let replies: String = mta.drained().iter().map(|frame| frame.kind).collect();
        let whole = [17, mail, rcpt, rcpt + 5].iter().filter(|end| **end <= length).count();
        assert_eq!(replies, "Ocya"[..whole], "cut after {length} bytes");
        // Refused as a whole where no recipient was named; each that was named, by itself.
        let recipient = if length >= rcpt { "r@y" } else { "-" };
        let expected = (length >= mail).then(|| WEAK.replace("| - |", &format!("| {recipient} |")));
        assert_eq!(briefs(&milter.take_records()), Vec::from_iter(expected), "cut after {length} bytes");
    }
    is_well(&milter);
}

#[test]
fn a_conversation_may_come_byte_by_byte_or_all_at_once() {
    let milter = Milter::start(ENFORCE);
    let (bytes, ..) = conversation();
    for (what, pieces) in [("byte by byte", 1), ("in threes", 3), ("at once", bytes.len())] {
        for mut mta in [milter.connect(), Mta::tcp(milter.address()).unwrap()] {
            for piece in bytes.chunks(pieces) {
                mta.bytes(piece);
            }
            let replies = mta.drained();
            assert_eq!(replies.iter().map(|frame| frame.kind).collect::<String>(), "Ocya", "{what}");
            assert_eq!(replies[2].refusal(), REFUSED, "{what}");
            assert_eq!(milter.take_records().len(), 1, "{what}");
        }
    }
}

#[test]
fn frames_that_are_none_end_their_connection_and_nothing_else() {
    let beyond = MAX_FRAME + 1;
    let too_long = format!("a frame of {beyond} bytes");
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("a length of 0", vec![0, 0, 0, 0], "a frame of 0 bytes"),
        ("the largest length there is", vec![0xff; 4], "a frame of 4294967295 bytes"),
        ("one byte more than is taken", [&beyond.to_be_bytes()[..], b"B"].concat(), &too_long),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "a frame of 1195725856 bytes"),
        ("a command that does not exist", frame('Z', b""), "an unknown command, 0x5a"),
        ("another", frame('\0', b"x"), "an unknown command, 0x00"),
        ("MAIL without an argument", frame('M', b""), "a malformed MAIL frame"),
        ("MAIL without a NUL", frame('M', b"<a@x>"), "a malformed MAIL frame"),
        ("RCPT without a NUL", frame('R', b"<r@y>"), "a malformed RCPT frame"),
        ("half an offer", frame('O', &offer(OFFER)[..7]), "a malformed negotiation frame"),
        ("no offer", frame('O', b""), "a malformed negotiation frame"),
        (
            "an offer of version 1",
            frame('O', &offer([1, 0x1ff, 0x7f])),
            "the MTA speaks version 1 of the milter protocol",
        ),
        (
            "an offer of version 0",
            frame('O', &offer([0, 0, 0])),
            "the MTA speaks version 0 of the milter protocol",
        ),
    ];
    let milter = Milter::start(ENFORCE);
    for (what, bytes, expected) in cases {
        for at in ["first", "idle", "within a message"] {
            let mut mta = milter.connect();
            if at != "first" {
                mta.negotiate();
            }
            if at == "within a message" {
                mta.macros(&plain("BAD"));
                assert_eq!(mta.mail("<a@x>"), "continue");
            }
            mta.bytes(bytes);
            // Without an end of ours: it is the milter that has had enough.
            assert_eq!(mta.drained(), [], "{what}, {at}");
            let error = milter.wait_error();
            assert!(error.starts_with(expected), "{what}, {at}: {error}");
            // What would have been refused is recorded all the same.
            let records = briefs(&milter.take_records());
            assert_eq!(records.len(), usize::from(at == "within a message"), "{what}, {at}: {records:?}");
        }
    }
    is_well(&milter);
}

#[test]
fn a_frame_as_large_as_is_taken_is_taken() {
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.negotiated();
    let most = MAX_FRAME as usize;
    let body = vec![b'x'; most - 1];
    assert_eq!(mta.ask('B', &body).kind, 'c');
    let mut told = macros('M', &plain("BIG"));
    told.extend_from_slice(b"{x}\0");
    told.resize(most - 2, b'y');
    told.push(0);
    mta.frame('D', &told);
    assert_eq!(mta.mail("<a@x>"), "continue");
    // An address of this size is one like any other, and is refused like any other.
    let long = format!("<{}@y>", "r".repeat(most / 2));
    assert_eq!(mta.rcpt(&long), REFUSED);
    mta.quit();
    assert_eq!(milter.take_records()[0]["recipient"].as_str().unwrap().len(), most / 2 + 2);
}

#[test]
fn what_an_mta_may_send_is_no_frame_too_large() {
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.negotiated();
    // sendmail sends 65,535 bytes of a body at once, as long as nobody asks for more (SMFIP_MDS_256K, SMFIP_MDS_1M); Postfix
    // a header of 102,400 (header_size_limit). Neither is asked for, and an MTA that cannot leave them out gets to go on.
    for (kind, length) in [('B', 65_535), ('L', 102_400)] {
        let payload = [b"X\0".to_vec(), vec![b'x'; length], vec![0]].concat();
        assert_eq!(mta.ask(kind, &payload).kind, 'c', "{kind}");
    }
    // What a client has a say in, each as long as a line of sendmail's can be.
    let value = "y".repeat(2_048);
    let mut told = tls("LONG", "56");
    let names =
        ["{cert_issuer}", "{cert_subject}", "{cn_issuer}", "{cn_subject}", "{tls_version}", "{cipher}"];
    told.retain(|(name, _)| !names.contains(name));
    told.extend(names.map(|name| (name, value.as_str())));
    mta.macros(&told);
    assert_eq!(mta.mail(&format!("<{value}@x>")), "continue");
    assert!(mta.rcpt(&format!("<{value}@y>")).starts_with("554 5.7.0 encryption too weak 56 "));
    mta.quit();
    let records = milter.take_records();
    assert_eq!(records[0]["sender"].as_str().unwrap().len(), value.len() + 2);
}

#[test]
fn commands_out_of_order_are_answered_so_that_mail_goes_on() {
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.connect();
    // Before any negotiation.
    assert_eq!(mta.rcpt("<r@y>"), "continue");
    assert_eq!(mta.end_of_message(), "accept");
    mta.frame('A', b"");
    mta.macros(&tls("EARLY", "256"));
    assert_eq!(mta.mail("<a@x>"), "accept");
    // And after it, twice.
    mta.negotiate();
    mta.negotiate();
    assert_eq!(mta.rcpt("<r@y>"), "continue");
    assert_eq!(mta.end_of_message(), "accept");
    assert_eq!(mta.end_of_message(), "accept");
    for (kind, payload) in
        [('L', b"Subject\0x\0".as_slice()), ('N', b""), ('B', b"x"), ('T', b""), ('U', b"X\0")]
    {
        assert_eq!(mta.ask(kind, payload).kind, 'c', "{kind}");
    }
    assert_eq!(briefs(&milter.take_records()), ["pass | accept | all | - | -"]);
    // A whole message, with stages that we asked not to be sent.
    mta.macros(&plain("LATE"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    assert_eq!(mta.rcpt("<r@y>"), REFUSED);
    assert_eq!(mta.rcpt("<postmaster>"), "continue");
    for (kind, payload) in [('T', b"".as_slice()), ('L', b"Subject\0x\0"), ('N', b""), ('B', b"x")] {
        assert_eq!(mta.ask(kind, payload).kind, 'c', "{kind}");
    }
    assert_eq!(mta.rcpt("<late@y>"), REFUSED, "still the same message");
    assert_eq!(mta.end_of_message(), "accept");
    // Its end is its end.
    assert_eq!(mta.rcpt("<later@y>"), "continue");
    mta.quit();
    assert_eq!(milter.take_records().len(), 3);
    is_well(&milter);
}

#[test]
fn a_message_that_named_no_recipient_is_recorded_at_its_end_whatever_that_is() {
    /// What it is, and how the MTA does it.
    type End<'a> = (&'a str, &'a dyn Fn(&mut Mta));
    let milter = Milter::start(ENFORCE);
    let begun = || {
        let mut mta = milter.negotiated();
        mta.macros(&plain("END"));
        assert_eq!(mta.mail("<a@x>"), "continue");
        assert!(milter.take_records().is_empty(), "nothing is settled yet");
        mta
    };
    let ends: &[End<'_>] = &[
        ("abort", &|mta| mta.frame('A', b"")),
        ("end of message", &|mta| assert_eq!(mta.end_of_message(), "accept")),
        ("another MAIL", &|mta| assert_eq!(mta.mail("<b@x>"), "accept")),
        ("EHLO", &|mta| assert_eq!(mta.ask('H', b"mx\0").kind, 'c')),
        ("another connection on this one", &|mta| mta.frame('K', b"")),
        ("quit", &|mta| mta.frame('Q', b"")),
        ("the MTA's death", &|mta| mta.end_sending()),
        ("half a frame", &|mta| {
            mta.bytes(&[0, 0, 0, 9, b'R']);
            mta.end_sending();
        }),
    ];
    for (what, end) in ends {
        let mut mta = begun();
        end(&mut mta);
        let records = milter.wait_records(1);
        assert_eq!(brief(&records[0]), WEAK, "{what}");
        assert_eq!(
            (&records[0]["queue_id"], &records[0]["sender"]),
            (&"END".into(), &"a@x".into()),
            "{what}"
        );
        mta.end_sending();
        mta.drained();
        // Once, and of the MAIL that came after, if one came, its own.
        let after = briefs(&milter.take_records());
        assert!(
            after.is_empty() && records.len() == 1 + usize::from(*what == "another MAIL"),
            "{what}: {after:?}"
        );
    }
    // A recipient was named, and the message is judged by that alone.
    let mut mta = begun();
    assert_eq!(mta.rcpt("<postmaster>"), "continue");
    mta.quit();
    assert_eq!(briefs(&milter.take_records()), ["exempt | accept | - | postmaster | recipient postmaster"]);
}

#[test]
fn a_message_that_would_be_accepted_and_named_no_recipient_leaves_no_record() {
    // Its fate was open for the recipients' sake alone, and there were none.
    let milter = Milter::start(
        "[[rule]]\nname = \"hr\"\nrecipient = [\"hr.example\"]\nenforce = { min-bits = 128 }\n",
    );
    let mut mta = milter.negotiated();
    mta.macros(&plain("NONE"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    mta.quit();
    assert!(milter.take_records().is_empty());
}

#[test]
fn an_mta_that_falls_silent_is_cut_after_the_time_set() {
    let milter = Milter::start_with(ENFORCE, Duration::from_millis(200));
    let mut idle = milter.negotiated();
    let mut within = milter.negotiated();
    within.macros(&plain("SLOW"));
    assert_eq!(within.mail("<a@x>"), "continue");
    let mut half = milter.negotiated();
    half.bytes(&[0, 0, 0]);
    for mta in [&mut idle, &mut within, &mut half] {
        assert_eq!(mta.drained(), []);
        assert_eq!(milter.wait_error(), "nothing was heard for 0 seconds");
    }
    assert_eq!(briefs(&milter.take_records()), [WEAK]);
}

#[test]
fn many_connections_are_served_at_once() {
    let milter = Milter::start(ENFORCE);
    let ids: Vec<String> = (0..200).map(|n| format!("Q{n}")).collect();
    let mut open: Vec<Mta> = ids.iter().map(|_| milter.negotiated()).collect();
    for (n, mta) in open.iter_mut().enumerate() {
        if n % 2 == 0 {
            mta.macros(&plain(&ids[n]));
        } else {
            mta.macros(&tls(&ids[n], "128"));
        }
        assert_eq!(mta.mail("<a@x>"), if n % 2 == 0 { "continue" } else { "accept" });
    }
    // In another order than they came.
    for mta in open.iter_mut().step_by(2).rev() {
        assert_eq!(mta.rcpt("<r@y>"), REFUSED);
    }
    open.into_iter().for_each(Mta::quit);
    let mut seen: Vec<_> =
        milter.take_records().iter().map(|record| record["queue_id"].to_string()).collect();
    seen.sort_unstable();
    let mut expected: Vec<_> = ids.iter().map(|id| format!("{id:?}")).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}
