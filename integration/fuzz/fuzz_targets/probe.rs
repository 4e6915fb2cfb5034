//! What an SMTP server says to `probe`: any bytes, in pieces, up to where TLS would begin.
//!
//! Each step ends with a reply or with a fault that has words; what is shown of either is one line that cannot act on a
//! terminal; nothing is taken for a reply that is none; memory is bounded.
#![no_main]

use encr_milter::probe::fault::{Fault, Step};
use encr_milter::probe::smtp::{Conversation, Reply};
use encr_milter_fuzz::{check, memory, wire};
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::LazyLock;
use std::time::Duration;

static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("a port of loopback"));

fn is_shown_well(text: &str) {
    assert!(!text.contains(check::breaks_a_line), "{text:?}");
}

fn reply(said: Result<Reply, Fault>) -> Option<Reply> {
    match said {
        Ok(reply) => {
            assert!((200..=599).contains(&reply.code) && !reply.lines.is_empty(), "{reply:?}");
            is_shown_well(&reply.shown());
            let extensions = reply.extensions();
            assert!(extensions.len() < reply.lines.len());
            extensions.iter().for_each(|extension| is_shown_well(extension));
            Some(reply)
        }
        Err(fault) => {
            let words = fault.to_string();
            assert!(!words.is_empty() && !fault.code().is_empty());
            is_shown_well(&words);
            None
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let pieces = wire::cut(bytes, &bytes[..bytes.len().min(3)]);
    let address = LISTENER.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = LISTENER.accept().expect("a client");
        for piece in pieces {
            // A client that has heard enough goes.
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // What the client has still to say is taken, so that nothing of ours is lost by a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    memory::bounded(bytes.len(), 200, || {
        let mut conversation = Conversation::open(&[address], Duration::from_secs(10)).expect("loopback");
        let greeted = reply(conversation.greeting()).inspect(|reply| assert_eq!(reply.code, 220));
        if greeted.is_some() {
            for (step, line) in [(Step::Ehlo, "EHLO a.example"), (Step::Starttls, "STARTTLS")] {
                if reply(conversation.say(step, line)).is_none() {
                    break;
                }
            }
        }
        assert!(conversation.tls().is_none());
        conversation.quit();
    });
    server.join().expect("the server");
});
