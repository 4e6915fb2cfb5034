//! sendmail's mail log: real ones, and what holds for every one.
//!
//! `data/mail_log` has 215 lines of a real sm-mta in both forms of time stamps, picked from 1,800 sessions so that many of
//! them lack their beginning or end; what they come to was looked through line by line. With `UPDATE_REFERENCES=1` the
//! records beside them are written anew, to be looked through again.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use encr_milter::policy::record::Record;
use encr_milter::sendmail::mail_log::{Joiner, Options, Tally, is_syslog, stamp_of};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::fs;
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mail_log")).join(name)
}

fn options(each: bool) -> Options {
    Options {
        recipients: each,
        deliveries: each,
        zone: jiff::tz::TimeZone::UTC,
        reference: "2026-12-01T00:00:00Z".parse().unwrap(),
    }
}

/// The records of a log that comes in files, a line of JSON each.
fn joined<'l>(files: impl IntoIterator<Item = Vec<&'l [u8]>>, options: Options) -> (Vec<String>, Tally) {
    let reference = options.reference;
    let mut joiner = Joiner::new(options);
    let mut records = Vec::new();
    let mut emit = |record: &Record<'_>| {
        let mut json = Vec::new();
        record.write_json(&mut json);
        records.push(String::from_utf8(json).unwrap());
    };
    for file in files {
        joiner.begin_file(reference);
        for line in file {
            joiner.line(line, &mut emit);
        }
    }
    joiner.finish(&mut emit);
    (records, joiner.tally().clone())
}

fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.strip_suffix(b"\n").unwrap_or(log).split(|byte| *byte == b'\n').collect()
}

/// As a traditional time stamp has it: without fractions.
fn to_the_second(records: &[String]) -> Vec<String> {
    let cut = |record: &String| {
        let (head, rest) = record.split_once("\"ts\":\"").unwrap();
        let (at, rest) = rest.split_once('.').unwrap();
        let (_, rest) = rest.split_once('Z').unwrap();
        format!("{head}\"ts\":\"{at}.000000Z{rest}")
    };
    records.iter().map(cut).collect()
}

#[test]
fn real_logs_come_to_what_they_say() {
    let (iso, traditional) = (fs::read(data("iso.log")).unwrap(), fs::read(data("traditional.log")).unwrap());
    for (each, name) in [(false, "records.jsonl"), (true, "records-each.jsonl")] {
        let (records, tally) = joined([lines(&iso)], options(each));
        let written = records.concat() + &serde_json::to_string(&tally).unwrap() + "\n";
        if std::env::var_os("UPDATE_REFERENCES").is_some() {
            fs::write(data(name), &written).unwrap();
        }
        let expected = fs::read_to_string(data(name)).unwrap();
        let differing = written.lines().zip(expected.lines()).find(|(one, other)| one != other);
        assert_eq!(differing, None, "{name}");
        assert_eq!(written.lines().count(), expected.lines().count(), "{name}");
        let (other, other_tally) = joined([lines(&traditional)], options(each));
        assert_eq!(to_the_second(&other), to_the_second(&records), "{name}");
        assert_eq!(other_tally, tally);
        // As Windows would send it.
        let crlf = String::from_utf8(iso.clone()).unwrap().replace('\n', "\r\n");
        assert_eq!(joined([lines(crlf.as_bytes())], options(each)), (records, tally));
    }
}

#[test]
fn every_line_of_a_real_log_has_its_time() {
    for (name, first) in
        [("iso.log", "2026-11-22T02:07:27.577841Z"), ("traditional.log", "2026-11-22T02:07:27Z")]
    {
        let log = fs::read(data(name)).unwrap();
        for line in lines(&log).into_iter().filter(|line| !line.is_empty()) {
            assert!(is_syslog(line));
            let (at, host) = stamp_of(line, &options(false)).unwrap();
            assert_eq!((&*host, at.as_second() / 1000), ("vm", 1_795_313));
        }
        let at = stamp_of(lines(&log)[0], &options(false)).unwrap().0;
        assert_eq!(at.to_string(), first);
    }
}

/// One process and all it says, as sendmail would: with a queue id of its own.
fn session() -> impl Strategy<Value = Vec<String>> {
    let tls = select(vec![
        None,
        Some("version=TLSv1.3, verify=NO, cipher=TLS_AES_256_GCM_SHA384, bits=256/256"),
        Some("version=TLSv1.2, verify=OK, cipher=AES128-SHA256, bits=128/128"),
    ]);
    let relay = select(vec![
        "mx.partner.example [192.0.2.7]",
        "[192.0.2.8]",
        "liar.example [192.0.2.9] (may be forged)",
        "six.example [IPv6:2001:db8:0:0:0:0:0:25]",
    ]);
    let inbound = (tls.clone(), relay, vec((0u8..3, any::<bool>()), 0..4)).prop_map(|(tls, relay, messages)| {
        let mut said: Vec<String> = tls.iter().map(|tls| format!("STARTTLS=server, relay={relay}, {tls}")).collect();
        let proto = if tls.is_some() { "ESMTPS" } else { "ESMTP" };
        for (number, (recipients, refused)) in (b'a'..).zip(messages) {
            let id = format!("6AM200{}PID", [b'r', number].escape_ascii());
            if refused {
                said.push(format!("{id}: Milter: to=<no@y>, reject=454 4.7.0 encryption too weak"));
            }
            said.push(format!(
                "{id}: from=<{}@x>, size=4, class=0, nrcpts={recipients}, proto={proto}, daemon=MTA, relay={relay}",
                char::from(number)
            ));
            for recipient in 0..recipients {
                said.push(format!(
                    "{id}: to=<r{recipient}@y>, delay=00:00:00, xdelay=00:00:00, mailer=local, pri=3, dsn=2.0.0, stat=Sent"
                ));
            }
        }
        said
    });
    let outbound = (tls, vec(any::<bool>(), 0..4)).prop_map(|(tls, sent)| {
        let mut said: Vec<String> = tls.iter().map(|tls| format!("STARTTLS=client, relay=mx.y., {tls}")).collect();
        for (number, sent) in (b'a'..).zip(sent) {
            let outcome = if sent { "dsn=2.0.0, stat=Sent" } else { "dsn=4.7.1, stat=Deferred: 451 later" };
            said.push(format!(
                "6AM230{}PID: to=<r@y>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=3, relay=mx.y. [192.0.2.20], {outcome}",
                [b'r', number].escape_ascii()
            ));
        }
        said
    });
    prop_oneof![inbound, outbound]
}

/// How a log begins that tells of handshakes.
const BEGIN: &str = "2026-11-22T02:00:00+00:00 vm sm-mta[1]: NOQUEUE: connect from x";

/// The sessions' entries, each process's own in their order, and otherwise as the picks have it.
fn interleaved(sessions: &[Vec<String>], picks: &[Index]) -> Vec<String> {
    let mut rest: Vec<_> = (1000..).zip(sessions).map(|(pid, said)| (pid, said.iter())).collect();
    let mut log = Vec::new();
    for pick in picks.iter().cycle() {
        rest.retain(|(_, said)| said.len() > 0);
        if rest.is_empty() {
            break;
        }
        let (pid, said) = pick.get_mut(&mut rest);
        let entry = said.next().unwrap().replace("PID", &format!("{pid:06}"));
        log.push(format!("2026-11-22T02:10:00+00:00 vm sm-mta[{pid}]: {entry}"));
    }
    log
}

fn of_lines(log: &[String], each: bool) -> (Vec<String>, Tally) {
    let mut joined = joined([log.iter().map(String::as_bytes).collect()], options(each));
    joined.0.sort_unstable();
    joined
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_may_be_interleaved_at_will(
        sessions in vec(session(), 1..8),
        one in vec(any::<Index>(), 1..64),
        other in vec(any::<Index>(), 1..64),
        each in any::<bool>(),
    ) {
        let log = |sessions: &[Vec<String>], picks: &[Index]| -> Vec<String> {
            [BEGIN.to_owned()].into_iter().chain(interleaved(sessions, picks)).collect()
        };
        let (records, tally) = of_lines(&log(&sessions, &one), each);
        prop_assert_eq!(of_lines(&log(&sessions, &other), each), (records.clone(), tally));
        // And each session by itself comes to the same.
        let mut alone = Vec::new();
        for number in 0..sessions.len() {
            let mut only = vec![Vec::new(); sessions.len()];
            only[number].clone_from(&sessions[number]);
            alone.extend(of_lines(&log(&only, &one), each).0);
        }
        alone.sort_unstable();
        prop_assert_eq!(records, alone);
    }

    #[test]
    fn a_log_may_come_in_files(cuts in vec(any::<Index>(), 0..6), each in any::<bool>(), traditional in any::<bool>()) {
        let log = fs::read(data(if traditional { "traditional.log" } else { "iso.log" })).unwrap();
        let all = lines(&log);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).collect();
        places.sort_unstable();
        let mut files = Vec::new();
        let mut from = 0;
        for place in places {
            files.push(all[from..place].to_vec());
            from = place;
        }
        files.push(all[from..].to_vec());
        prop_assert_eq!(joined(files, options(each)), joined([all], options(each)));
    }

    #[test]
    fn rubbish_does_no_harm(
        picks in vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<u8>(), 0u8..6), 1..60),
        noise in vec(vec(any::<u8>(), 0..80), 0..6),
        each in any::<bool>(),
        name in select(vec!["iso.log", "traditional.log"]),
    ) {
        let log = fs::read(data(name)).unwrap();
        let all = lines(&log);
        let mut broken: Vec<Vec<u8>> = noise;
        for (line, at, other, byte, how) in picks {
            let mut line = line.get(&all).to_vec();
            if line.is_empty() {
                continue;
            }
            let at = at.index(line.len());
            match how {
                0 => line.truncate(at),
                1 => line[at] = byte,
                2 => line.insert(at, byte),
                3 => drop(line.drain(..at)),
                // Two lines run into one.
                4 => line.extend_from_slice(all[other.index(all.len())]),
                _ => drop(line.remove(at)),
            }
            broken.push(line);
        }
        let lines = broken.iter().map(Vec::as_slice).collect();
        let (records, tally) = joined([lines], options(each));
        let count = tally.inbound.total() + tally.outbound.total();
        prop_assert_eq!(count, u64::try_from(records.len()).unwrap());
        prop_assert_eq!(tally.lines, u64::try_from(broken.len()).unwrap());
        for line in &broken {
            let _ = (is_syslog(line), stamp_of(line, &options(each)));
        }
    }
}
