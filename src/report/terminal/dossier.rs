//! A dossier on a terminal.

use super::cut;
use super::table::{Column, Look, Tone, Value, count, text, word};
use crate::policy::facts::Direction;
use crate::report::dossier::{Dossier, Fate, Host, Outlook};
use crate::report::letter::{self, Letter};
use crate::report::words::{date, domain_name, number, safe};

const HOSTS: [Column; 7] = [
    text("host"),
    word("negotiated"),
    text("cipher").goes(4),
    word("certificate").goes(3),
    count("messages").goes(1),
    word("last seen").goes(2),
    text("what becomes of it"),
];

const ELSEWHERE: [Column; 5] = [
    text("hosts of"),
    word("negotiated"),
    count("messages").goes(1),
    word("last seen").goes(2),
    text("what becomes of it"),
];

/// The whole dossier.
pub fn dossier(dossier: &Dossier, look: Look) -> String {
    let letter = Letter::of(dossier);
    let mut out = look.heading(&letter.title).trim_start().to_owned();
    out.push_str(&look.paragraph(&letter.intro, ""));
    section(&mut out, "In short", &letter.in_short, look);
    section(&mut out, "What we ask", &letter.asked, look);
    section(&mut out, "What to do", &letter.to_do, look);
    for (direction, title) in [
        (Direction::Inbound, "Your hosts that send to us"),
        (Direction::Outbound, "Your hosts that we send to"),
    ] {
        let hosts: Vec<&Host> = dossier.hosts.iter().filter(|host| host.direction == direction).collect();
        if hosts.is_empty() {
            continue;
        }
        out.push_str(&look.heading(title));
        let (shown, more) = cut(hosts, look);
        let rows = shown.into_iter().flat_map(host_rows);
        out.push_str(&look.table(&HOSTS, rows.collect()));
        out.push_str(&more);
    }
    if !dossier.elsewhere.is_empty() {
        out.push_str(&look.heading("Mail in your name, by hosts of other names"));
        let (shown, more) = cut(dossier.elsewhere.iter().collect(), look);
        let rows = shown.into_iter().map(|seen| {
            vec![
                format!("{} {}", domain_name(&seen.peer_domain), safe(&seen.network)).into(),
                letter::negotiated(&seen.negotiated).into(),
                number(seen.messages).into(),
                date(seen.last).into(),
                becomes(&seen.outlook),
            ]
        });
        out.push_str(&look.table(&ELSEWHERE, rows.collect()));
        out.push_str(&more);
    }
    out.push('\n');
    out.push_str(&look.paragraph(&letter.help, ""));
    out.push('\n');
    out.push_str(&look.paragraph(&letter.made, ""));
    out
}

fn section(out: &mut String, title: &str, lines: &[String], look: Look) {
    if !lines.is_empty() {
        out.push_str(&look.heading(title));
        for line in lines {
            out.push_str(&look.paragraph(&format!("- {line}"), "  "));
        }
    }
}

/// A row for each kind of session, the host's name on the first.
fn host_rows(host: &Host) -> impl Iterator<Item = Vec<Value>> {
    let mut name = safe(&host.host).into_owned();
    if !host.address.is_empty() && !host.host.starts_with('[') {
        name = format!("{name} [{}]", safe(&host.address));
    }
    host.sessions.iter().map(move |session| {
        let told = &session.negotiated;
        let becomes = if session.superseded { "no longer so".into() } else { becomes(&session.outlook) };
        vec![
            std::mem::take(&mut name).into(),
            letter::negotiated(told).into(),
            safe(told.cipher.as_deref().unwrap_or("–")).into_owned().into(),
            letter::certificate(told.verify.as_deref()).into(),
            number(session.messages).into(),
            date(session.last).into(),
            becomes,
        ]
    })
}

/// What becomes of messages, now and then.
fn becomes(outlooks: &[Outlook]) -> Value {
    let worst = outlooks.iter().map(|outlook| outlook.fate).max();
    let tone = match worst {
        Some(Fate::Refused) => Tone::Bad,
        Some(Fate::Deferred | Fate::Observed) => Tone::Warning,
        _ => Tone::Plain,
    };
    let said: Vec<String> = letter::outlooks(outlooks).into_iter().map(|(_, said)| said).collect();
    Value(said.join("; "), tone)
}
