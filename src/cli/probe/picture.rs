//! One host on a terminal: what it said, what came of it, what that means.

use super::Host;
use crate::probe::tls::{Certificate, verify};
use crate::probe::{Accepts, Outcome, Starttls, Tried};
use std::io::{self, Write};

/// Draws one host.
pub(super) fn draw(out: &mut impl Write, host: &Host<'_>) -> io::Result<()> {
    let look = host.look;
    let address = look.address.map(|address| format!(" ({address})")).unwrap_or_default();
    let preference = look.preference.map(|number| format!(", MX {number}")).unwrap_or_default();
    writeln!(out, "{}{address}{preference}", look.host)?;
    if let Some(greeting) = &look.greeting {
        row(out, "greeting", greeting)?;
    }
    if !look.extensions.is_empty() {
        row(out, "offers", &look.extensions.join(", "))?;
    }
    if look.greeting.is_some() {
        let reply = look.starttls_reply.as_deref().unwrap_or_default();
        let words = match look.starttls {
            Starttls::NotAsked => String::new(),
            Starttls::NotOffered => "not offered: all mail goes to it in the clear".to_owned(),
            Starttls::Refused => format!("offered, and refused: {reply}"),
            Starttls::Failed => format!("offered, answered with {reply}; there is no session"),
            Starttls::Works => format!("works: {reply}"),
        };
        if !words.is_empty() {
            row(out, "STARTTLS", &words)?;
        }
    }
    if let Some(session) = &look.session {
        let exchange =
            session.key_exchange.as_ref().map(|key| format!(", key exchange {key}")).unwrap_or_default();
        row(
            out,
            "session",
            &format!(
                "{}, {}, {} bits (bits={}/{} in sendmail's log){exchange}",
                session.tls_version,
                session.cipher,
                session.cipher_bits,
                session.alg_bits,
                session.cipher_bits
            ),
        )?;
        match &look.certificate {
            Some(found) => certificate(out, found)?,
            None => row(out, "certificate", "none came (verify=NO): anybody could be at the other end")?,
        }
    }
    if !look.extensions_within_tls.is_empty() && look.extensions_within_tls != look.extensions {
        row(out, "within TLS", &look.extensions_within_tls.join(", "))?;
    }
    if let Some(found) = &look.accepts {
        accepts(out, found)?;
    }
    meaning(out, host)?;
    for note in &look.notes {
        row(out, "note", note)?;
    }
    if let Some(fault) = &look.fault {
        row(out, "problem", &format!("{fault} [{}]", fault.code()))?;
        if let Some(next) = fault.next_step() {
            row(out, "", next)?;
        }
    }
    Ok(())
}

fn row(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {name:<12} {text}")
}

fn certificate(out: &mut impl Write, certificate: &Certificate) -> io::Result<()> {
    row(out, "certificate", &certificate.subject)?;
    row(out, "", &format!("issued by {}", certificate.issuer))?;
    if !certificate.names.is_empty() {
        row(out, "", &format!("for {}", certificate.names.join(", ")))?;
    }
    let day = |time: jiff::Timestamp| time.strftime("%Y-%m-%d").to_string();
    let from = certificate.not_before.map(|time| format!(", valid from {}", day(time))).unwrap_or_default();
    let until = certificate.not_after.map(|time| {
        let left = time.duration_since(jiff::Timestamp::now()).as_hours() / 24;
        format!(" until {} ({left} days left)", day(time))
    });
    row(out, "", &format!("{}{from}{}", certificate.key, until.unwrap_or_default()))?;
    let name = if certificate.name_matches {
        "it is for this name"
    } else {
        "it is not for this name, which {verify} does not look at"
    };
    let why = match certificate.objections.as_slice() {
        [] => String::new(),
        objections => format!(" ({})", objections.join(", ")),
    };
    row(out, "", &format!("verify={}{why}; {name}", verify(Some(certificate))))
}

fn accepts(out: &mut impl Write, accepts: &Accepts) -> io::Result<()> {
    let mut name = "accepts";
    for Tried { offered, outcome } in accepts.versions.iter().chain(&accepts.strengths) {
        let words = match outcome {
            Outcome::Accepted { tls_version, cipher, cipher_bits } => {
                format!("yes   {tls_version}, {cipher}, {cipher_bits} bits")
            }
            Outcome::Declined { why } => format!("no    {why}"),
            Outcome::NotTestable => "?     this machine's OpenSSL has none of these".to_owned(),
        };
        row(out, std::mem::take(&mut name), &format!("{offered:<29} {words}"))?;
    }
    match &accepts.ended {
        Some(why) => row(out, name, &format!("the rest was not tried: {why}")),
        None => Ok(()),
    }
}

fn meaning(out: &mut impl Write, host: &Host<'_>) -> io::Result<()> {
    let mut name = "thresholds";
    for threshold in &host.thresholds {
        let met = if threshold.met { "met" } else { "not met" };
        row(out, std::mem::take(&mut name), &format!("{:<4} {met:<8} {}", threshold.bits, threshold.means))?;
    }
    if let Some(most) = &host.most {
        row(out, "could ask", &most.sendmail.replace('\t', "   "))?;
        row(out, "", &most.policy)?;
    }
    if let Some(required) = &host.required {
        let met = if required.met { "met" } else { "not met" };
        row(out, "--require", &format!("{} {met}", required.bits))?;
    }
    if let Some(decided) = &host.decision {
        let rule = decided.rule.as_ref().map(|rule| format!(", by rule {rule}")).unwrap_or_default();
        let mode = decided.mode.map(|mode| format!(" ({mode})")).unwrap_or_default();
        let (verdict, disposition) = (decided.verdict.as_str(), decided.disposition.as_str());
        row(out, "policy", &format!("{verdict}{mode}, {disposition}{rule}"))?;
        for words in [&decided.reason, &decided.reply].into_iter().flatten() {
            row(out, "", words)?;
        }
    }
    Ok(())
}
