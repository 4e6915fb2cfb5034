//! sendmail.cf: what the running sendmail was told, as far as a milter and its administrator care.
//!
//! Options (`O`), mail filters (`X`), maps (`K`), and which mailers (`M`) and rulesets there are (`S`, `R`). Promises: read as sendmail
//! reads it: continuation lines, the last of an option that stands twice, a filter's equates by their first letter.
//! Whatever is not known is left alone. Must not: read files.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// The protocol's own time-outs, of a filter that says none.
const TIMEOUTS: [(char, Duration); 4] = [
    ('C', Duration::from_mins(5)),
    ('S', Duration::from_secs(10)),
    ('R', Duration::from_secs(10)),
    ('E', Duration::from_mins(5)),
];

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Cf {
    /// By their names in lower case; each with all of its values, in order.
    options: HashMap<String, Vec<String>>,
    /// `X` lines.
    pub filters: Vec<Filter>,
    /// `K` lines.
    pub maps: Vec<Map>,
    /// `S` lines, each with its `R` lines.
    pub rulesets: Vec<Ruleset>,
    /// The names of `M` lines.
    pub mailers: Vec<String>,
}

/// One mail filter: an `X` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// `S=`: where it listens.
    pub socket: Option<String>,
    /// `F=`: what is done while it does not answer.
    pub flags: String,
    /// `T=`, as it is written.
    pub timeouts: Option<String>,
    /// What sendmail complains about.
    pub fault: Option<String>,
    /// The line of the file.
    pub line: usize,
}

/// What sendmail does while a filter does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDown {
    /// No flag: mail passes as if there were no filter.
    Pass,
    /// `T`: try again later.
    Defer,
    /// `4`: 421, and the connection is closed.
    Disconnect,
    /// `R`: refused for good.
    Reject,
}

impl Filter {
    /// What is done while it does not answer. Of several flags sendmail looks at the last first.
    pub fn when_down(&self) -> WhenDown {
        let of = |c| match c {
            'T' => Some(WhenDown::Defer),
            '4' => Some(WhenDown::Disconnect),
            'R' => Some(WhenDown::Reject),
            _ => None,
        };
        // sendmail asks for R, then 4, then T.
        ['R', '4', 'T']
            .into_iter()
            .find(|flag| self.flags.contains(*flag))
            .and_then(of)
            .unwrap_or(WhenDown::Pass)
    }

    /// How long sendmail waits for the connection (`C`), to send (`S`), for an answer (`R`), for all of a message (`E`).
    pub fn timeout(&self, which: char) -> Option<Duration> {
        let told = self.timeouts.as_deref().unwrap_or_default().split([';', ',']).find_map(|part| {
            let (letter, value) = part.trim().split_once(':')?;
            letter.trim().starts_with(which).then(|| interval(value.trim()))?
        });
        told.or_else(|| TIMEOUTS.iter().find(|(letter, _)| *letter == which).map(|(_, default)| *default))
    }
}

/// sendmail's intervals: `10s`, `5m`, `1h30m`; a bare number is seconds here.
fn interval(text: &str) -> Option<Duration> {
    let mut seconds = 0u64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(std::mem::take(&mut number).parse::<u64>().ok()?.checked_mul(unit)?)?;
    }
    if !number.is_empty() {
        seconds = seconds.checked_add(number.parse().ok()?)?;
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// A map: a `K` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// `hash`, `socket`, …
    pub class: String,
    /// Its flags, `-T<TMPF>`, `-o`, …
    pub flags: Vec<String>,
    /// What follows them: a file, a socket.
    pub place: String,
}

/// A ruleset, with its rules as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Its name.
    pub name: String,
    /// Its rules, without the `R`.
    pub rules: Vec<String>,
}

/// One of `DaemonPortOptions`: where sendmail listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonPort {
    /// `Name=`
    pub name: String,
    /// `Family=`; `inet` where it is not said.
    pub family: String,
    /// `Addr=`
    pub address: Option<String>,
    /// `Port=`; `smtp` where it is not said.
    pub port: Option<String>,
    /// `Modify=`
    pub modifiers: String,
    /// `InputMailFilters=`: this port's own, in place of the option's.
    pub filters: Option<Vec<String>>,
}

impl DaemonPort {
    /// Where a client on this host reaches it: an address or a name, and a port.
    pub fn reach(&self) -> Option<(String, u16)> {
        let port = match self.port.as_deref() {
            None | Some("smtp") => 25,
            Some("submission" | "submissions-starttls") => 587,
            Some("smtps" | "submissions") => 465,
            Some(number) => number.parse().ok()?,
        };
        let v6 = self.family.eq_ignore_ascii_case("inet6");
        if !v6 && !self.family.eq_ignore_ascii_case("inet") {
            return None;
        }
        let everywhere = ["0.0.0.0", "::", "IPv6:::", "*", "any", "INADDR_ANY"];
        let address = self.address.as_deref().filter(|address| !everywhere.contains(address));
        let address = address.map(|address| address.strip_prefix("IPv6:").unwrap_or(address).to_owned());
        Some((address.unwrap_or_else(|| if v6 { "::1" } else { "127.0.0.1" }.to_owned()), port))
    }

    /// Whether it speaks TLS from the first byte (`M=s`).
    pub fn is_smtps(&self) -> bool {
        self.modifiers.contains('s')
    }

    /// Whether it does not offer STARTTLS (`M=S`).
    pub fn without_starttls(&self) -> bool {
        self.modifiers.contains('S')
    }
}

impl fmt::Display for DaemonPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "the daemon" } else { &self.name };
        match self.reach() {
            Some((address, port)) if address.contains(':') => write!(f, "{name} ([{address}]:{port})"),
            Some((address, port)) => write!(f, "{name} ({address}:{port})"),
            None => f.write_str(name),
        }
    }
}

impl Cf {
    /// Reads the text of a sendmail.cf.
    pub fn parse(text: &str) -> Self {
        let mut cf = Self::default();
        for (number, line) in logical_lines(text) {
            let Some(kind) = line.chars().next() else { continue };
            let rest = line.get(1..).unwrap_or_default();
            match kind {
                'O' => cf.option_line(rest),
                'X' => cf.filters.push(filter(rest, number)),
                'K' => cf.maps.extend(map(rest)),
                'M' => {
                    let name = rest.split([',', ' ', '\t']).next().unwrap_or_default();
                    cf.mailers.push(name.to_owned());
                }
                'S' => {
                    let name = rest.split([' ', '\t', '=']).find(|part| !part.is_empty()).unwrap_or_default();
                    cf.rulesets.push(Ruleset { name: name.to_owned(), rules: Vec::new() });
                }
                'R' => {
                    if let Some(ruleset) = cf.rulesets.last_mut() {
                        ruleset.rules.push(rest.to_owned());
                    }
                }
                _ => {}
            }
        }
        cf
    }

    fn option_line(&mut self, rest: &str) {
        // `O Name=value`; the one-letter form (`OL9`) is from before version 8.7.
        let Some(long) = rest.strip_prefix(' ') else {
            if let Some(level) = rest.strip_prefix('L') {
                self.options.entry("loglevel".to_owned()).or_default().push(level.trim().to_owned());
            }
            return;
        };
        let (name, value) = long.split_once('=').unwrap_or((long, ""));
        let name = name.trim().to_ascii_lowercase();
        self.options.entry(name).or_default().push(value.trim().to_owned());
    }

    /// An option's value: of one that stands several times, the last.
    pub fn option(&self, name: &str) -> Option<&str> {
        let values = self.options.get(&name.to_ascii_lowercase())?;
        values.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of the filters that every session is shown to, in order.
    pub fn input_filters(&self) -> Vec<String> {
        self.option("InputMailFilters").map(names).unwrap_or_default()
    }

    /// Where it listens; port 25 of every address where nothing is said.
    pub fn ports(&self) -> Vec<DaemonPort> {
        let mut found: Vec<DaemonPort> =
            self.options.get("daemonportoptions").into_iter().flatten().map(|value| port(value)).collect();
        if found.is_empty() {
            found.push(port(""));
        }
        found
    }

    /// The options that give the milter's macro lists: `Milter.macros.connect` and the like.
    pub fn macro_lists(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .options
            .iter()
            .filter(|(name, _)| name.starts_with("milter.macros."))
            .filter_map(|(name, values)| Some((name.clone(), values.last()?.clone())))
            .collect();
        found.sort();
        found
    }

    /// Whether sendmail can work with it: without a mailer `local` 8.17 does not even listen.
    pub fn is_runnable(&self) -> bool {
        self.mailers.iter().any(|name| name == "local")
    }

    /// A map by its name.
    pub fn map(&self, name: &str) -> Option<&Map> {
        // The last definition of a name counts.
        self.maps.iter().rev().find(|map| map.name == name)
    }

    /// A ruleset by its name, in any case.
    pub fn ruleset(&self, name: &str) -> Option<&Ruleset> {
        self.rulesets.iter().find(|ruleset| ruleset.name.eq_ignore_ascii_case(name))
    }

    /// Whether FEATURE(`delay_checks') is in it: most checks wait for RCPT.
    pub fn delays_checks(&self) -> bool {
        self.ruleset("checkrcpt").is_some() || self.ruleset("Delay_TLS_Clt").is_some()
    }

    /// How much it logs.
    pub fn log_level(&self) -> u32 {
        self.option("LogLevel").and_then(|level| level.parse().ok()).unwrap_or(9)
    }

    /// Whether an option that is a list of words has this one.
    pub fn option_has(&self, name: &str, word: &str) -> bool {
        let list = self.option(name).unwrap_or_default();
        list.split([',', ' ', '\t']).any(|part| part.trim().eq_ignore_ascii_case(word))
    }
}

/// Lines with those joined that go on: what begins with a blank belongs to the line before.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.starts_with([' ', '\t']) {
            if let Some((_, last)) = lines.last_mut() {
                last.push('\n');
                last.push_str(line);
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            lines.push((number, line.to_owned()));
        }
    }
    lines
}

/// A list of filters. Commas separate them; in a port's own list, where commas end it, semicolons.
fn names(text: &str) -> Vec<String> {
    text.split([',', ';', ' ', '\t']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn filter(rest: &str, line: usize) -> Filter {
    let rest = rest.trim();
    let end = rest.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(rest.len());
    let (name, equates) = rest.split_at(end);
    let mut found = Filter {
        name: name.to_owned(),
        socket: None,
        flags: String::new(),
        timeouts: None,
        fault: name.is_empty().then(|| "it has no name".to_owned()),
        line,
    };
    for equate in equates.split(',').map(str::trim).filter(|equate| !equate.is_empty()) {
        let Some((field, value)) = equate.split_once('=') else {
            found.fault = Some(format!("`=` is missing in `{equate}`"));
            break;
        };
        let value = value.trim();
        match field.trim().chars().next() {
            Some('S') => found.socket = Some(value.to_owned()),
            Some('F') => value.clone_into(&mut found.flags),
            Some('T') => found.timeouts = Some(value.to_owned()),
            _ => found.fault = Some(format!("`{}` is no equate of a mail filter", field.trim())),
        }
    }
    if found.socket.is_none() && found.fault.is_none() {
        found.fault = Some("it has no `S=`".to_owned());
    }
    found
}

fn map(rest: &str) -> Option<Map> {
    let mut words = rest.split_ascii_whitespace();
    let (name, class) = (words.next()?, words.next()?);
    let mut flags = Vec::new();
    let mut place = Vec::new();
    for word in words {
        if word.starts_with('-') && place.is_empty() { flags.push(word.to_owned()) } else { place.push(word) }
    }
    let place = place.join(" ");
    Some(Map {
        name: name.to_owned(),
        class: class.to_owned(),
        flags,
        place: place.trim_matches('"').to_owned(),
    })
}

fn port(value: &str) -> DaemonPort {
    let mut found = DaemonPort { family: "inet".to_owned(), ..DaemonPort::default() };
    for equate in value.split(',') {
        let Some((field, value)) = equate.split_once('=') else { continue };
        let value = value.trim();
        // As sendmail does: the first letter says which it is.
        match field.trim().chars().next().map(|c| c.to_ascii_uppercase()) {
            Some('N') => value.clone_into(&mut found.name),
            Some('F') => value.clone_into(&mut found.family),
            Some('A') => found.address = Some(value.to_owned()),
            Some('P') => found.port = Some(value.to_owned()),
            Some('M') => found.modifiers = value.chars().filter(|c| !c.is_whitespace()).collect(),
            Some('I') => found.filters = Some(names(value)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests;
