//! A dossier as a page.

use super::page;
use super::table::{Set, Table};
use crate::policy::facts::Direction;
use crate::report::dossier::{Dossier, Elsewhere, Fate, Host, HostSession, Outlook};
use crate::report::letter::{self, Letter};
use crate::report::words::{date, domain_name, number, safe};
use maud::{Markup, html};

/// The whole dossier; of each list so many lines.
pub fn dossier(dossier: &Dossier, top: usize) -> String {
    let letter = Letter::of(dossier);
    let body = html! {
        header {
            h1 { (letter.title) }
            p { (letter.intro) }
        }
        main {
            (list("In short", &letter.in_short))
            (list("What we ask", &letter.asked))
            (list("What to do", &letter.to_do))
            (hosts("Your hosts that send to us", Direction::Inbound, dossier, top))
            (hosts("Your hosts that we send to", Direction::Outbound, dossier, top))
            (elsewhere(&dossier.elsewhere, top))
            p { (letter.help) }
        }
        footer { p class="origin" { (letter.made) } }
    };
    page(&letter.title, &body)
}

fn list(title: &str, lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            section {
                h2 { (title) }
                ul { @for line in lines { li { (line) } } }
            }
        }
    }
}

const HOSTS: [(&str, Set); 8] = [
    ("host", Set::Text),
    ("negotiated", Set::Text),
    ("cipher", Set::Name),
    ("certificate", Set::Date),
    ("messages", Set::Number),
    ("first seen", Set::Date),
    ("last seen", Set::Date),
    ("what becomes of it", Set::Long),
];

fn hosts(title: &str, direction: Direction, dossier: &Dossier, top: usize) -> Markup {
    let of_direction = |host: &&Host| host.direction == direction;
    let sessions: Vec<(&Host, &HostSession)> = dossier
        .hosts
        .iter()
        .filter(of_direction)
        .flat_map(|host| host.sessions.iter().map(move |session| (host, session)))
        .collect();
    let table = Table::new("What each host negotiated, its latest first", &HOSTS).cards();
    let table = table.of(&sessions, top, |(host, session)| {
        let told = &session.negotiated;
        vec![
            html! {
                (breakable(&safe(&host.host)))
                @if !host.address.is_empty() && !host.host.starts_with('[') { br; "[" (safe(&host.address)) "]" }
            },
            html! { (letter::negotiated(told)) },
            html! { (safe(told.cipher.as_deref().unwrap_or("–"))) },
            html! { (letter::certificate(told.verify.as_deref())) },
            html! { (number(session.messages)) },
            html! { (date(session.first)) },
            html! { (date(session.last)) },
            html! {
                @if session.superseded { span class="gone" { "no longer so" } } @else { (becomes(&session.outlook)) }
            },
        ]
    });
    html! {
        @if !sessions.is_empty() { section { h2 { (title) } (table.draw()) } }
    }
}

fn elsewhere(seen: &[Elsewhere], top: usize) -> Markup {
    const COLUMNS: [(&str, Set); 6] = [
        ("hosts of", Set::Text),
        ("network", Set::Date),
        ("negotiated", Set::Text),
        ("messages", Set::Number),
        ("last seen", Set::Date),
        ("what becomes of it", Set::Long),
    ];
    let caption = "Mail from or to your addresses that came through, or went to, hosts of other names";
    let table = Table::new(caption, &COLUMNS).cards().of(seen, top, |seen| {
        vec![
            html! { (domain_name(&seen.peer_domain)) },
            html! { (safe(&seen.network)) },
            html! { (letter::negotiated(&seen.negotiated)) },
            html! { (number(seen.messages)) },
            html! { (date(seen.last)) },
            becomes(&seen.outlook),
        ]
    });
    html! {
        @if !seen.is_empty() { section { h2 { "Mail in your name, by hosts of other names" } (table.draw()) } }
    }
}

/// A name that breaks behind its dots, where it has to.
fn breakable(name: &str) -> Markup {
    html! { @for label in name.split_inclusive('.') { (label) wbr; } }
}

/// What becomes of messages, now and then.
fn becomes(outlooks: &[Outlook]) -> Markup {
    let class = |fate: Fate| match fate {
        Fate::Refused => Some("refused-text"),
        Fate::Deferred => Some("deferred-text"),
        _ => None,
    };
    html! {
        div {
            @for (fate, said) in letter::outlooks(outlooks) { div class=[class(fate)] { (said) } }
        }
    }
}
