//! The load itself: that it says what sendmail says, as the milter wants it, and finds a wrong answer.

use libtest_mimic::{Failed, Trial};

use std::time::Duration;

use crate::load::dialect::{Dialects, step};
use crate::load::session::{Client, Out, Session, Step};
use crate::load::tally::Tally;
use crate::population::{Mix, client};
use crate::scenarios::keys_file;
use crate::servers::{Kind, Server, Way};
use crate::turn::{Load, try_to_play};

const REFUSED: Mix = Mix { keys: 100, refused: 1000, messages: 1 };
const PASSES: Mix = Mix { keys: 100, refused: 0, messages: 2 };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("load-asked-for-little", asked_for_little),
        Trial::test("load-asked-for-all", asked_for_all),
        Trial::test("load-unanswered-stages", unanswered_stages),
        Trial::test("load-wrong-answers", wrong_answers),
        Trial::test("load-finds-a-milter-that-lets-everybody-pass", lets_everybody_pass),
    ]
}

/// An answer, its kind and its payload.
type Answer<'a> = (u8, &'a [u8]);

/// What an answer to the negotiation is: steps, and lists of macros.
fn negotiation(steps: u32, lists: &[(u32, &str)]) -> Vec<u8> {
    let mut payload: Vec<u8> = [6, 0, steps].into_iter().flat_map(u32::to_be_bytes).collect();
    for (stage, list) in lists {
        payload.extend(stage.to_be_bytes());
        payload.extend_from_slice(list.as_bytes());
        payload.push(0);
    }
    payload
}

/// The kinds of the frames that are said to a milter that answers so, those that are written together in a word; a blank
/// stands where it answers. And all bytes.
fn said(client: Client, answers: &[Answer<'_>]) -> Result<(String, Vec<u8>), String> {
    let (mut dialects, mut out, mut tally) = (Dialects::default(), Out::default(), Tally::default());
    let mut session = Session::begin(client, &dialects, &mut out);
    let (mut kinds, mut bytes, mut step) = (String::new(), Vec::new(), Step::Ask);
    let mut answers = answers.iter();
    loop {
        let mut from = 0;
        for end in &out.ends {
            kinds.push(char::from(out.bytes[from + 4]));
            from = *end;
        }
        bytes.extend_from_slice(&out.bytes);
        out.clear();
        let (Step::Ask, Some(answer)) = (step, answers.next()) else {
            let open = step == Step::Ask || answers.next().is_some();
            return if open { Err(format!("not at its end: {kinds}")) } else { Ok((kinds, bytes)) };
        };
        kinds.push(' ');
        step = session.answered(*answer, &mut dialects, &mut out, &mut tally)?;
    }
}

fn is(said: &str, right: &str) -> Result<(), Failed> {
    if said == right { Ok(()) } else { Err(format!("{said:?}, and not {right:?}").into()) }
}

const LEFT_OUT: u32 = step::NO_CONNECT
    | step::NO_HELO
    | step::NO_DATA
    | step::NO_HEADERS
    | step::NO_END_OF_HEADERS
    | step::NO_BODY;

/// A session whose only recipient, or whose second after postmaster, is refused.
fn refused(recipients: usize) -> (Client, Vec<u8>) {
    let fits = |client: &Client| client.mails[0].recipients.len() == recipients;
    let client = (0..1000).map(|number| client(1, number, REFUSED)).find(fits).unwrap();
    let reply = client.mails[0].refusal.clone().unwrap();
    (client, [reply.as_bytes(), b"\0"].concat())
}

/// MAIL alone, with its own macros; nothing is said of a message behind `accept`.
fn asked_for_little() -> Result<(), Failed> {
    let silent = [(0, ""), (1, ""), (2, "{client_name} nothing"), (3, ""), (5, "")];
    let little = negotiation(LEFT_OUT, &silent);
    let passes = client(1, 1, PASSES);
    let name = format!("DM{{client_name}}\0{}\0", passes.name);
    let (kinds, bytes) = said(passes, &[(b'O', &little), (b'a', b""), (b'a', b"")])?;
    is(&kinds, "O DM DM Q")?;
    let length = u32::try_from(name.len()).unwrap().to_be_bytes();
    if memchr::memmem::find(&bytes, &[&length, name.as_bytes()].concat()).is_none() {
        return Err(format!("its macros are others: {}", bytes.escape_ascii()).into());
    }
    let (client, reply) = refused(1);
    let (kinds, _) = said(client, &[(b'O', &little), (b'c', b""), (b'y', &reply)])?;
    is(&kinds, "O DM R AQ")?;
    // Postmaster is let through, and the message comes to its end.
    let (client, reply) = refused(2);
    let answers: [Answer<'_>; 5] = [(b'O', &little), (b'c', b""), (b'c', b""), (b'y', &reply), (b'a', b"")];
    is(&said(client, &answers)?.0, "O DM R R E Q")
}

/// Every stage, with sendmail's own macros.
fn asked_for_all() -> Result<(), Failed> {
    let all = negotiation(step::SKIP, &[]);
    let (client, reply) = refused(2);
    let go_on = (b'c', b"".as_slice());
    let answers = [
        (b'O', all.as_slice()),
        go_on,
        go_on,
        go_on,
        go_on,
        (b'y', &reply),
        go_on,
        go_on,
        go_on,
        (b's', b""),
        go_on,
    ];
    // Of HELO's macros none has a value before MAIL, and `{msg_id}` has none.
    is(&said(client, &answers)?.0, "O DC H DM DR DR T L N B E Q")
}

/// What is not answered is not waited for.
fn unanswered_stages() -> Result<(), Failed> {
    let unanswered = step::NO_REPLY_CONNECT
        | step::NO_REPLY_HELO
        | step::NO_REPLY_MAIL
        | step::NO_REPLY_DATA
        | step::NO_REPLY_HEADER
        | step::NO_REPLY_END_OF_HEADERS
        | step::NO_REPLY_BODY;
    let silent = negotiation(unanswered, &[(0, ""), (1, ""), (2, ""), (3, ""), (5, "")]);
    let (client, reply) = refused(2);
    let answers: [Answer<'_>; 4] = [(b'O', &silent), (b'c', b""), (b'y', &reply), (b'a', b"")];
    is(&said(client, &answers)?.0, "O CHMR R TLNBE Q")?;
    // Where RCPT is not answered nobody can be refused: that is told.
    let mute = negotiation(unanswered | step::NO_REPLY_RCPT, &[]);
    match said(refused(1).0, &[(b'O', &mute)]) {
        Err(words) if words.starts_with("to Rcpt") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Each wrong answer is told with its stage.
fn wrong_answers() -> Result<(), Failed> {
    let little = negotiation(LEFT_OUT, &[(2, "i")]);
    let (weak, reply) = refused(1);
    let other = [&reply[..reply.len() - 2], b"x\0"].concat();
    let passes = client(1, 1, PASSES);
    let cases: [(&Client, &[Answer<'_>], &str); 8] = [
        (&passes, &[(b'O', b"short")], "to Negotiation"),
        (&passes, &[(b'c', b"")], "to Negotiation"),
        (&passes, &[(b'O', &little), (b'r', b"")], "to Mail"),
        (&passes, &[(b'O', &little), (b'c', b""), (b'y', &reply)], "to Rcpt"),
        (&weak, &[(b'O', &little), (b'a', b"")], "to Mail"),
        (&weak, &[(b'O', &little), (b'c', b""), (b'c', b"")], "to Rcpt"),
        (&weak, &[(b'O', &little), (b'c', b""), (b'y', &other)], "to Rcpt"),
        (&weak, &[(b'O', &little), (b'c', b""), (b'r', b"")], "to Rcpt"),
    ];
    for (client, answers, stage) in cases {
        match said(client.clone(), answers) {
            Err(words) if words.starts_with(stage) => {}
            other => return Err(format!("{answers:?}: {other:?}").into()),
        }
    }
    Ok(())
}

/// With another list than the one that the sessions are made for.
fn lets_everybody_pass() -> Result<(), Failed> {
    let (_folder, file) = keys_file(1);
    let load = Load {
        connections: 4,
        pace: None,
        frame_by_frame: false,
        mix: Mix { keys: 1000, refused: 100, messages: 1 },
        lasts: Duration::from_mins(1),
    };
    for kind in [Kind::Ours, Kind::Libmilter, Kind::Tokio] {
        match try_to_play(&Server::start(kind.clone(), Way::Unix, &file), load) {
            Err(words) if words.contains("to Mail: a") => {}
            other => return Err(format!("{}: {other:?}", kind.name()).into()),
        }
    }
    Ok(())
}
