//! A connection of an MTA, served from its beginning to its end in a world of its own.

use crate::policies::Trial;
use crate::wire::{self, Said, Wire};
use crate::world::{Seen, World};
use encr_milter::listener::ConnectionError;
use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// How long an MTA may be silent: it never is.
pub const IDLE: Duration = Duration::from_mins(10);

/// What came of a connection.
pub struct Outcome {
    /// What was answered, and when.
    pub said: Rc<RefCell<Said>>,
    /// What was recorded.
    pub records: Vec<Seen>,
    /// How it ended.
    pub ended: Result<(), String>,
}

/// Serves a connection on which these pieces come.
pub fn converse<P: Error>(
    trial: &Trial,
    waited: u32,
    pieces: Vec<Vec<u8>>,
    serve: impl AsyncFnOnce(Wire, &World, watch::Receiver<bool>) -> Result<(), ConnectionError<P>>,
) -> Outcome {
    let world = Rc::new(World::new(&trial.policy, waited));
    let look = Rc::clone(&world);
    let (wire, said) = Wire::new(pieces, move || look.count());
    // Whoever could begin a drain is there as long as the connection.
    let (keep, drain) = watch::channel(false);
    let ended = wire::run(serve(wire, &world, drain));
    drop(keep);
    let ended = ended.map_err(|error| error.to_string());
    let records = Rc::into_inner(world).expect("the connection has ended").records();
    Outcome { said, records, ended }
}
