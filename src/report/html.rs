//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! Promises: what clients sent is escaped by the type system ([`maud`]), and what would turn the direction of writing is
//! shown as what it is; a policy in the page forbids it to load or run anything; it reads on a desktop, on a phone (it
//! never scrolls sideways; tables do, in their own box), on paper, in light and dark, and by ear.

mod chart;
mod dossier;
mod sections;
mod table;

pub use dossier::dossier;

use super::words::minute;
use super::{Origin, Report};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("html/style.css");

/// Nothing may be loaded, and nothing run.
const CONTENT_POLICY: &str = include_str!("html/content-policy.txt");

/// The whole report; of each list so many lines.
pub fn report(report: &Report, top: usize) -> String {
    page("What the evidence says", &sections::report(report, top))
}

fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

/// Where it all comes from.
fn from_where(origin: &Origin, days: Option<(&str, &str)>) -> Markup {
    html! {
        p class="origin" {
            @if let Some((first, last)) = days { "Period: " (first) " to " (last) ". " }
            @if let Some(since) = origin.since { "Asked for from " (since) ". " }
            @if let Some(until) = origin.until { "Asked for until " (until) ". " }
            "Source: " (super::words::safe(&origin.source)) ". "
            @match &origin.policy {
                Some(fingerprint) => { "Policy " code { (fingerprint) } ". " }
                None => { "No policy was given. " }
            }
            "Made by encr-milter " (origin.version) ", " (minute(origin.made)) "."
        }
    }
}
