//! How long MAIL takes, from the client's command to its reply: with no milter, and with one at a unix socket and at TCP.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::clients::{expect, greeted, partner};
use super::turns::median;
use super::variant::{Foreign, Kind, ours, stop};
use super::{Context, Plan};
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::Client;
use crate::rig::{Result, Rig};

/// Messages of one session.
const MESSAGES: usize = 8;

/// How the MTA is attached, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Alone,
    Unix,
    Tcp,
    /// A C milter at TCP.
    LibmilterTcp,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "no milter",
            Self::Unix => "encr-milter, unix",
            Self::Tcp => "encr-milter, TCP",
            Self::LibmilterTcp => "C libmilter, TCP",
        }
    }
}

/// Times in µs.
pub(crate) struct Latencies {
    pub(crate) way: Way,
    /// Whether the sessions had STARTTLS, and the macros that come with it.
    pub(crate) tls: bool,
    /// Of the first MAIL of each session.
    pub(crate) first: Vec<f64>,
    /// Of those after it.
    pub(crate) later: Vec<f64>,
}

impl Latencies {
    pub(crate) fn json(&self) -> Value {
        json!({
            "way": self.way.name(),
            "starttls": self.tls,
            "first_us": median(self.first.clone()),
            "later_us": median(self.later.clone()),
        })
    }
}

/// One client at a time, session by session at another MTA.
pub(crate) fn measure(
    rig: &Rig,
    parent: &Path,
    keys: &[String],
    plan: &Plan,
    tls: &Context,
) -> Result<Vec<Latencies>> {
    let folder = parent.join("latency");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let tcp = format!("inet:{}@127.0.0.1", rig.port());
    let mut daemon = ours(rig, &folder, keys, std::slice::from_ref(&tcp))?;
    let foreign = plan
        .kinds
        .contains(&Kind::Libmilter)
        .then(|| Foreign::listening_at(format!("inet:{}@127.0.0.1", rig.port()), &folder, keys));
    let foreign = foreign.transpose()?;
    let unix = daemon.listen().first().cloned().unwrap_or_default();
    let attached = [
        (Way::Alone, None),
        (Way::Unix, Some(unix)),
        (Way::Tcp, Some(tcp)),
        (Way::LibmilterTcp, foreign.as_ref().map(|foreign| foreign.socket.clone())),
    ];
    let mut mtas = Vec::new();
    for (way, socket) in attached {
        if socket.is_some() || way == Way::Alone {
            let options = Options {
                attach: socket.into_iter().collect(),
                flags: Some("T".to_owned()),
                ..Options::default()
            };
            let place = folder.join(format!("{way:?}"));
            std::fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
            mtas.push((way, Sendmail::start(rig, &place, "latency", &options)?));
        }
    }
    let mut all = Vec::new();
    for secure in [false, true] {
        let of_way = |(way, _): &(Way, Sendmail)| Latencies {
            way: *way,
            tls: secure,
            first: Vec::new(),
            later: Vec::new(),
        };
        let mut latencies: Vec<_> = mtas.iter().map(of_way).collect();
        for _ in 0..plan.timed {
            for ((_, sendmail), latencies) in mtas.iter().zip(&mut latencies) {
                let mut client = greeted(sendmail, partner(), secure.then_some(tls))?;
                latencies.first.push(timed(&mut client)?);
                for _ in 1..MESSAGES {
                    latencies.later.push(timed(&mut client)?);
                }
                expect(&client.say("QUIT")?, 221)?;
                client.closed()?;
            }
        }
        all.extend(latencies);
    }
    drop(mtas);
    stop(&mut daemon)?;
    Ok(all)
}

fn timed(client: &mut Client) -> Result<f64> {
    let asked = Instant::now();
    let reply = client.say("MAIL FROM:<anna@sender.example>")?;
    let took: Duration = asked.elapsed();
    expect(&reply, 250)?;
    expect(&client.say("RSET")?, 250)?;
    Ok(took.as_secs_f64() * 1e6)
}
