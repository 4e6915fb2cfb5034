//! Postfix in sendmail's place: is the milter among its own, and what does it do while nobody answers?

use super::Known;
use super::attached::same;
use super::finding::{Area, Findings};
use super::strength;
use crate::listener::Address;
use crate::probe::target::Target;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const AREA: Area = Area::Mta;
const MAIN_CF: &str = "/etc/postfix/main.cf";
const MASTER_CF: &str = "/etc/postfix/master.cf";
const RELOAD: &str = "postfix reload";

pub(super) fn examine(known: &Known<'_>, findings: &mut Findings) {
    // sendmail.cf was looked for before, and that it is not there has been told.
    if findings.has_problem("sendmail-cf") {
        return;
    }
    let text = match known.machine.text(Path::new(MAIN_CF)) {
        Ok(text) => text,
        Err(error) => {
            return findings.problem(
                AREA,
                "attached",
                format!("{MAIN_CF} cannot be read: {error}; whether mail is judged is not known"),
                &["run doctor as root"],
            );
        }
    };
    let main = Parameters::parse(&text);
    let Some(daemon) = &known.daemon else { return };
    let queue = main.get("queue_directory").unwrap_or_else(|| "/var/spool/postfix".to_owned());
    let is_ours = |list: &str| {
        let own = &daemon.milter.listen;
        milters(list).iter().any(|asked| {
            own.iter().any(|own| same(&known.machine, own, asked) || is_below(own, asked, &queue))
        })
    };
    let listen: Vec<String> = daemon.milter.listen.iter().map(in_postfix).collect();
    let line = format!("smtpd_milters = {}   (in {MAIN_CF})", listen.join(", "));
    let general = main.get("smtpd_milters").unwrap_or_default();
    if is_ours(&general) {
        findings.ok(AREA, "attached", format!("Postfix: smtpd_milters = {general}"));
    } else {
        let said = if general.is_empty() {
            "has no smtpd_milters".to_owned()
        } else {
            format!("has smtpd_milters = {general}")
        };
        findings.problem(
            AREA,
            "attached",
            format!("Postfix {said}: no mail is judged by {}", listen.join(", ")),
            &[&line, RELOAD],
        );
    }
    let master = known.machine.text(Path::new(MASTER_CF)).unwrap_or_default();
    for (service, list) in overrides(&master) {
        if !is_ours(&list) {
            let found = format!(
                "Postfix: service {service} in {MASTER_CF} has a list of its own, smtpd_milters={list}: its mail is not judged"
            );
            findings.warning(
                AREA,
                "attached",
                found,
                &["name the milter there as well, or take the -o line out", RELOAD],
            );
        }
    }
    match main.get("milter_default_action").as_deref().unwrap_or("tempfail") {
        "accept" => findings.warning(
            AREA,
            "when-down",
            "milter_default_action = accept: while the daemon does not answer mail passes unjudged",
            &["milter_default_action = tempfail, once rules are enforced", RELOAD],
        ),
        "reject" => findings.warning(
            AREA,
            "when-down",
            "milter_default_action = reject: while the daemon does not answer mail is refused for good",
            &["milter_default_action = tempfail", RELOAD],
        ),
        other => findings.ok(
            AREA,
            "when-down",
            format!("milter_default_action = {other}: while the daemon does not answer mail waits"),
        ),
    }
    if known.settings.mta.is_some() || known.machine.is_live() {
        let target = known.settings.mta.clone().unwrap_or(Target { host: "127.0.0.1".to_owned(), port: 25 });
        strength::examine_one(known, &target, findings);
    }
}

/// A milter's address as Postfix writes it: `inet:host:port`, `unix:path`.
fn in_postfix(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp { port, host, .. } => format!("inet:{host}:{port}"),
    }
}

fn milters(list: &str) -> Vec<Address> {
    // `{ inet:host:port, default_action=… }` holds a milter with settings of its own.
    let words = list.split([',', ' ', '\t', '\n', '{', '}']).filter(|word| !word.is_empty());
    words
        .filter_map(|word| match word.strip_prefix("inet:") {
            Some(rest) => {
                let (host, port) = rest.rsplit_once(':')?;
                let host = host.trim_matches(['[', ']']);
                Some(Address::Tcp { v6: host.contains(':'), port: port.parse().ok()?, host: host.to_owned() })
            }
            None => word.strip_prefix("unix:").map(|path| Address::Unix(PathBuf::from(path))),
        })
        .collect()
}

/// A relative path, or one of a service in a chroot, is below Postfix's queue.
fn is_below(own: &Address, asked: &Address, queue: &str) -> bool {
    let (Address::Unix(own), Address::Unix(asked)) = (own, asked) else { return false };
    let inside = asked.strip_prefix("/").unwrap_or(asked);
    *own == Path::new(queue).join(inside)
}

/// `-o smtpd_milters=…` of services in master.cf.
fn overrides(master: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut service = String::new();
    for line in master.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if !line.starts_with([' ', '\t']) {
            line.split_ascii_whitespace().next().unwrap_or_default().clone_into(&mut service);
        }
        if let Some((_, list)) = line.split_once("smtpd_milters=") {
            found.push((service.clone(), list.trim().to_owned()));
        }
    }
    found
}

/// main.cf: `name = value`, going on where a line begins with a blank; the last of a name counts.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn parse(text: &str) -> Self {
        let mut found: HashMap<String, String> = HashMap::new();
        let mut last = String::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        {
            if line.starts_with([' ', '\t']) {
                let value = found.entry(last.clone()).or_default();
                value.push(' ');
                value.push_str(line.trim());
            } else if let Some((name, value)) = line.split_once('=') {
                name.trim().clone_into(&mut last);
                found.insert(last.clone(), value.trim().to_owned());
            }
        }
        Self(found)
    }

    /// A value, with the parameters that it names put in their places.
    fn get(&self, name: &str) -> Option<String> {
        let mut value = self.0.get(name)?.clone();
        for _ in 0..10 {
            let Some(at) = value.find('$') else { break };
            let rest = value.get(at + 1..).unwrap_or_default();
            let rest = rest.trim_start_matches(['{', '(']);
            let named: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let with = self.0.get(&named).cloned().unwrap_or_default();
            let written = [format!("${{{named}}}"), format!("$({named})"), format!("${named}")];
            let Some(spelling) = written.iter().find(|spelling| value.contains(spelling.as_str())) else {
                break;
            };
            value = value.replacen(spelling.as_str(), &with, 1);
        }
        Some(value.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_postfix_reads_them() {
        let main = Parameters::parse(
            "# x\nours = unix:run/milter.sock\nsmtpd_milters = inet:127.0.0.1:1\n  # y\n  ${ours},\n\tinet:[::1]:2\na = $a\n",
        );
        let list = main.get("smtpd_milters").unwrap();
        assert_eq!(list, "inet:127.0.0.1:1 unix:run/milter.sock, inet:[::1]:2");
        let found = milters(&list);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Address::Tcp { v6: false, port: 1, host: "127.0.0.1".to_owned() });
        assert!(is_below(
            &Address::Unix("/var/spool/postfix/run/milter.sock".into()),
            &found[1],
            "/var/spool/postfix"
        ));
        assert!(main.get("a").is_some());
        let master = "smtp inet n - y - - smtpd\n  -o smtpd_milters=\n#x -o smtpd_milters=a\nsubmission inet n - y - - smtpd\n";
        assert_eq!(overrides(master), [("smtp".to_owned(), String::new())]);
    }
}
