//! Large logs with a known truth: sendmail's mail log of interleaved sessions, and decision records.
//!
//! Promises: the same bytes for the same seed; what a policy ([`POLICY`]) makes of each message is known by how the
//! session was written, and by nothing that the program says. Must not: use the program's own decision.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write};

/// What the logs are judged by.
pub(crate) const POLICY: &str = r#"version = 1
[[rule]]
name = "partner"
client = ["partner.example"]
soft-fail = { min-bits = 256 }
enforce = { min-bits = 128 }

[[rule]]
name = "everyone"
client = ["*"]
observe = { min-bits = 128 }

[[rule]]
name = "far"
server = ["far.example"]
enforce = { min-bits = 256 }

[[rule]]
name = "servers"
server = ["*"]
observe = { min-bits = 128 }
"#;

/// How the time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamps {
    Iso,
    Traditional,
}

/// What a log is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// How many hosts there are: fewer, and the same ones come again and again.
    pub(crate) hosts: u64,
    /// How many lines of a hundred are of other programs (mail log).
    pub(crate) others: u64,
    /// Whether each record has been judged by a policy that observed all, with what failed (decision records).
    pub(crate) judged: bool,
}

impl Mix {
    pub(crate) const USUAL: Self = Self { hosts: 40_000, others: 25, judged: false };
}

/// What has to come out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Lines, the last without a message among them.
    pub(crate) lines: u64,
    /// Messages by what becomes of them.
    pub(crate) fates: BTreeMap<&'static str, u64>,
    /// Those that somebody notices, by rule and fate.
    pub(crate) rules: BTreeMap<(&'static str, &'static str), u64>,
}

impl Truth {
    pub(crate) fn messages(&self) -> u64 {
        self.fates.values().sum()
    }

    /// Holds what `simulate --json` told against it.
    pub(crate) fn is_told_by(&self, report: &Value) {
        assert_eq!(report["read"]["lines"], self.lines);
        assert_eq!(report["judged"]["messages"], self.messages());
        for (fate, count) in report["totals"]["after"]["fate"].as_object().unwrap() {
            assert_eq!(count, self.fates.get(fate.as_str()).unwrap_or(&0), "{fate}");
        }
        for ((rule, fate), count) in &self.rules {
            let changes = report["changes"].as_array().unwrap().iter();
            let found: u64 = changes
                .filter(|change| change["rule"] == *rule && change["to"] == *fate)
                .map(|change| change["messages"].as_u64().unwrap())
                .sum();
            assert_eq!(found, *count, "{rule} {fate}");
        }
    }

    fn add_unchanged(&mut self, (_, fate): Expected) {
        *self.fates.entry(fate).or_default() += 1;
    }

    fn add(&mut self, (rule, fate): Expected) {
        self.add_unchanged((rule, fate));
        if ["observed", "deferred", "refused"].contains(&fate) {
            *self.rules.entry((rule, fate)).or_default() += 1;
        }
    }
}

/// The rule that decides, and what becomes of the message.
type Expected = (&'static str, &'static str);

/// Chance that can be had again.
struct Dice(TestRng);

impl Dice {
    fn of_seed(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// A cipher as sendmail logs it: version, suite, bits.
type Cipher = (&'static str, &'static str, u16);

const STRONG: [Cipher; 2] =
    [("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256), ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305", 256)];
const MIDDLING: [Cipher; 2] =
    [("TLSv1.3", "TLS_AES_128_GCM_SHA256", 128), ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", 128)];
const WEAK: [Cipher; 1] = [("TLSv1", "DES-CBC3-SHA", 112)];

/// How strongly a session is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Middling,
    Weak,
    Clear,
}

impl Strength {
    fn cipher(self, dice: &mut Dice) -> Option<Cipher> {
        match self {
            Self::Strong => Some(dice.of(&STRONG)),
            Self::Middling => Some(dice.of(&MIDDLING)),
            Self::Weak => Some(dice.of(&WEAK)),
            Self::Clear => None,
        }
    }
}

/// The policy, reckoned in the plainest way.
fn inbound(partner: bool, strength: Strength) -> Expected {
    match (partner, strength) {
        (true, Strength::Strong) => ("partner", "passed"),
        (true, Strength::Middling) => ("partner", "deferred"),
        (true, Strength::Weak | Strength::Clear) => ("partner", "refused"),
        (false, Strength::Strong | Strength::Middling) => ("everyone", "passed"),
        (false, Strength::Weak | Strength::Clear) => ("everyone", "observed"),
    }
}

fn outbound(far: bool, strength: Strength) -> Expected {
    match (far, strength) {
        (true, Strength::Strong) => ("far", "passed"),
        (true, _) => ("far", "refused"),
        (false, Strength::Strong | Strength::Middling) => ("servers", "passed"),
        (false, Strength::Weak | Strength::Clear) => ("servers", "observed"),
    }
}

/// The SMTP client of a session.
struct Client {
    relay: String,
    name: String,
    address: String,
    resolve: &'static str,
    /// Whether the rule of the partner is for it.
    partner: bool,
}

impl Client {
    fn any(dice: &mut Dice, hosts: u64) -> Self {
        let n = dice.below(hosts);
        let address = format!("198.{}.{}.{}", 18 + n / 20_000, n / 250 % 80, 1 + n % 250);
        let v6 = format!("2001:db8:{:x}:0:0:0:0:{:x}", n / 200, 1 + n % 200);
        let named = |name: String, address: String, partner: bool| Self {
            relay: format!("{name} [{address}]"),
            name,
            address,
            resolve: "OK",
            partner,
        };
        match dice.below(20) {
            0..=2 => named(format!("mx{}.partner.example", n % 50), address, true),
            3 => Self {
                relay: format!("[{address}]"),
                name: format!("[{address}]"),
                address,
                resolve: "FAIL",
                partner: false,
            },
            // Who only says so is not the partner.
            4 => Self {
                relay: format!("mx{}.partner.example [{address}] (may be forged)", n % 50),
                name: format!("[{address}]"),
                address,
                resolve: "FORGED",
                partner: false,
            },
            5 => named(format!("v6-{n}.dom{}.example", n % 3000), format!("IPv6:{v6}"), false),
            _ => named(format!("mail{}.dom{}.example", n % 7, n % 3000), address, false),
        }
    }
}

fn sender(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => String::new(),
        _ => format!("user{}@dom{}.example", dice.below(500), dice.below(3000)),
    }
}

/// What a session leaves behind, each line with its process.
type Lines = VecDeque<(u32, String)>;

struct World {
    dice: Dice,
    mix: Mix,
    /// Milliseconds since 1970.
    now: i64,
    next_pid: u32,
    sequence: u32,
    truth: Truth,
}

/// 2026-11-01T00:00:00Z
const BEGIN: i64 = 1_793_491_200_000;

impl World {
    fn new(mix: Mix, seed: u64) -> Self {
        Self {
            dice: Dice::of_seed(seed),
            mix,
            now: BEGIN,
            next_pid: 10_000,
            sequence: 0,
            truth: Truth::default(),
        }
    }

    fn at(&self) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(self.now).unwrap().to_zoned(jiff::tz::TimeZone::UTC)
    }

    fn pid(&mut self) -> u32 {
        self.next_pid = if self.next_pid >= 4_000_000 { 300 } else { self.next_pid + 1 };
        self.next_pid
    }

    /// As sendmail makes them: the time in base 60, a sequence, the process.
    fn queue_id(&mut self, pid: u32) -> String {
        const DIGITS: &[u8; 60] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx";
        let at = self.at();
        let digit = |n: i16| char::from(DIGITS[usize::try_from(n % 60).unwrap()]);
        self.sequence = (self.sequence + 1) % 3600;
        let sequence = i16::try_from(self.sequence).unwrap();
        let mut id: String = [
            at.year() - 1900,
            i16::from(at.month()) - 1,
            i16::from(at.day()),
            i16::from(at.hour()),
            i16::from(at.minute()),
            i16::from(at.second()),
            sequence / 60,
            sequence,
        ]
        .map(digit)
        .iter()
        .collect();
        write!(id, "{:06}", pid % 1_000_000).unwrap();
        id
    }

    fn starttls(&mut self, side: &str, relay: &str, (version, cipher, bits): Cipher) -> String {
        let verify = if side == "client" { "OK" } else { self.dice.of(&["NO", "NOT", "FAIL"]) };
        format!(
            "STARTTLS={side}, relay={relay}, version={version}, verify={verify}, cipher={cipher}, bits={bits}/{bits}"
        )
    }

    fn from(&mut self, pid: u32, client: &Client, proto: &str) -> (String, String) {
        let id = self.queue_id(pid);
        let sender = sender(&mut self.dice);
        let size = 400 + self.dice.below(100_000);
        let line = format!(
            "{id}: from=<{sender}>, size={size}, class=0, nrcpts=1, msgid=<{:016x}@mail.dom.example>, proto={proto}, \
             daemon=MTA-v4, relay={}",
            self.dice.next(),
            client.relay
        );
        (id, line)
    }

    /// Its delivery to a mailbox of this host: no session of anybody's.
    fn kept(&mut self, id: &str) -> String {
        format!(
            "{id}: to=<box{}@here.example>, delay=00:00:01, xdelay=00:00:01, mailer=local, pri=30416, dsn=2.0.0, stat=Sent",
            self.dice.below(400)
        )
    }

    fn session(&mut self) -> Lines {
        let pid = self.pid();
        let client = Client::any(&mut self.dice, self.mix.hosts);
        let relay = client.relay.clone();
        let strength = self.dice.of(&[
            Strength::Strong,
            Strength::Strong,
            Strength::Middling,
            Strength::Middling,
            Strength::Weak,
            Strength::Clear,
        ]);
        let mut lines = VecDeque::new();
        let mut messages = 1;
        match self.dice.below(20) {
            // Nothing came of it.
            0 => {
                let id = self.queue_id(pid);
                lines.push_back((
                    pid,
                    format!("{id}: {relay} did not issue MAIL/EXPN/VRFY/ETRN during connection to MTA"),
                ));
                return lines;
            }
            // A handshake that failed, and no mail.
            1 => {
                lines.push_back((pid, format!(
                    "STARTTLS=server, error: accept failed=-1, reason=no shared cipher, SSL_error=1, errno=0, retry=-1, \
                     relay={relay}"
                )));
                return lines;
            }
            // Somebody on this host.
            2 => {
                let id = self.queue_id(pid);
                lines.push_back((pid, format!(
                    "{id}: from=root, size=52, class=0, nrcpts=1, msgid=<{:x}@here.example>, relay=root@localhost",
                    self.dice.next()
                )));
                lines.push_back((pid, self.kept(&id)));
                return lines;
            }
            // One message in the clear, and one after STARTTLS.
            3 => {
                let (id, line) = self.from(pid, &client, "ESMTP");
                self.truth.add(inbound(client.partner, Strength::Clear));
                lines.push_back((pid, line));
                lines.push_back((pid, self.kept(&id)));
                let cipher = self.dice.of(&STRONG);
                lines.push_back((pid, self.starttls("server", &relay, cipher)));
                let (id, line) = self.from(pid, &client, "ESMTPS");
                self.truth.add(inbound(client.partner, Strength::Strong));
                lines.push_back((pid, line));
                lines.push_back((pid, self.kept(&id)));
                return lines;
            }
            4 | 5 => return self.delivery(pid, &client),
            6 => messages = 1 + self.dice.below(5),
            _ => {}
        }
        if let Some(cipher) = strength.cipher(&mut self.dice) {
            lines.push_back((pid, self.starttls("server", &relay, cipher)));
        }
        let authenticated = strength != Strength::Clear && self.dice.below(12) == 0;
        if authenticated {
            lines.push_back((
                pid,
                format!("AUTH=server, relay={relay}, authid=user@here.example, mech=PLAIN, bits=0"),
            ));
        }
        let proto = match (strength, authenticated) {
            (Strength::Clear, _) => self.dice.of(&["ESMTP", "SMTP"]),
            (_, true) => "ESMTPSA",
            (_, false) => "ESMTPS",
        };
        for _ in 0..messages {
            let (id, line) = self.from(pid, &client, proto);
            self.truth.add(if authenticated { ("", "exempt") } else { inbound(client.partner, strength) });
            lines.push_back((pid, line));
            lines.push_back((pid, self.kept(&id)));
        }
        lines
    }

    /// A message that comes in by TLS and leaves by another process.
    fn delivery(&mut self, pid: u32, client: &Client) -> Lines {
        let mut lines = VecDeque::new();
        let cipher = self.dice.of(&STRONG);
        lines.push_back((pid, self.starttls("server", &client.relay, cipher)));
        let (id, line) = self.from(pid, client, "ESMTPS");
        lines.push_back((pid, line));
        self.truth.add(inbound(client.partner, Strength::Strong));

        let pid = self.pid();
        let n = self.dice.below(2000);
        let far = n.is_multiple_of(4);
        let server = if far { format!("mx{}.far.example.", n % 9) } else { format!("mx.dest{n}.example.") };
        let address = format!("203.0.{}.{}", n / 250, 1 + n % 250);
        let to = |rest: String| {
            format!(
                "{id}: to=<friend@dest{n}.example>, ctladdr=<box@here.example> (1000/1000), delay=00:00:02, xdelay=00:00:02, \
                 mailer=esmtp, pri=120316, relay={server} [{address}], {rest}"
            )
        };
        if self.dice.below(10) == 0 {
            lines.push_back((pid, to(format!("dsn=4.0.0, stat=Deferred: Connection refused by {server}"))));
            return lines;
        }
        let strength =
            self.dice.of(&[Strength::Strong, Strength::Strong, Strength::Middling, Strength::Clear]);
        if let Some(cipher) = strength.cipher(&mut self.dice) {
            lines.push_back((pid, self.starttls("client", &server, cipher)));
        }
        lines.push_back((pid, to("dsn=2.0.0, stat=Sent (Ok: queued as 12345)".to_owned())));
        self.truth.add(outbound(far, strength));
        lines
    }

    /// What other programs say.
    fn between(&mut self) -> String {
        let n = self.dice.below(100_000);
        match self.dice.below(6) {
            0 => format!("postfix/smtpd[{n}]: connect from unknown[203.0.113.{}]", n % 250),
            1 => format!("dovecot: imap-login: Login: user=<box{n}>, method=PLAIN, rip=203.0.113.9, TLS"),
            2 => {
                format!("sm-msp-queue[{n}]: unable to qualify my own domain name (here) -- using short name")
            }
            3 => format!(
                "encr-milter[{n}]: 6AM27Tre020552: verdict=fail, mode=enforce, disposition=reject, rule=x"
            ),
            4 => format!("CRON[{n}]: (root) CMD (test -x /usr/sbin/anacron)"),
            _ => format!("sm-mta[{n}]: STARTTLS: CRLFile missing"),
        }
    }

    fn stamp(&self, stamps: Stamps) -> String {
        match stamps {
            Stamps::Iso => format!("{}+00:00", self.at().strftime("%Y-%m-%dT%H:%M:%S%.6f")),
            Stamps::Traditional => self.at().strftime("%b %e %H:%M:%S").to_string(),
        }
    }
}

/// So many processes log at the same time.
const AT_ONCE: usize = 40;

/// Writes sendmail's mail log of at least so many bytes.
pub(crate) fn mail_log(
    out: &mut impl Write,
    size: u64,
    stamps: Stamps,
    mix: Mix,
    seed: u64,
) -> io::Result<Truth> {
    let mut world = World::new(mix, seed);
    let mut active: Vec<Lines> = Vec::new();
    let mut written = 0;
    loop {
        while active.len() < AT_ONCE && written < size {
            active.push(world.session());
        }
        if active.is_empty() {
            return Ok(world.truth);
        }
        world.now += i64::try_from(world.dice.below(40)).unwrap();
        let stamp = world.stamp(stamps);
        let mut write = |truth: &mut Truth, text: std::fmt::Arguments<'_>| {
            truth.lines += 1;
            let line = format!("{stamp} mail {text}\n");
            written += line.len() as u64;
            out.write_all(line.as_bytes())
        };
        while world.dice.below(100) < mix.others {
            let text = world.between();
            write(&mut world.truth, format_args!("{text}"))?;
        }
        let at = usize::try_from(world.dice.below(active.len() as u64)).unwrap();
        let session = &mut active[at];
        if let Some((pid, line)) = session.pop_front() {
            write(&mut world.truth, format_args!("sm-mta[{pid}]: {line}"))?;
        }
        if session.is_empty() {
            active.swap_remove(at);
        }
    }
}

/// Writes decision records of a policy without rules, or of one that observes, of at least so many bytes.
pub(crate) fn decisions(out: &mut impl Write, size: u64, mix: Mix, seed: u64) -> io::Result<Truth> {
    let mut world = World::new(mix, seed);
    let mut written = 0;
    let mut line = String::new();
    while written < size {
        world.now += i64::try_from(world.dice.below(40)).unwrap();
        let client = Client::any(&mut world.dice, mix.hosts);
        let pid = world.pid();
        let (id, sender) = (world.queue_id(pid), sender(&mut world.dice));
        let strength =
            world.dice.of(&[Strength::Strong, Strength::Middling, Strength::Weak, Strength::Clear]);
        let cipher = strength.cipher(&mut world.dice);
        let authenticated = cipher.is_some() && world.dice.below(12) == 0;
        let expected = if authenticated { ("", "exempt") } else { inbound(client.partner, strength) };
        let observed = mix.judged && expected == ("everyone", "observed");
        // What was observed already is no change.
        if observed {
            world.truth.add_unchanged(expected);
        } else {
            world.truth.add(expected);
        }
        world.truth.lines += 1;
        line.clear();
        let stamp = world.at().strftime("%Y-%m-%dT%H:%M:%S%.6f");
        let address = client.address.strip_prefix("IPv6:").unwrap_or(&client.address);
        let sender = if sender.is_empty() { "<>" } else { &sender };
        write!(
            line,
            r#"{{"ts":"{stamp}Z","host":"mail.here.example","queue_id":"{id}","direction":"inbound","client_name":"{}","client_addr":"{address}","client_resolve":"{}","sender":"{sender}""#,
            client.name, client.resolve
        )
        .unwrap();
        if authenticated {
            line.push_str(r#","auth":"user@here.example""#);
        }
        match cipher {
            Some((version, cipher, bits)) => write!(
                line,
                r#","tls_version":"{version}","cipher":"{cipher}","cipher_bits":{bits},"verify":"NOT""#
            )
            .unwrap(),
            None => line.push_str(r#","cipher_bits":0"#),
        }
        let bits = cipher.map_or(0, |(.., bits)| bits);
        match (mix.judged, authenticated) {
            (false, _) => line.push_str(r#","verdict":"no-rule","disposition":"accept""#),
            (true, true) => line.push_str(r#","verdict":"exempt","disposition":"accept","reason":"authenticated""#),
            (true, false) if bits < 128 => {
                let reason = format!("encryption too weak {bits} less than 128");
                write!(
                    line,
                    r#","verdict":"fail","mode":"observe","disposition":"accept","rule":"everyone","side":"client","key":"*","reason":"{reason}","failures":[{{"rule":"everyone","side":"client","key":"*","mode":"observe","reason":"{reason}"}}]"#
                )
                .unwrap();
            }
            (true, false) => line.push_str(
                r#","verdict":"pass","mode":"observe","disposition":"accept","rule":"everyone","side":"client","key":"*""#,
            ),
        }
        line.push_str(r#","policy":"0123456789ab"}"#);
        line.push('\n');
        written += line.len() as u64;
        out.write_all(line.as_bytes())?;
    }
    Ok(world.truth)
}
