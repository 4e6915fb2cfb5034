//! Who connects: a population of hosts, most of them below keys of the list, and what must be answered to each.
//!
//! Promises: worked out by no code of the servers'. A client whose name is below a key must be refused with less than the
//! bits that are demanded, all others pass. The same seed gives the same sessions.

use std::fmt::Write;

use crate::load::Random;
use crate::load::script::{End, words};
use crate::load::session::{Client, Mail, Recipient};
use crate::servers::{MIN_BITS, RULE};

/// What the sessions are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// How many keys there are.
    pub(crate) keys: u64,
    /// Of a thousand sessions, those that must be refused.
    pub(crate) refused: u64,
    /// Messages of each session.
    pub(crate) messages: usize,
}

/// A key of the list: a domain that somebody registered, for of those the daemon keeps evidence.
fn key(number: u64) -> String {
    format!("{}{number}.example", ["partner", "d", "hosting-company-", "x"][(number % 4) as usize])
}

/// The list, one key a line.
pub(crate) fn list(keys: u64) -> String {
    (0..keys).fold(String::new(), |mut list, number| {
        writeln!(list, "{}", key(number)).unwrap();
        list
    })
}

/// The session of a number.
pub(crate) fn client(seed: u64, number: u64, mix: Mix) -> Client {
    let mut random = Random(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let refused = random.below(1000) < mix.refused;
    // Of those that pass a fifth is nobody the policy knows.
    let listed = refused || random.below(5) > 0;
    let name = if listed {
        let key = key(random.below(mix.keys));
        match random.below(8) {
            0 => key,
            1 => format!("out{}.mx.site-a.{key}", random.below(40)),
            2..5 => format!("mx{}.{key}", random.below(10)),
            _ => format!("mail.{key}"),
        }
    } else {
        format!("mx{}.elsewhere{}.example", random.below(10), random.below(1_000_000))
    };
    let address = format!("192.0.{}.{}", 2 + random.below(200), 1 + random.below(254));
    let mails =
        (0..mix.messages).map(|message| mail(&mut random, number, message, listed, refused)).collect();
    Client { name, address, mails }
}

fn mail(random: &mut Random, number: u64, message: usize, listed: bool, refused: bool) -> Mail {
    let bits = match (listed, refused) {
        (_, true) => random.one(&[0, 0, 112], 0),
        (true, false) => random.one(&[128, 256, 256], 256),
        (false, false) => random.one(&[0, 112, 128, 256], 0),
    };
    let refusal = refused.then(|| words(true, bits, MIN_BITS, RULE));
    let mut recipients = vec![Recipient {
        address: format!("user{}@here.example", random.below(1000)),
        refusal: refusal.clone(),
    }];
    // Reachable for everybody; and then the message has content.
    if refused && random.below(4) == 0 {
        recipients.insert(0, Recipient { address: "postmaster@here.example".to_owned(), refusal: None });
    }
    let sender = format!("a{}@sender{}.example", random.below(100), random.below(1000));
    let id = format!("4AM{:09}{:02}", number % 1_000_000_000, message % 100);
    Mail { id, sender, bits, refusal, recipients, end: End::Whole }
}
