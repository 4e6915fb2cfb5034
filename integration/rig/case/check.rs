//! Holds what came out against what a case expects, and every record against what holds for all of them.

use serde_json::{Map, Value};
use toml::Table;

/// One answer to RCPT, as a client saw it.
pub(crate) struct Answer {
    pub(crate) recipient: String,
    pub(crate) reply: String,
}

/// Everything that is wrong with the records, one line for each fault. Where there was no client, there are no answers.
pub(crate) fn records(expected: &[Table], records: &[Value], answers: Option<&[Answer]>) -> Vec<String> {
    let mut faults = Vec::new();
    if expected.len() != records.len() {
        faults.push(format!("expected {} records, there are {}", expected.len(), records.len()));
    }
    for (number, record) in (1..).zip(records) {
        let found = match (record.as_object(), expected.get(number - 1)) {
            (None, _) => vec!["is no object".to_owned()],
            (Some(record), expected) => {
                let mut found = expected.map(|expected| differences(expected, record)).unwrap_or_default();
                found.extend(unlawful(record, answers));
                found
            }
        };
        if !found.is_empty() {
            faults.push(format!("record {number}: {record}"));
            faults.extend(found.into_iter().map(|fault| format!("    {fault}")));
        }
    }
    faults
}

/// Where a record is not as expected. What is not named may be anything.
fn differences(expected: &Table, record: &Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    for (field, wanted) in expected {
        if field == "absent" {
            for name in wanted.as_array().into_iter().flatten().filter_map(toml::Value::as_str) {
                if let Some(value) = record.get(name) {
                    faults.push(format!("{name}: expected absent, is {value}"));
                }
            }
            continue;
        }
        match record.get(field) {
            None => faults.push(format!("{field}: expected {wanted}, is absent")),
            Some(value) if !matches(wanted, value) => {
                faults.push(format!("{field}: expected {wanted}"));
                faults.push(format!("{:width$}  is       {value}", "", width = field.len()));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Equal, but that a table need not name all fields.
fn matches(wanted: &toml::Value, value: &Value) -> bool {
    match (wanted, value) {
        (toml::Value::Table(wanted), Value::Object(value)) => differences(wanted, value).is_empty(),
        (toml::Value::Array(wanted), Value::Array(value)) => {
            wanted.len() == value.len()
                && wanted.iter().zip(value).all(|(wanted, value)| matches(wanted, value))
        }
        (toml::Value::String(wanted), Value::String(value)) => wanted == value,
        (toml::Value::Integer(wanted), value) => value.as_i64() == Some(*wanted),
        (toml::Value::Boolean(wanted), value) => value.as_bool() == Some(*wanted),
        _ => false,
    }
}

/// What holds for every record, whatever the case.
fn unlawful(record: &Map<String, Value>, answers: Option<&[Answer]>) -> Vec<String> {
    let mut faults = Vec::new();
    let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut law = |holds: bool, says: &str| {
        if !holds {
            faults.push(format!("law: {says}"));
        }
    };
    for field in record.keys() {
        law(FIELDS.contains(&field.as_str()), &format!("no record has a field {field}"));
    }
    law(record.values().all(|value| !value.is_null()), "what is not known is absent, not null");
    law(text("ts").parse::<jiff::Timestamp>().is_ok(), "ts is a time in RFC 3339");
    law(
        text("policy").len() == 12 && text("policy").bytes().all(|byte| byte.is_ascii_hexdigit()),
        "policy is a fingerprint of 12 hex digits",
    );
    law(VERDICTS.contains(&text("verdict")), "verdict is one of the five");
    law(text("verdict") == "fail" || text("disposition") == "accept", "only what fails is refused");
    law(
        (text("verdict") == "fail") == record.contains_key("failures"),
        "failures are told of what fails, and only of it",
    );
    match text("disposition") {
        "accept" => law(!record.contains_key("reply"), "what is accepted has no reply"),
        "tempfail" => {
            law(text("mode") == "soft-fail", "only soft-fail defers");
            law(text("reply").starts_with("454 4.7.0 "), "what is deferred gets 454 4.7.0");
        }
        "reject" => {
            law(text("mode") == "enforce", "only enforce rejects");
            let tried = record.contains_key("tls_version") || NO_HANDSHAKE.contains(&text("verify"));
            let code = if tried { "554 5.7.0 " } else { "550 5.7.10 " };
            law(text("reply").starts_with(code), &format!("a rejection of this session gets {code}"));
        }
        _ => law(false, "disposition is one of the three"),
    }
    if let (Some(answers), true, true) =
        (answers, record.contains_key("reply"), record.contains_key("recipient"))
    {
        let bare = |address: &str| address.trim_matches(['<', '>']).to_owned();
        let given = answers.iter().any(|answer| {
            bare(&answer.recipient) == bare(text("recipient")) && without_address(answer) == text("reply")
        });
        law(given, "the reply in the record is the one that the client got");
    }
    faults
}

/// What sm-mta was told to say: it puts the address before the text of a 550.
fn without_address(answer: &Answer) -> String {
    answer.reply.replacen(&format!(" {}... ", answer.recipient), " ", 1)
}

/// Where STARTTLS was tried, and came to nothing.
const NO_HANDSHAKE: [&str; 4] = ["SOFTWARE", "PROTOCOL", "CONFIG", "DANE_FAIL"];

const VERDICTS: [&str; 5] = ["pass", "fail", "exempt", "no-rule", "unknown"];

const FIELDS: [&str; 30] = [
    "ts",
    "host",
    "queue_id",
    "direction",
    "client_name",
    "client_addr",
    "client_resolve",
    "server_name",
    "server_addr",
    "sender",
    "recipient",
    "auth",
    "tls_version",
    "cipher",
    "cipher_bits",
    "auth_ssf",
    "verify",
    "cert_subject",
    "cert_issuer",
    "cn_subject",
    "verdict",
    "mode",
    "disposition",
    "rule",
    "side",
    "key",
    "reason",
    "reply",
    "failures",
    "policy",
];
