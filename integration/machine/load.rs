//! A steady load: clients that send one message after the other, each with a sender that no other has.
//!
//! Promises: whatever a session was answered is kept, and a connection that was not made is as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::host::Machine;
use crate::rig::{Result, wait};

/// As many sessions are open at any time. Debian's sendmail takes 15 new ones in a second, and greets after one.
const CLIENTS: usize = 8;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Session>>>,
}

pub(crate) struct Session {
    pub(crate) sender: String,
    pub(crate) outcome: Result<()>,
}

impl Load {
    pub(crate) fn begin(machine: &Arc<Machine>) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let (machine, stop, done) = (Arc::clone(machine), Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let mut sessions = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let sender = format!("load-{number}-{}@partner.example", sessions.len());
                    let outcome = one_message(&machine, 2, &sender);
                    sessions.push(Session { sender, outcome });
                    done.fetch_add(1, Ordering::Relaxed);
                }
                sessions
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, done, clients }
    }

    /// Waits until so many sessions more have ended.
    pub(crate) fn wait_for(&self, sessions: usize) -> Result<()> {
        let goal = self.done.load(Ordering::Relaxed) + sessions;
        wait::until("sessions of the load", || (self.done.load(Ordering::Relaxed) >= goal).then_some(()))
    }

    pub(crate) fn end(self) -> Result<Vec<Session>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.join().map_err(|_| "a client of the load has panicked")?);
        }
        Ok(all)
    }
}

/// A session in the clear, up to the recipient: each step must be answered with success.
pub(crate) fn one_message(machine: &Machine, host: u8, sender: &str) -> Result<()> {
    let mut client = machine.connect_from(host)?;
    expect_success(&client.reply()?)?;
    for line in [
        "EHLO mx.partner.example",
        &format!("MAIL FROM:<{sender}>"),
        "RCPT TO:<root@mail.rig.example>",
        "QUIT",
    ] {
        expect_success(&client.say(line)?).map_err(|fault| format!("after {line:?}: {fault}"))?;
    }
    Ok(())
}

fn expect_success(reply: &crate::rig::smtp::Reply) -> Result<()> {
    super::ensure((200..300).contains(&reply.code), || reply.text())
}
