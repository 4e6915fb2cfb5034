//! Metrics as an administrator has them: a real Prometheus scrapes the daemon while real mail comes and goes; every query of the
//! dashboard finds something, every alert rule is sound and can be evaluated, and one fires when it should.
//!
//! Promises: what is asked is read from the files in config/ as they stand.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::rig::daemon::Daemon;
use crate::rig::prometheus::{self, Prometheus, promtool};
use crate::rig::sender::{self, Sender, When};
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::Tls;
use crate::rig::{Result, Rig, tool, wait};

const TAG: &str = "prometheus";
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
const POLICY: &str = r#"
version = 1
[exempt]
networks = []
[[rule]]
name = "partner"
client = ["partner.example"]
soft-fail = { min-bits = 256 }
enforce = { min-bits = 1 }
[[rule]]
name = "everyone"
client = ["*"]
observe = { min-bits = 128 }
[[rule]]
name = "out"
server = ["*"]
observe = { min-bits = 256 }
"#;

pub(crate) fn scraped(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let port = rig.port();
    let settings = format!(
        "http.listen = \"127.0.0.1:{port}\"\noutbound.listen = \"unix:{}/outbound.sock\"\n",
        folder.path().display()
    );
    let settings = toml::from_str(&settings).map_err(|e| format!("settings: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
    write_policy(folder.path(), POLICY)?;
    daemon.start()?;
    let prometheus = Prometheus::start(rig, folder.path(), port)?;
    // What grows must have been seen before.
    wait::until("the first scrape", || is_number(&prometheus, "sum(up)", 1.0))?;

    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), TAG, &options)?;
    let socket = daemon.outbound().first().ok_or("no outbound socket")?.clone();
    let leaving = Sender::lay_out(rig, folder.path(), TAG, &sender::snippet(&socket)?, &[])?;
    wait::until("all that the dashboard asks for", || match mail(rig, &daemon, &sendmail, &leaving) {
        Err(fault) => Some(Err(fault)),
        // Rates need a second scrape.
        Ok(()) => missing(&prometheus).map(|missing| missing.is_empty().then_some(())).transpose(),
    })
    .map_err(|fault| match missing(&prometheus) {
        Ok(missing) => format!("{fault}; nothing is found by {missing:#?}"),
        Err(other) => format!("{fault}; {other}"),
    })??;
    numbers_agree(&daemon, &prometheus)?;
    alert_of_a_broken_policy(folder.path(), &prometheus)?;
    alerts_can_be_evaluated(&prometheus)?;
    names_are_linted(port)?;
    rules_are_tested()
}

/// Some mail of each kind: refused, deferred, observed, taken; in and out; a reload; somebody who is no MTA.
fn mail(rig: &Rig, daemon: &Daemon, sendmail: &Sendmail, leaving: &Sender) -> Result<()> {
    let weak = Tls { version: Some("1.2".to_owned()), cipher: Some("AES128-SHA256".to_owned()), cert: None };
    let strong = Tls { version: Some("1.3".to_owned()), ..Tls::default() };
    for (host, tls, code) in [
        (2, None, 550),
        (2, Some(&weak), 454),
        (2, Some(&strong), 250),
        (4, None, 250),
        (4, Some(&weak), 250),
    ] {
        let mut client = sendmail.connect_from([127, 0, 0, host].into())?;
        client.reply()?;
        client.say("EHLO mx.partner.example")?;
        if let Some(tls) = tls {
            client.say("STARTTLS")?;
            client.handshake(tls, &rig.certs)?;
            client.say("EHLO mx.partner.example")?;
        }
        client.say("MAIL FROM:<anna@partner.example>")?;
        let reply = client.say("RCPT TO:<bob@rig.example>")?;
        if reply.code != code {
            return Err(format!("from 127.0.0.{host} with {tls:?}: {}", reply.text()));
        }
        client.say("QUIT")?;
    }
    leaving.send(When::Now, &["bob@aes128.peer.example", "bob@clear.peer.example"])?;
    let path = daemon.listen().first().and_then(|at| at.strip_prefix("unix:")).ok_or("no unix socket")?;
    UnixStream::connect(path)
        .and_then(|mut stream| stream.write_all(b"GET / HTTP/1.0\r\n\r\n"))
        .map_err(|e| format!("{path}: {e}"))?;
    // Another policy each time, the same in meaning.
    let comment = daemon.log.len();
    write_policy(&daemon.folder, &format!("{POLICY}# {comment}\n"))
}

fn write_policy(folder: &Path, text: &str) -> Result<()> {
    fs::write(folder.join("policy.toml"), text).map_err(|e| format!("policy.toml: {e}"))
}

fn is_number(prometheus: &Prometheus, query: &str, number: f64) -> Option<()> {
    let found = prometheus.number(query).ok().flatten();
    found.is_some_and(|found| (found - number).abs() < 0.5).then_some(())
}

/// Every query of the dashboard, with what Grafana puts in for its variables.
fn dashboard_queries() -> Result<Vec<String>> {
    let path = format!("{CONFIG}/grafana-dashboard.json");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let dashboard: Value = serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))?;
    let mut found = Vec::new();
    let mut left = vec![&dashboard];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(filled_in));
                left.extend(fields.values());
            }
            Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
    if found.len() < 30 { Err(format!("only {} queries in {path}", found.len())) } else { Ok(found) }
}

fn filled_in(query: &str) -> String {
    let values = [
        ("$__rate_interval", "1m"),
        ("$__interval", "5m"),
        ("$__range", "10m"),
        ("$job", ".*"),
        ("$instance", ".*"),
        ("$direction", ".*"),
        ("$rule", ".*"),
    ];
    values.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// The queries of the dashboard that find nothing, or no number.
fn missing(prometheus: &Prometheus) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for query in dashboard_queries()? {
        if query.contains('$') {
            return Err(format!("a variable that is not known here: {query}"));
        }
        let found = prometheus.query(&query)?;
        let numbers = found.iter().filter_map(|series| series.pointer("/value/1").and_then(Value::as_str));
        if !numbers.map(str::parse::<f64>).any(|number| number.is_ok_and(f64::is_finite)) {
            missing.push(query);
        }
    }
    Ok(missing)
}

/// What Prometheus has counted is what was written down.
fn numbers_agree(daemon: &Daemon, prometheus: &Prometheus) -> Result<()> {
    for (query, field, value) in [
        ("sum(encr_milter_decisions_total{verdict=\"fail\"})", "verdict", "fail"),
        ("sum(encr_milter_decisions_total{disposition=\"reject\"})", "disposition", "reject"),
        ("sum(encr_milter_decisions_total{direction=\"outbound\"})", "direction", "outbound"),
        ("sum(encr_milter_decisions_total{rule=\"everyone\"})", "rule", "everyone"),
    ] {
        let count = |records: &[Value]| records.iter().filter(|record| record[field] == value).count();
        wait::until("Prometheus to have counted all records", || {
            let records = daemon.decisions().ok()?;
            let counted = u32::try_from(count(&records)).ok()?;
            (counted > 0).then(|| is_number(prometheus, query, f64::from(counted))).flatten()
        })
        .map_err(|fault| format!("{fault}: {query} {:?}", prometheus.number(query)))?;
    }
    Ok(())
}

/// It is noticed while it is broken, and no longer.
fn alert_of_a_broken_policy(folder: &Path, prometheus: &Prometheus) -> Result<()> {
    let is_told = || {
        let alerts = prometheus.api("alerts").ok()?;
        let alerts = alerts.pointer("/data/alerts").and_then(Value::as_array)?;
        Some(alerts.iter().any(|alert| {
            alert.pointer("/labels/alertname").and_then(Value::as_str) == Some("EncrMilterPolicyRefused")
        }))
    };
    for (policy, told) in [("version = 1\n[[rule]]\n", true), (POLICY, false)] {
        write_policy(folder, policy)?;
        wait::until("the alert to follow the policy", || (is_told() == Some(told)).then_some(()))?;
    }
    Ok(())
}

/// No rule has an error, and every selector in one finds a series: a label that is misspelt would never fire.
fn alerts_can_be_evaluated(prometheus: &Prometheus) -> Result<()> {
    let rules = prometheus.api("rules")?;
    let rules = rules.pointer("/data/groups/0/rules").and_then(Value::as_array).ok_or("no rules")?;
    if rules.len() < 10 {
        return Err(format!("only {} alert rules", rules.len()));
    }
    for rule in rules {
        if rule["health"] != "ok" {
            return Err(format!("a rule that cannot be evaluated: {rule}"));
        }
        let query = rule["query"].as_str().ok_or("a rule without a query")?;
        for selector in selectors(query) {
            if prometheus.query(&selector)?.is_empty() {
                return Err(format!("{}: nothing is selected by {selector}", rule["name"]));
            }
        }
    }
    Ok(())
}

/// The selectors of a query: a name of ours, and what stands in braces behind it.
fn selectors(query: &str) -> Vec<String> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find(part_of_name) {
        let word = &rest.get(at..).unwrap_or_default();
        let end = word.find(|c| !part_of_name(c)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        if name.starts_with("encr_milter_") || name.starts_with("process_") {
            let braces = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            found.push(braces.map_or_else(|| name.to_owned(), |(inside, _)| format!("{name}{{{inside}}}")));
        }
        // What a label is compared with is no name.
        rest = match after.strip_prefix("=\"").or_else(|| after.strip_prefix("!=\"")) {
            Some(value) => value.split_once('"').map_or("", |(_, rest)| rest),
            None => after,
        };
    }
    found
}

fn names_are_linted(port: u16) -> Result<()> {
    let page = prometheus::get(port, "/metrics")?;
    let output = tool::run(&mut promtool(&["check", "metrics"])?, &page)?;
    let said = [output.stdout, output.stderr].concat();
    if said.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

fn rules_are_tested() -> Result<()> {
    let in_config = |mut command: Command| {
        command.current_dir(CONFIG);
        command
    };
    tool::run(&mut in_config(promtool(&["check", "rules", "--lint-fatal", "alerts.yml"])?), "")?;
    tool::run(&mut in_config(promtool(&["test", "rules", "alerts_test.yml"])?), "").map(drop)
}
