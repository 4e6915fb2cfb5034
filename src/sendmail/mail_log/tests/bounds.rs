//! Files, hosts and years, and what is forgotten.

use super::*;

/// Traditional stamps: the entry's own, `Nov 22 02:00:00 vm 7: …`.
fn traditional(entries: &[String]) -> String {
    let line = |entry: &String| {
        let (stamp, rest) = entry.split_at(15);
        let (host, rest) = rest.trim_start().split_once(' ').unwrap();
        let (pid, rest) = rest.split_once(": ").unwrap();
        format!("{stamp} {host} sm-mta[{pid}]: {rest}\n")
    };
    entries.iter().map(line).collect()
}

#[test]
fn the_year_becomes_known_with_the_first_queue_id() {
    let entries = [
        // A session refused, and another's handshake, before any queue id.
        format!(
            "Dec 31 23:59:50 vm 5: ruleset=tls_client, arg1=OK, arg2=STARTTLS, relay={MX}, reject=454 4.7.0 encryption too weak 128 less than 168"
        ),
        format!("Dec 31 23:59:58 vm 7: STARTTLS=server, relay={MX}, {TLS}"),
        // 1 January 2024, by its id.
        format!("Jan  1 00:00:01 vm 7: {}", from("4BVNxwre000007", "<a@x>", 1, "ESMTPS", MX)),
        format!("Jan  1 00:00:02 vm 7: {}", from("4BVNxwrf000007", "<b@x>", 1, "ESMTP", MX)),
    ];
    let (records, _) = joined(&traditional(&entries), options());
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.ts.unwrap().to_string(), short(std::slice::from_ref(record)).concat()))
        .collect();
    let mx = "mx.partner.example";
    assert_eq!(
        told,
        [
            ("2024-12-31T23:59:50Z".to_owned(), format!("{mx} - 128")),
            ("2025-01-01T00:00:01Z".to_owned(), format!("{mx} a@x 256")),
            // The same session: without another EHLO.
            ("2025-01-01T00:00:02Z".to_owned(), format!("{mx} b@x 256")),
        ]
    );
    // Where no id ever comes it is the reference's.
    let (records, _) = joined(&traditional(&entries[..1]), options());
    assert_eq!(records[0].ts.unwrap().to_string(), "2026-12-31T23:59:50Z");
}

#[test]
fn hosts_do_not_mix() {
    let tls = format!("7: STARTTLS=server, relay={MX}, {TLS}");
    let message = format!("7: {}", from("6AM200re000007", "<a@x>", 1, "ESMTPS", MX));
    let (records, _) = joined(&(log(&tls) + &log(&message).replace(" vm ", " other ")), options());
    assert_eq!(short(&records), ["mx.partner.example a@x unknown"]);
    assert_eq!(records[0].host.as_deref(), Some("other"));
}

#[test]
fn hosts_files_come_one_after_another() {
    let at = |host: &str, hour: u32, entry: &str| {
        log(entry).replace(" vm ", &format!(" {host} ")).replace("T02:", &format!("T{hour:02}:"))
    };
    let message = |id: &str| format!("7: {}", from(id, "<a@x>", 1, "ESMTPS", MX));
    // Each has a file until four o'clock, and one from then on, and a session over the edge.
    let first = |host| {
        at(host, 1, "9: NOQUEUE: connect from x")
            + &at(host, 3, &format!("7: STARTTLS=server, relay={MX}, {TLS}"))
    };
    let hours =
        |host: &str| (4..8).map(|hour| at(host, hour, "9: NOQUEUE: connect from x")).collect::<String>();
    let second = |host| at(host, 3, &message("6AM300re000007")).replace(":00:00.5", ":00:09") + &hours(host);
    let all = first("a") + &first("b") + &hours("c") + &second("a") + &second("b");
    let (records, _) = joined(&all, options());
    assert_eq!(short(&records), ["mx.partner.example a@x 256"; 2]);
    // By its own clock it may be over.
    let late = first("a") + &hours("a") + &at("a", 8, &message("6AM300re000007"));
    assert_eq!(short(&joined(&late, options()).0), ["mx.partner.example a@x unknown"]);
}

#[test]
fn a_log_that_goes_back_is_another() {
    let tls = format!("7: STARTTLS=server, relay={MX}, {TLS}");
    let message = |id| format!("7: {}", from(id, "<a@x>", 1, "ESMTPS", MX));
    // Entries may come a little out of order.
    for (earlier, bits) in [("T01:57", "256"), ("T01:50", "unknown")] {
        let log = log(&tls) + &log(&message("6AM1umre000007")).replace("T02:00", earlier);
        let (records, tally) = joined(&log, options());
        assert_eq!(short(&records), [format!("mx.partner.example a@x {bits}")]);
        assert_eq!(tally.went_back, u64::from(bits == "unknown"));
    }
    // What was delivered in the clear is known from where that log begins.
    let sent = format!("2: {}", to("6AM1U0re000001", "<r@y>", "mx.y. [192.0.2.9]", SENT));
    let first = log(&message("6AM200re000007"));
    let back = log(&sent).replace("T02:00", "T01:40");
    assert_eq!(short(&joined(&(first.clone() + &back), options()).0)[1], "mx.y - unknown");
    let begun = log("9: NOQUEUE: connect from x").replace("T02:00", "T01:20");
    assert_eq!(short(&joined(&(first + &begun + &back), options()).0)[1], "mx.y - clear");
}

#[test]
fn memory_does_not_grow_with_the_log() {
    let mut joiner = Joiner::new(Options { recipients: true, ..options() });
    let mut records = 0u64;
    // Smaller tables than it has, to be quick.
    let bound = 500;
    joiner.processes = Table::new(bound, Some(SILENCE));
    joiner.messages = Table::new(bound, None);
    let count = 10_000;
    for number in 0..count {
        // Each process hears of a handshake and a message, and of its recipient nothing.
        let at =
            format!("2026-11-22T02:{:02}:{:02}+00:00 vm sm-mta[{number}]", number / 6000, number / 100 % 60);
        let relay = format!("relay={MX}");
        joiner.line(format!("{at}: STARTTLS=server, {relay}, {TLS}").as_bytes(), &mut |_| records += 1);
        let from = from(&format!("6AM200re{number:06}"), "<a@x>", 1, "ESMTPS", MX);
        joiner.line(format!("{at}: {from}").as_bytes(), &mut |_| records += 1);
        assert!(joiner.processes.len() <= bound && joiner.messages.len() <= bound);
    }
    assert!(joiner.tally.forgotten > 0 && records > 0);
    joiner.finish(&mut |_| records += 1);
    // Not one is lost.
    assert_eq!((records, joiner.tally.inbound.tls, joiner.messages.len()), (count, count, 0));
}

#[test]
fn too_many_hosts_are_no_log() {
    let mut joiner = Joiner::new(options());
    let message = log(&format!("7: {}", from("6AM200re000007", "<a@x>", 1, "ESMTP", MX)));
    for number in 0..=MAX_HOSTS {
        joiner.line(message.trim_end().replace(" vm ", &format!(" vm{number} ")).as_bytes(), &mut |_| {});
        assert!(joiner.hosts.len() <= MAX_HOSTS);
    }
    assert_eq!(joiner.tally.inbound.clear, MAX_HOSTS as u64 + 1);
}

#[test]
fn many_servers_and_recipients_are_all_told() {
    let servers = 2500;
    let delivery =
        |n: usize| format!("2: {}", to("6AM200re000001", "<r@y>", &format!("mx{n}.y. [192.0.2.9]"), SENT));
    let begin =
        format!("9: NOQUEUE: connect from {MX}\n1: {}", from("6AM200re000001", "<a@x>", 1, "ESMTP", MX));
    let all: Vec<String> = [begin].into_iter().chain((0..servers).map(delivery)).collect();
    let at = |entries: &[String]| -> String { entries.iter().map(|entry| log(entry)).collect() };
    assert_eq!(joined(&at(&all), options()).1.outbound.clear, servers as u64);

    let begin = format!("1: {}", from("6AM200re000001", "<a@x>", 2500, "ESMTP", MX));
    let delivery = |n: usize| format!("2: {}", to("6AM200re000001", &format!("<r{n}@y>"), "x", SENT));
    let all: Vec<String> = [begin].into_iter().chain((0..servers).map(delivery)).collect();
    let (records, _) = joined(&at(&all), Options { recipients: true, ..options() });
    assert_eq!(records.len(), servers);
}
