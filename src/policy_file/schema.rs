//! What a policy file may say: TOML to a document, each value with its place.
//!
//! Promises: the shape of one file is judged here, alone; what takes several files or the calendar to
//! judge (keys that two rules claim, requirements by name, lapsed dates) is the compiler's.

use super::walk::{Fields, Located, Walk};
use crate::diagnostics::{Diagnostic, Place};
use crate::policy::Day;
use crate::policy::reply::{MAX_CONTACT, MAX_RULE_NAME};
use crate::policy::requirement::{Attribute, CertificateName, Requirement, TlsVersion, Wanted, amounts_to};
use crate::policy::rule::{Delay, Mode, Side};
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Far more bits than any cipher will ever have: sendmail's rules may ask for them, and refuse everyone.
const MAX_MIN_BITS: i64 = u16::MAX as i64;

const TOP: &[&str] = &["version", "exempt", "reply", "gate", "requirement", "rule"];
const EXEMPT: &[&str] = &["authenticated", "networks", "recipients"];
const REPLY: &[&str] = &["contact"];
const GATE: &[&str] = &["min-days", "min-messages", "max-failures", "every-peer-passed"];
const REQUIREMENT: &[&str] =
    &["min-bits", "min-version", "verify", "cn", "cert-subject", "cert-issuer", "handshake"];
const MODE: &[&str] = &[
    "require",
    "min-bits",
    "min-version",
    "verify",
    "cn",
    "cert-subject",
    "cert-issuer",
    "handshake",
    "from",
    "percent",
    "max-delay",
];
const EXEMPTION: &[&str] = &["reason", "owner", "until"];
const RULE: &[&str] = &[
    "name",
    "comment",
    "client",
    "client-file",
    "sender",
    "sender-file",
    "recipient",
    "recipient-file",
    "server",
    "server-file",
    "recipient-outbound",
    "recipient-outbound-file",
    "observe",
    "soft-fail",
    "enforce",
    "exempt",
    "skip",
];

/// Every table of a policy file with its fields; a rule's modes are one table.
pub const TABLES: &[(&str, &[&str])] = &[
    ("", TOP),
    ("exempt", EXEMPT),
    ("reply", REPLY),
    ("gate", GATE),
    ("requirement", REQUIREMENT),
    ("rule", RULE),
    ("rule.exempt", EXEMPTION),
    ("rule.MODE", MODE),
];

type Text<'t> = Located<Cow<'t, str>>;
type Value<'s> = Spanned<DeValue<'s>>;

/// One file.
#[derive(Debug, Default)]
pub(super) struct Document<'t> {
    /// `[exempt]`
    pub(super) exempt: Option<ExemptDoc<'t>>,
    /// `[reply]`
    pub(super) reply: Option<ReplyDoc<'t>>,
    /// `[gate]`
    pub(super) gate: Option<GateDoc>,
    /// `[requirement.NAME]`
    pub(super) requirements: Vec<RequirementDoc>,
    /// `[[rule]]`
    pub(super) rules: Vec<RuleDoc<'t>>,
}

/// `[exempt]`
#[derive(Debug)]
pub(super) struct ExemptDoc<'t> {
    /// Where it stands.
    pub(super) place: Place,
    /// `authenticated`
    pub(super) authenticated: Option<bool>,
    /// `networks`
    pub(super) networks: Option<Vec<Text<'t>>>,
    /// `recipients`
    pub(super) recipients: Option<Vec<Text<'t>>>,
}

/// `[reply]`
#[derive(Debug)]
pub(super) struct ReplyDoc<'t> {
    /// Where it stands.
    pub(super) place: Place,
    /// `contact`
    pub(super) contact: Option<Text<'t>>,
}

/// `[gate]`
#[derive(Debug)]
pub(super) struct GateDoc {
    /// Where it stands.
    pub(super) place: Place,
    /// `min-days`
    pub(super) min_days: Option<u32>,
    /// `min-messages`
    pub(super) min_messages: Option<u64>,
    /// `max-failures`
    pub(super) max_failures: Option<u64>,
    /// `every-peer-passed`
    pub(super) every_peer_passed: Option<bool>,
}

/// `[requirement.NAME]`
#[derive(Debug)]
pub(super) struct RequirementDoc {
    /// Its name.
    pub(super) name: Located<String>,
    /// What it demands.
    pub(super) requirement: Requirement,
}

/// `[[rule]]`
#[derive(Debug)]
pub(super) struct RuleDoc<'t> {
    /// Where it stands.
    pub(super) place: Place,
    /// `name`
    pub(super) name: Option<Text<'t>>,
    /// `comment`
    pub(super) comment: Option<Text<'t>>,
    /// `client = […]` and its like.
    pub(super) keys: Vec<(Side, Text<'t>)>,
    /// `client-file = …` and its like.
    pub(super) lists: Vec<(Side, Text<'t>)>,
    /// `exempt = {…}`
    pub(super) exemption: Option<ExemptionDoc<'t>>,
    /// `observe = {…}` and its like, the hardest first.
    pub(super) modes: Vec<(Mode, ModeDoc<'t>)>,
    /// `skip = true`, and where it stands.
    pub(super) skip: Option<Place>,
    /// Whether something of it could not be read, so that what is missing is no fault of its own.
    pub(super) damaged: bool,
}

/// `exempt = {…}` of a rule
#[derive(Debug)]
pub(super) struct ExemptionDoc<'t> {
    /// `reason`
    pub(super) reason: Option<Text<'t>>,
    /// `owner`
    pub(super) owner: Option<Text<'t>>,
    /// `until`
    pub(super) until: Option<Located<Day>>,
}

/// One mode of a rule.
#[derive(Debug)]
pub(super) struct ModeDoc<'t> {
    /// Where it stands.
    pub(super) place: Place,
    /// `require = "NAME"`
    pub(super) require: Option<Text<'t>>,
    /// What it demands by itself.
    pub(super) requirement: Requirement,
    /// `from`
    pub(super) from: Option<Day>,
    /// `percent`
    pub(super) percent: Option<u8>,
    /// `max-delay`
    pub(super) max_delay: Option<Delay>,
}

/// Reads one file's document.
pub(super) fn read<'t>(walk: &mut Walk<'_>, table: &'t DeTable<'_>) -> Document<'t> {
    let top = walk.fields(table, 0..0, "the policy", TOP);
    walk.version(&top);
    let mut document = Document {
        exempt: top.get("exempt").and_then(|value| exempt(walk, value)),
        reply: top.get("reply").and_then(|value| reply(walk, value)),
        gate: top.get("gate").and_then(|value| gate(walk, value)),
        ..Document::default()
    };
    if let Some(value) = top.get("requirement") {
        document.requirements = requirements(walk, value);
    }
    if let Some(value) = top.get("rule") {
        document.rules = rules(walk, value);
    }
    document
}

fn exempt<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>) -> Option<ExemptDoc<'t>> {
    let fields = walk.table(value, "exempt", EXEMPT)?;
    Some(ExemptDoc {
        authenticated: fields.get("authenticated").and_then(|value| walk.boolean(value, "authenticated")),
        networks: fields.get("networks").map(|value| walk.strings(value, "networks")),
        recipients: fields.get("recipients").map(|value| walk.strings(value, "recipients")),
        place: fields.place,
    })
}

fn reply<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>) -> Option<ReplyDoc<'t>> {
    let fields = walk.table(value, "reply", REPLY)?;
    let contact = fields.get("contact").and_then(|value| walk.string(value, "contact"));
    if let Some(contact) = &contact {
        let printable = contact.value.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !printable || contact.value.is_empty() || contact.value.len() > MAX_CONTACT {
            walk.tell(
                Diagnostic::error(
                    "bad-contact",
                    format!("`contact` must be 1 to {MAX_CONTACT} printable ASCII characters"),
                )
                .at(contact.place.clone())
                .hint("it ends every refusal, and an SMTP reply carries no more"),
            );
        } else if contact.value.contains(['(', ')']) {
            walk.tell(
                Diagnostic::warning("bad-contact", "parentheses are written as brackets in a reply")
                    .at(contact.place.clone())
                    .hint("sendmail takes what stands in parentheses for a comment, and drops it"),
            );
        }
    }
    Some(ReplyDoc { place: fields.place, contact })
}

fn gate(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<GateDoc> {
    let fields = walk.table(value, "gate", GATE)?;
    let mut count = |name| {
        let value = fields.get(name).and_then(|value| walk.integer(value, name, 0..=i64::from(u32::MAX)));
        value.and_then(|count| u32::try_from(count).ok())
    };
    let (min_days, min_messages, max_failures) =
        (count("min-days"), count("min-messages"), count("max-failures"));
    Some(GateDoc {
        min_days,
        min_messages: min_messages.map(u64::from),
        max_failures: max_failures.map(u64::from),
        every_peer_passed: fields
            .get("every-peer-passed")
            .and_then(|value| walk.boolean(value, "every-peer-passed")),
        place: fields.place,
    })
}

fn requirements(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<RequirementDoc> {
    let DeValue::Table(table) = value.get_ref() else {
        let at = walk.place(value.span());
        walk.tell(
            Diagnostic::error("wrong-type", "`requirement` must be a table of named requirements")
                .at(at)
                .hint("write [requirement.NAME]"),
        );
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in table {
        let name = Located { value: name.get_ref().to_string(), place: walk.place(name.span()) };
        let what = format!("requirement.{}", name.value);
        let Some(fields) = walk.table(value, &what, REQUIREMENT) else { continue };
        let requirement = requirement(walk, &fields);
        if demands_nothing(&fields) {
            walk.tell(
                Diagnostic::error(
                    "empty-requirement",
                    format!("requirement `{}` demands nothing", name.value),
                )
                .at(name.place.clone())
                .hint(format!("it may demand {}", REQUIREMENT.join(", "))),
            );
        }
        found.push(RequirementDoc { name, requirement });
    }
    found
}

fn requirement(walk: &mut Walk<'_>, fields: &Fields<'_, '_>) -> Requirement {
    let mut requirement = Requirement::default();
    if let Some(value) = fields.get("min-bits") {
        let bits = walk.integer(value, "min-bits", 0..=MAX_MIN_BITS);
        requirement.min_bits = bits.and_then(|bits| u16::try_from(bits).ok());
        let at = walk.place(value.span());
        match (requirement.min_bits, amounts_to(requirement.min_bits.unwrap_or(0))) {
            (Some(0), _) => walk.tell(
                Diagnostic::warning("no-such-bits", "0 bits demand nothing: mail in the clear passes too")
                    .at(at)
                    .hint("1 demands any encryption at all"),
            ),
            (Some(bits), Some(amounts)) => walk.tell(
                Diagnostic::warning("no-such-bits", format!("no cipher has {bits} bits"))
                    .at(at)
                    .label(amounts)
                    .hint("today's ciphers have 112 (3DES), 128 (AES-128) or 256 (AES-256, ChaCha20) bits"),
            ),
            _ => {}
        }
    }
    if let Some(version) = fields.get("min-version").and_then(|value| walk.string(value, "min-version")) {
        requirement.min_version = TlsVersion::from_policy(&version.value);
        if requirement.min_version.is_none() {
            let mut diagnostic =
                Diagnostic::error("bad-version", format!("`{}` is no TLS version", version.value))
                    .at(version.place);
            let near = super::walk::nearest(&version.value, &TlsVersion::NAMES);
            diagnostic.hint = Some(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", TlsVersion::NAMES.join(", ")),
            });
            walk.tell(diagnostic);
        }
    }
    if let Some(value) = fields.get("verify") {
        requirement.verify = walk.boolean(value, "verify").unwrap_or(false);
    }
    if let Some(value) = fields.get("handshake") {
        requirement.handshake = walk.boolean(value, "handshake").unwrap_or(false);
    }
    let mut names: Vec<_> = Attribute::ALL
        .into_iter()
        .filter_map(|attribute| Some((attribute, fields.get(attribute.field())?)))
        .collect();
    // They are held against a certificate, and its failure is worded, in the order in which they are written.
    names.sort_by_key(|(_, value)| value.span().start);
    for (attribute, value) in &names {
        let wanted = wanted(walk, *attribute, value);
        requirement
            .certificate
            .extend(wanted.map(|wanted| CertificateName { attribute: *attribute, wanted }));
    }
    if let Some((_, named)) = names.first()
        && !requirement.verify
    {
        let at = walk.place(named.span());
        walk.tell(
            Diagnostic::warning("unverified-name", "a name of a certificate that nobody verified")
                .at(at)
                .hint("anybody can sign a certificate with any name: add `verify = true`"),
        );
    }
    requirement
}

/// What a name of the certificate must be: a name, a list of which it must be one, or that of the peer.
fn wanted(walk: &mut Walk<'_>, attribute: Attribute, value: &Value<'_>) -> Option<Wanted> {
    let field = attribute.field();
    match value.get_ref() {
        DeValue::Boolean(true) if attribute == Attribute::CommonName => Some(Wanted::OfPeer),
        DeValue::String(_) => name_of(walk, value, field).map(Wanted::Is),
        DeValue::Array(names) => {
            if names.is_empty() {
                let at = walk.place(value.span());
                walk.tell(
                    Diagnostic::warning("no-names", format!("`{field}` is an empty list: nobody meets that"))
                        .at(at),
                );
            }
            Some(Wanted::OneOf(names.iter().filter_map(|name| name_of(walk, name, field)).collect()))
        }
        _ => {
            let at = walk.place(value.span());
            let or_true = if attribute == Attribute::CommonName { ", or true" } else { "" };
            let mut diagnostic = Diagnostic::error(
                "wrong-type",
                format!("`{field}` must be a name, a list of names{or_true}"),
            )
            .at(at);
            if attribute == Attribute::CommonName {
                diagnostic = diagnostic.hint("`cn = true` demands the name of the connecting host itself");
            }
            walk.tell(diagnostic);
            None
        }
    }
}

/// Whether nothing stands there that could fail: no field, or `verify = false` and its like alone. A field that is not
/// known has been told of, and may be a demand with a slip of the pen.
fn demands_nothing(fields: &Fields<'_, '_>) -> bool {
    fields.entries().all(|(name, value)| match name.get_ref().as_ref() {
        "from" | "percent" | "max-delay" => true,
        "verify" | "handshake" => value.get_ref().as_bool() == Some(false),
        _ => false,
    })
}

/// A name of a certificate: not empty, for an empty one would match where no certificate came.
fn name_of(walk: &mut Walk<'_>, value: &Value<'_>, field: &str) -> Option<String> {
    let text = walk.string(value, field)?;
    if text.value.is_empty() {
        walk.tell(Diagnostic::error("empty-name", format!("`{field}` is empty")).at(text.place));
        return None;
    }
    Some(text.value.into_owned())
}

fn rules<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>) -> Vec<RuleDoc<'t>> {
    let DeValue::Array(items) = value.get_ref() else {
        let at = walk.place(value.span());
        walk.tell(
            Diagnostic::error("wrong-type", "`rule` must be a list of tables").at(at).hint("write [[rule]]"),
        );
        return Vec::new();
    };
    items.iter().filter_map(|item| rule(walk, item)).collect()
}

fn rule<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>) -> Option<RuleDoc<'t>> {
    let fields = walk.table(value, "rule", RULE)?;
    let damaged = fields.entries().any(|(name, _)| !RULE.contains(&name.get_ref().as_ref()));
    let mut rule = RuleDoc {
        place: fields.place.clone(),
        name: fields.get("name").and_then(|value| walk.string(value, "name")),
        comment: fields.get("comment").and_then(|value| walk.string(value, "comment")),
        keys: Vec::new(),
        lists: Vec::new(),
        exemption: fields.get("exempt").and_then(|value| exemption(walk, value)),
        modes: Vec::new(),
        skip: None,
        damaged,
    };
    if let Some(value) = fields.get("skip") {
        match walk.boolean(value, "skip") {
            Some(true) => rule.skip = Some(walk.place(value.span())),
            Some(false) => {}
            None => rule.damaged = true,
        }
    }
    if let Some(name) = &rule.name {
        let bad = name.value.is_empty()
            || name.value.chars().count() > MAX_RULE_NAME
            || name.value.chars().any(char::is_control);
        if bad {
            walk.tell(
                Diagnostic::error(
                    "bad-name",
                    format!("a rule's name has 1 to {MAX_RULE_NAME} characters, and no control characters"),
                )
                .at(name.place.clone())
                .hint("it stands in every log line, reply and metric"),
            );
        }
    } else if fields.get("name").is_none() {
        walk.tell(
            Diagnostic::error("missing-name", "a rule without a name")
                .at(header(&fields.place))
                .hint("give it `name = \"…\"`; it stands in every log line, reply and metric"),
        );
    }
    for side in Side::ALL {
        if let Some(value) = fields.get(side.as_str()) {
            rule.damaged |= !matches!(value.get_ref(), DeValue::String(_) | DeValue::Array(_));
            rule.keys.extend(walk.strings(value, side.as_str()).into_iter().map(|key| (side, key)));
        }
        let list = format!("{side}-file");
        if let Some(value) = fields.get(&list) {
            rule.lists.extend(walk.strings(value, &list).into_iter().map(|path| (side, path)));
        }
    }
    for mode in Mode::HARDEST_FIRST {
        if let Some(value) = fields.get(mode.as_str()) {
            match mode_entry(walk, value, mode) {
                Some(entry) => rule.modes.push((mode, entry)),
                None => rule.damaged = true,
            }
        }
    }
    rule.damaged |= fields.get("exempt").is_some() && rule.exemption.is_none();
    Some(rule)
}

/// The first line of a table: its `[[rule]]`, not all that it holds.
pub(super) fn header(place: &Place) -> Place {
    let start = place.span.start;
    Place { file: place.file, span: start..place.span.end.min(start + "[[rule]]".len()) }
}

fn exemption<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>) -> Option<ExemptionDoc<'t>> {
    let fields = walk.table(value, "exempt", EXEMPTION)?;
    Some(ExemptionDoc {
        reason: fields.get("reason").and_then(|value| walk.string(value, "reason")),
        owner: fields.get("owner").and_then(|value| walk.string(value, "owner")),
        until: fields.get("until").and_then(|value| walk.date(value, "until")),
    })
}

fn mode_entry<'t>(walk: &mut Walk<'_>, value: &'t Value<'_>, mode: Mode) -> Option<ModeDoc<'t>> {
    let fields = walk.table(value, mode.as_str(), MODE)?;
    let demands = |name: &str| REQUIREMENT.contains(&name);
    let require = fields.get("require").and_then(|value| walk.string(value, "require"));
    let own: Vec<_> = fields.entries().filter(|(name, _)| demands(name.get_ref())).collect();
    match (&require, own.first()) {
        (Some(require), Some((name, _))) => {
            let at = walk.place(name.span());
            walk.tell(
                Diagnostic::error(
                    "require-and-own",
                    format!("`{}` beside `require = \"{}\"`", name.get_ref(), require.value),
                )
                .at(at)
                .hint("a mode demands either a requirement by name or its own; give the name's all of it"),
            );
        }
        (None, _) if demands_nothing(&fields) => {
            walk.tell(
                Diagnostic::error("empty-requirement", format!("`{mode}` demands nothing"))
                    .at(fields.place.clone())
                    .hint(format!("it may demand {}, or require = \"NAME\"", REQUIREMENT.join(", "))),
            );
        }
        _ => {}
    }
    let percent = fields.get("percent").and_then(|value| {
        let percent = walk.integer(value, "percent", 0..=100);
        if mode != Mode::SoftFail {
            let at = walk.place(value.span());
            walk.tell(
                Diagnostic::error("misplaced-percent", format!("`percent` has no meaning in `{mode}`"))
                    .at(at)
                    .hint("only `soft-fail` can act on a share: a deferred message comes again"),
            );
        }
        percent.and_then(|percent| u8::try_from(percent).ok())
    });
    let max_delay = fields.get("max-delay").and_then(|value| max_delay(walk, value, mode));
    Some(ModeDoc {
        require,
        requirement: requirement(walk, &fields),
        from: fields.get("from").and_then(|value| walk.date(value, "from")).map(|date| date.value),
        percent,
        max_delay,
        place: fields.place,
    })
}

/// Senders' queues keep a message for five days (RFC 5321 section 4.5.4.1), some for less.
const LONG_DELAY: Delay = Delay(2 * 86_400);
const LONGEST_DELAY: Delay = Delay(5 * 86_400);

fn max_delay(walk: &mut Walk<'_>, value: &Value<'_>, mode: Mode) -> Option<Delay> {
    let text = walk.string(value, "max-delay")?;
    if mode != Mode::SoftFail {
        walk.tell(
            Diagnostic::error("misplaced-delay", format!("`max-delay` has no meaning in `{mode}`"))
                .at(text.place)
                .hint("only `soft-fail` defers"),
        );
        return None;
    }
    let delay = match text.value.parse::<Delay>() {
        Ok(delay) => delay,
        Err(hint) => {
            let message = format!("`{}` is no span of time", text.value);
            walk.tell(Diagnostic::error("bad-delay", message).at(text.place).hint(hint));
            return None;
        }
    };
    if delay > LONGEST_DELAY {
        walk.tell(
            Diagnostic::error("bad-delay", format!("a message would be deferred for {delay}"))
                .at(text.place)
                .hint("no sender's queue keeps a message beyond five days: it would bounce. Stay below two"),
        );
        return None;
    }
    if delay > LONG_DELAY {
        walk.tell(
            Diagnostic::warning("long-delay", format!("a message may be deferred for {delay}"))
                .at(text.place)
                .hint("a sender's queue gives a message back after some days, some sooner: stay below two"),
        );
    }
    Some(delay)
}
