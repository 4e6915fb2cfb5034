//! HTTP/1.1 for those who watch and steer: one connection, requests in, a site's answers out.
//!
//! Promises: a client that is slow, malformed or endless ends its own connection and nothing else. What a client
//! sends is bounded: a head of some KiB in a few seconds, and no body that is read. So is how long it may take to
//! read an answer; a body is sent in pieces, so that a connection holds one piece of it beside what all share.
//! Must not: know what is asked. The site does.

mod patient;
mod pieces;

use crate::listener::draining;
use bytes::Bytes;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use patient::{Patient, Sending};
use pieces::Pieces;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub use hyper::{Error, Method, StatusCode};
pub use patient::Hurry;

/// A scraper's head has some 300 bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long a client may take for the head of a request; between two requests as well.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The same where the connection is one beyond the usual: time for a question that is there already.
const HEAD_WITHIN_BRIEF: Duration = Duration::from_secs(1);

/// How a connection is served.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// One question, that comes at once, and its answer.
    pub brief: bool,
    /// Makes those hurry who take their answers slowly.
    pub hurry: Hurry,
}

/// A request, as far as a site needs it.
#[derive(Debug)]
pub struct Request {
    /// GET, HEAD, POST …
    pub method: Method,
    /// The path without its query.
    pub path: String,
    /// Which media types are wanted, as it was asked.
    pub accept: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    allow: Option<&'static str>,
    retry_after: Option<u16>,
}

impl Answer {
    /// With a status and a body of some type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into(), allow: None, retry_after: None }
    }

    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// JSON.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// There is nothing at this path.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    /// Something is there, and takes these methods only.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allow}\n")) }
    }

    /// Not now: in so many seconds.
    pub fn later(seconds: u16, why: &'static str) -> Self {
        Self { retry_after: Some(seconds), ..Self::text(StatusCode::SERVICE_UNAVAILABLE, why) }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn into_response(self, sending: &Sending) -> Response<Pieces> {
        let mut response = Response::new(Pieces::of(self.body, sending));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Who answers requests. To HEAD it answers as to GET; the body is left out on the wire.
pub trait Site: Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// Serves one connection to its end. When the daemon stops, the request that is being answered is the last.
pub async fn serve<S>(
    stream: S,
    site: Arc<impl Site>,
    mut drain: watch::Receiver<bool>,
    manner: Manner,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let sending = Sending::default();
    let stream = Patient::new(stream, sending.clone(), manner.hurry);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (site, sending) = (Arc::clone(&site), sending.clone());
        async move {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let request = Request {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                accept: accept.map(str::to_owned),
            };
            Ok::<_, Infallible>(site.answer(request).await.into_response(&sending))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if manner.brief { HEAD_WITHIN_BRIEF } else { HEAD_WITHIN })
        .keep_alive(!manner.brief)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = draining(&mut drain) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
