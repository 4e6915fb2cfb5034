//! What is sound to sendmail, and perhaps not what its writer expects: warnings about one rule.
//!
//! Promises: each says what the rule amounts to. Nothing here is a fault (see [`super::faults`]).

use super::super::access_map::{Matches, Rule, tag_of};
use super::super::rhs::{Bits, Demand, Value};
use super::faults::{At, MOST_BITS, shown};
use crate::diagnostics::{Diagnostic, FileId};
use crate::policy::requirement::amounts_to;
use crate::policy::rule::Side;

/// Single labels that are written for what they are: the old top-level domains, and those of local networks.
/// A country's has two letters.
const TOP_LEVEL: [&str; 20] = [
    "arpa",
    "biz",
    "com",
    "corp",
    "edu",
    "gov",
    "home",
    "info",
    "int",
    "internal",
    "intranet",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "mil",
    "name",
    "net",
    "org",
    "private",
];

pub(super) fn of_rule(file: FileId, rule: &Rule<'_>, value: &Value) -> Vec<Diagnostic> {
    let at = At { file, rule };
    let mut found = Vec::new();
    found.extend(key(&at));
    if let Value::Demand(demand) = value {
        if let Some(bits) = &demand.bits {
            found.extend(no_such_bits(&at, demand, bits));
        }
        if let Some(first) = demand.extensions.first().filter(|_| !demand.verify) {
            found.push(
                Diagnostic::warning("unverified-name", "a name of a certificate that nobody verified")
                    .at(at.value(first.span.clone()))
                    .hint("anybody can sign a certificate with any name: write `VERIFY` or `VERIFY:bits` in place of `ENCR:bits`"),
            );
        }
        let demands = demand.verify
            || !demand.extensions.is_empty()
            || demand.bits.as_ref().is_some_and(|bits| bits.number > 0);
        if rule.side == Side::Client && rule.matches == Matches::Default && demands {
            found.push(
                Diagnostic::warning("enforce-all", "TLS is demanded of every client that has no other rule")
                    .at(at.key())
                    .hint("a public mail server must not require STARTTLS of all (RFC 3207 section 4); for a private one this is fine"),
            );
        }
    }
    found
}

fn key(at: &At<'_>) -> Option<Diagnostic> {
    let written = shown(at.rule.key);
    match (&at.rule.matches, at.rule.side) {
        (Matches::Literal(_), Side::Client) => Some(
            Diagnostic::warning(
                "bracketed-address",
                format!("`{written}` matches only clients without a confirmed name"),
            )
            .at(at.key())
            .hint("without brackets it matches whoever has the address, unless a name has a rule"),
        ),
        (Matches::Literal(_), Side::Server) => Some(
            Diagnostic::warning(
                "bracketed-address",
                format!("`{written}` matches only where mail is sent to `[address]` itself"),
            )
            .at(at.key())
            .hint("without brackets it matches whichever server has the address, unless a name has a rule"),
        ),
        (Matches::Name(name), side)
            if !name.contains(['.', '@']) && name.len() > 2 && !TOP_LEVEL.contains(&name.as_str()) =>
        {
            let user = if side.is_host() { String::new() } else { format!(", or `{written}@` for a user") };
            Some(
                Diagnostic::warning(
                    "single-label",
                    format!("`{written}` is taken as a top-level domain: all of `….{written}`"),
                )
                .at(at.key())
                .hint(format!(
                    "write the whole name, as in `{}:{written}.example`{user}",
                    tag_of(side).unwrap_or_default()
                )),
            )
        }
        _ => None,
    }
}

fn no_such_bits(at: &At<'_>, demand: &Demand, bits: &Bits) -> Option<Diagnostic> {
    // Bits that are spelt oddly are a fault of their own.
    let plain = bits.text.bytes().all(|b| b.is_ascii_digit());
    let octal = bits.text.starts_with('0') && bits.number != 0;
    if !plain || octal {
        return None;
    }
    let place = at.value(bits.span.clone());
    if bits.number == 0 {
        let alone = !demand.verify && demand.extensions.is_empty();
        return alone.then(|| {
            Diagnostic::warning("no-such-bits", "0 bits demand nothing: mail in the clear passes too")
                .at(place)
                .hint("`ENCR:1` demands any encryption at all, `OK` none")
        });
    }
    let number = u16::try_from(bits.number).unwrap_or(u16::MAX);
    amounts_to(number).map(|amounts| {
        // Bits that nobody has refuse everyone; others only hold for more than is written.
        let told = if number > MOST_BITS { Diagnostic::error } else { Diagnostic::warning };
        told("no-such-bits", format!("no cipher has {} bits", shown(&bits.text)))
            .at(place)
            .label(amounts)
            .hint("today's ciphers have 112 (3DES), 128 (AES-128) or 256 (AES-256, ChaCha20) bits")
    })
}
