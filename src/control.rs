//! The control socket: HTTP on a unix socket, for `encr-milter status` and `encr-milter reload`.
//!
//! `GET /status` tells how it goes; `POST /reload` loads the policy, opens the logs anew, and answers with what came of
//! it. Promises: only the daemon's own user and root can connect; a socket that cannot be made, or whose file is gone,
//! is told and tried again, and costs no mail; while the daemon drains it is answered that it does.

mod client;
mod status;

pub use client::{AskError, ask};
pub use status::{
    Connections, Counted, Decided, Listening, Loads, Lost, Policy as PolicyStatus, State, Status,
};

use crate::http::{self, Answer, Manner, Method, Request};
use crate::listener::{Address, Listener, Ownership, Place, Shared, draining, serve};
use crate::reload::{Cause, Ending, Outcome, Reply};
use hyper::StatusCode;
use serde::Serialize;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where it is told how it goes.
pub const STATUS: &str = "/status";
/// Where a load is asked for.
pub const RELOAD: &str = "/reload";
/// As many may ask at once; further ones wait.
pub const MAX_CONNECTIONS: usize = 64;
/// How often the socket is looked after: whether it can be made now, whether its file is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Who answers on the control socket.
pub struct Site {
    /// Takes those who ask for a load, until the daemon stops.
    asks: mpsc::Sender<Reply>,
    status: Box<dyn Fn() -> Status + Send + Sync>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("asks", &self.asks).finish_non_exhaustive()
    }
}

impl Site {
    /// `asks` leads to whoever loads; when it is closed, the daemon stops.
    pub fn new(asks: mpsc::Sender<Reply>, status: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        Self { asks, status: Box::new(status) }
    }

    async fn reload(&self) -> Answer {
        let (reply, outcome) = oneshot::channel();
        // Both ends are gone only with whoever loads: then the daemon stops.
        let outcome = match self.asks.send(reply).await {
            Ok(()) => outcome.await.ok(),
            Err(_) => None,
        };
        let outcome = outcome.unwrap_or_else(|| Arc::new(Outcome::new(Ending::Stopping, Cause::Asked, None)));
        let status = match outcome.outcome {
            Ending::InForce => StatusCode::OK,
            Ending::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Ending::Unsettled | Ending::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Ending::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        json(status, &*outcome)
    }
}

impl http::Site for Site {
    async fn answer(&self, request: Request) -> Answer {
        match (request.path.as_str(), request.method) {
            (STATUS, Method::GET | Method::HEAD) => json(StatusCode::OK, &(self.status)()),
            (STATUS, _) => Answer::method_not_allowed("GET"),
            (RELOAD, Method::POST) => self.reload().await,
            (RELOAD, _) => Answer::method_not_allowed("POST"),
            _ => Answer::not_found(),
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            Answer::json(status, body)
        }
        // Strings and numbers into memory: cannot fail.
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Opens the socket at once, so that who is told that the daemon is ready can ask it. What is given keeps it until the
/// drain of `shared` begins: made as soon as it can be, made anew when its file is gone.
pub fn keep(path: PathBuf, site: Arc<Site>, shared: Shared) -> impl Future<Output = ()> {
    let mut opening = Opening { address: Address::Unix(path), said: None };
    let mut opened = opening.open();
    async move {
        let mut closing = shared.closing();
        loop {
            if let Some(listener) = opened {
                let place = listener.place();
                let answer = {
                    let site = Arc::clone(&site);
                    move |stream, drain| {
                        let site = Arc::clone(&site);
                        // A client that went away or spoke nonsense has ended its own connection.
                        async move { drop(http::serve(stream, site, drain, Manner::default()).await) }
                    }
                };
                tokio::select! {
                    () = serve(listener, shared.clone(), answer) => return,
                    () = gone(place) => opening.trouble("its file is gone".to_owned()),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = draining(&mut closing) => return,
            }
            opened = opening.open();
        }
    }
}

/// The making of the socket, again and again.
struct Opening {
    address: Address,
    /// The trouble that was told of last: none is told of twice in a row.
    said: Option<String>,
}

impl Opening {
    fn open(&mut self) -> Option<Listener> {
        // Who may change the daemon's ways is who may send it a signal.
        let ownership = Ownership { mode: 0o600, ..Ownership::default() };
        match Listener::bind(&self.address, &ownership) {
            Ok(listener) => {
                self.said = None;
                tracing::info!(socket = %self.address, "answering `status` and `reload`");
                Some(listener)
            }
            Err(error) => {
                self.trouble(with_source(&error));
                None
            }
        }
    }

    fn trouble(&mut self, trouble: String) {
        if self.said.as_ref() != Some(&trouble) {
            tracing::warn!(
                socket = %self.address, error = trouble,
                "no control socket: `encr-milter status` and `reload` cannot ask; trying again"
            );
            self.said = Some(trouble);
        }
    }
}

/// Resolves when the socket's file is not in its place any more.
async fn gone(place: Option<Place>) {
    while place.as_ref().is_none_or(Place::is_ours) {
        tokio::time::sleep(LOOK).await;
    }
}

fn with_source(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
