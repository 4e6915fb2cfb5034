//! Postfix's main.cf and master.cf, as far as a milter and its administrator care.
//!
//! Promises: what `postconf -n` would show of these parameters, references to others put in their places. Must not: read
//! files.

use crate::listener::Address;
use std::collections::HashMap;
use std::path::PathBuf;

/// What Postfix 3.7 takes where main.cf says nothing, of the parameters that are asked about.
const DEFAULTS: &[(&str, &str)] = &[
    ("mail_name", "Postfix"),
    ("mail_version", "3"),
    ("milter_default_action", "tempfail"),
    ("milter_macro_v", "$mail_name $mail_version"),
    ("queue_directory", "/var/spool/postfix"),
];
/// As many references are followed.
const DEPTH: usize = 10;

/// main.cf: `name = value`, going on where a line begins with a blank; the last of a name counts.
#[derive(Debug, Default)]
pub(super) struct Parameters(HashMap<String, String>);

impl Parameters {
    pub(super) fn parse(text: &str) -> Self {
        let mut found: HashMap<String, String> = HashMap::new();
        let mut last = String::new();
        for line in lines(text) {
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

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written in main.cf.
    pub(super) fn own(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn written(&self, name: &str) -> Option<&str> {
        let default = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        self.own(name).or(default)
    }

    /// A value, with the parameters that it names put in their places; empty where there is none.
    pub(super) fn get(&self, name: &str) -> String {
        let mut value = self.written(name).unwrap_or_default().to_owned();
        for _ in 0..DEPTH {
            let Some(at) = value.find('$') else { break };
            let rest = value.get(at + 1..).unwrap_or_default();
            let rest = rest.trim_start_matches(['{', '(']);
            let named: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let with = self.written(&named).unwrap_or_default().to_owned();
            let spellings = [format!("${{{named}}}"), format!("$({named})"), format!("${named}")];
            let Some(spelling) = spellings.iter().find(|spelling| value.contains(spelling.as_str())) else {
                break;
            };
            value = value.replacen(spelling.as_str(), &with, 1);
        }
        value.trim().to_owned()
    }
}

/// Neither empty nor a comment.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
}

/// One of a list of milters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Milter {
    /// Where it listens; nothing where that is not understood.
    pub(super) address: Option<Address>,
    /// `default_action=`, where it has one of its own.
    pub(super) default_action: Option<String>,
}

/// A list of milters: `inet:host:port`, `unix:path`, and in braces with settings of their own.
pub(super) fn milters(list: &str) -> Vec<Milter> {
    let mut found = Vec::new();
    for (place, part) in list.split('{').enumerate() {
        // What is before the first brace, and after each closing one, stands alone.
        let (within, alone) = if place == 0 {
            (None, part)
        } else {
            part.split_once('}').map_or((Some(part), ""), |(within, after)| (Some(within), after))
        };
        if let Some(within) = within {
            let mut words = words(within);
            let address = words.next().and_then(address);
            let default_action =
                words.find_map(|word| word.strip_prefix("default_action=").map(str::to_owned));
            found.push(Milter { address, default_action });
        }
        found.extend(words(alone).map(|word| Milter { address: address(word), default_action: None }));
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty())
}

fn address(word: &str) -> Option<Address> {
    let Some(rest) = word.strip_prefix("inet:") else {
        return word.strip_prefix("unix:").map(|path| Address::Unix(PathBuf::from(path)));
    };
    let (host, port) = rest.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    Some(Address::Tcp { v6: host.contains(':'), port: port.parse().ok()?, host: host.to_owned() })
}

/// The macros that `milter_macro_defaults` gives a value: `name=value`, `{name}=value`, `{ name = value }`.
pub(super) fn defaulted(text: &str) -> Vec<String> {
    let plain = text.replace(['{', '}'], " ");
    let mut names = Vec::new();
    let mut rest = plain.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        names.extend(before.split([',', ' ', '\t']).rfind(|word| !word.is_empty()).map(str::to_owned));
        rest = after;
    }
    names
}

/// A parameter that services in master.cf have of their own, by `-o name=value` or `-o { name = value }`.
pub(super) fn overrides(master: &str, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut service = String::new();
    for line in lines(master) {
        if !line.starts_with([' ', '\t']) {
            line.split_ascii_whitespace().next().unwrap_or_default().clone_into(&mut service);
        }
        for (at, _) in line.match_indices(name) {
            let is_whole = line.get(..at).is_some_and(|before| before.ends_with([' ', '\t', '{', 'o']));
            let value = line.get(at + name.len()..).and_then(|rest| rest.trim_start().strip_prefix('='));
            if let (true, Some(value)) = (is_whole, value) {
                let value = value.split(" -o").next().unwrap_or_default();
                found.push((service.clone(), value.trim_end_matches(['}', ' ', '\t']).trim().to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_postfix_reads_them() {
        let main = Parameters::parse(
            "# x\nours = unix:run/milter.sock\nsmtpd_milters = inet:127.0.0.1:1\n  # y\n  ${ours},\n\tinet:[::1]:2\na = $a\n",
        );
        let list = main.get("smtpd_milters");
        assert_eq!(list, "inet:127.0.0.1:1 unix:run/milter.sock, inet:[::1]:2");
        let found: Vec<_> = milters(&list).into_iter().map(|milter| milter.address.unwrap()).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Address::Tcp { v6: false, port: 1, host: "127.0.0.1".to_owned() });
        assert_eq!(found[2], Address::Tcp { v6: true, port: 2, host: "::1".to_owned() });
        assert_eq!(main.get("a"), "$a");
        assert_eq!(
            (main.get("milter_default_action").as_str(), main.own("milter_default_action")),
            ("tempfail", None)
        );
        assert_eq!(main.get("milter_macro_v"), "Postfix 3");
        assert_eq!(Parameters::parse("mail_name=MyMTA").get("milter_macro_v"), "MyMTA 3");
    }

    #[test]
    fn milters_have_settings_of_their_own() {
        let list =
            "inet:a:1, { unix:x/m.sock, default_action=accept, connect_timeout=10s },{inet:b:2} unix:/y";
        let found = milters(list);
        let actions: Vec<_> = found.iter().map(|milter| milter.default_action.as_deref()).collect();
        assert_eq!(actions, [None, Some("accept"), None, None]);
        assert_eq!(found[1].address, Some(Address::Unix("x/m.sock".into())));
        assert_eq!(milters("{ unix:a, default_action=tempfail").len(), 1);
        assert_eq!(milters(""), []);
        assert_eq!(milters("nonsense")[0].address, None);
    }

    #[test]
    fn services_have_lists_of_their_own() {
        let master = "smtp inet n - y - - smtpd\n  -o smtpd_milters=\n#x -o smtpd_milters=a\n\
                      submission inet n - y - - smtpd\n  -o { smtpd_milters = unix:a, unix:b }\n\
                      one inet n - y - - smtpd -o smtpd_milters=c -o other=d\n  -o non_smtpd_milters=e\n";
        let of = |service: &str, list: &str| (service.to_owned(), list.to_owned());
        let found = overrides(master, "smtpd_milters");
        assert_eq!(found, [of("smtp", ""), of("submission", "unix:a, unix:b"), of("one", "c")]);
    }

    #[test]
    fn macros_with_a_value_for_all_are_found() {
        let names = defaulted("auth_type=TLS, {cipher_bits}=256, { tls_version = TLSv1.3 } i=1 2");
        assert_eq!(names, ["auth_type", "cipher_bits", "tls_version", "i"]);
        assert_eq!(defaulted(""), [] as [&str; 0]);
    }
}
