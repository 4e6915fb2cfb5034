//! The other end of the control socket: asks a daemon, and waits for its answer.
//!
//! Promises: an answer within the time set, or an error that says why there is none.

use crate::http::Method;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer holds some hundred diagnostics at the most.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No socket, or nobody listens on it.
    #[error("no daemon answers on it")]
    NoDaemon(#[source] io::Error),
    /// The socket is another's.
    #[error("only root and the daemon's own user may ask")]
    Forbidden,
    /// It took the connection, and says nothing.
    #[error("the daemon does not answer within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// It went away, or is none of ours.
    #[error("the daemon went away before it answered")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No runtime, no memory.
    #[error("cannot ask")]
    Io(#[from] io::Error),
}

/// Asks the daemon that listens on a socket; gives the answer's body.
pub fn ask(socket: &Path, method: Method, path: &'static str, within: Duration) -> Result<Bytes, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let answer = tokio::time::timeout(within, exchange(socket, method, path)).await;
        answer.unwrap_or(Err(AskError::Silent(within)))
    })
}

async fn exchange(socket: &Path, method: Method, path: &'static str) -> Result<Bytes, AskError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden,
        _ => AskError::NoDaemon(error),
    })?;
    let cut = |error: hyper::Error| AskError::Cut(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "encr-milter")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Cut(error.into()))?;
    let answer = sender.send_request(request).await.map_err(cut)?;
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(AskError::Cut)?;
    Ok(body.to_bytes())
}
