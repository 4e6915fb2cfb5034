//! A case that was written for sendmail, as it is with Postfix: what differs, and nothing else.
//!
//! Always: Postfix puts no address before the text of a 550; it does not tell what became of a certificate that it has
//! not verified, nor distinguished names; a queue id comes late. What differs in one case alone, the case says.

use toml::{Table, Value};

use super::schema::{Case, Expect, OnPostfix};
use crate::rig::Result;

/// The case as it is with Postfix. It must say that it is for it.
pub(super) fn translated(mut case: Case) -> Result<Case> {
    let Some(OnPostfix { replies, records, .. }) = case.postfix.clone() else {
        return Err("this case is not for Postfix".to_owned());
    };
    for step in &mut case.steps {
        step.expects = step.expects.take().map(without_addresses);
    }
    for (number, reply) in replies {
        let step = at(&mut case.steps, &number)?;
        step.expects = Some(Expect::Starts(reply));
    }
    case.records.iter_mut().for_each(as_told);
    for (number, fields) in records {
        let record = at(&mut case.records, &number)?;
        for (name, value) in fields {
            record.insert(name, value);
        }
    }
    Ok(case)
}

/// By number, from one on.
fn at<'a, T>(all: &'a mut [T], number: &str) -> Result<&'a mut T> {
    let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    place.and_then(|place| all.get_mut(place)).ok_or_else(|| format!("there is no {number} here"))
}

fn without_addresses(expects: Expect) -> Expect {
    match expects {
        Expect::Reply(text) => Expect::Reply(without_address(&text)),
        Expect::Starts(text) => Expect::Starts(without_address(&text)),
        Expect::Replies(texts) => Expect::Replies(texts.iter().map(|text| without_address(text)).collect()),
        log @ Expect::Log(_) => log,
    }
}

/// `550 5.7.10 <bob@rig.example>... text` without the address.
fn without_address(reply: &str) -> String {
    match reply.split_once(" <") {
        Some((code, rest)) => match rest.split_once(">... ") {
            Some((_, text)) => format!("{code} {text}"),
            None => reply.to_owned(),
        },
        None => reply.to_owned(),
    }
}

/// What Postfix tells of a certificate.
fn as_told(record: &mut Table) {
    let verify = record.get("verify").and_then(Value::as_str).map(str::to_owned);
    let named = record.contains_key("cert_subject") || record.contains_key("cert_issuer");
    if verify.as_deref().is_some_and(|verify| verify != "OK") {
        record.insert("verify".to_owned(), "UNVERIFIED".into());
        record.remove("cn_subject");
    }
    if named {
        record.remove("cert_subject");
        record.remove("cert_issuer");
    }
    if verify.is_some() {
        let absent = record.entry("absent").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(absent) = absent {
            absent.extend(["cert_subject", "cert_issuer"].map(Value::from));
        }
    }
}
