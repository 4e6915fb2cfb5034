//! `[http]`: metrics, and whether the daemon is well, for those who watch it.
//!
//! Promises: nothing here takes mail down or slows it. A port that is taken is told, and tried again. Metrics are written on a
//! thread of their own, one page at a time and at most a twentieth of the time; all who asked before that began share the
//! page. While the daemon drains it is still served, and says so.

use crate::evidence::writer::Evidence;
use crate::http::{self, Answer, Method, Request, Site, StatusCode};
use crate::listener::tally::View;
use crate::listener::{self, Address, Drain, Listener, Ownership, Shared};
use crate::reload::Life;
use crate::telemetry::log::with_causes;
use crate::telemetry::metrics::{
    ConnectionSample, EvidenceSample, Form, Metrics, OutputSample, Path, Sample,
};
use crate::telemetry::sink::Sink;
use crate::waiting::keeper::Waiting;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Several Prometheus servers, a load balancer's probes, an administrator: a handful.
const MAX_CONNECTIONS: usize = 64;
/// How often a port that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two pages there is as much rest as the first took, so many times over; but no more than a scraper waits.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(2);

/// What is watched.
pub(super) struct Watched {
    pub(super) metrics: Arc<Metrics>,
    /// The milter's connections, and how many listeners should accept them.
    pub(super) milter: (View, usize),
    /// Those of the socket map.
    pub(super) outbound: (View, usize),
    pub(super) outputs: Vec<(&'static str, Sink)>,
    pub(super) evidence: Option<Evidence>,
    pub(super) waiting: Waiting,
    pub(super) reloading: Life,
}

impl Watched {
    /// Why no mail is judged, or no new connection accepted.
    fn not_ready(&self) -> Option<String> {
        if self.milter.0.is_draining() {
            return Some("stopping: open transactions get to their end".to_owned());
        }
        let deaf = |(view, listeners): &(View, usize)| view.not_accepting(*listeners);
        let (milter, outbound) = (deaf(&self.milter), deaf(&self.outbound));
        let of =
            |count: usize, kind| (count > 0).then(|| format!("{count} listeners of [{kind}] do not accept"));
        of(milter, "milter").or_else(|| of(outbound, "outbound"))
    }

    /// What has ended that should run as long as the daemon.
    fn not_well(&self) -> Option<&'static str> {
        (!self.reloading.is_alive())
            .then_some("the thread that reloads the policy has ended; restart the daemon")
    }

    fn sample(&self, http: &View) -> Sample {
        let kinds = [("milter", &self.milter.0), ("outbound", &self.outbound.0), ("http", http)];
        Sample {
            ready: self.not_ready().is_none(),
            connections: kinds.into_iter().map(|(listener, view)| connections(listener, view)).collect(),
            outputs: self.outputs.iter().map(|(name, sink)| output(name, sink)).collect(),
            evidence: self.evidence.as_ref().map(evidence),
            waiting: self.waiting.messages() as u64,
            in_doubt: self.waiting.in_doubt(),
        }
    }
}

fn connections(listener: &'static str, view: &View) -> ConnectionSample {
    let seen = view.connections();
    ConnectionSample {
        listener,
        live: seen.live,
        most: seen.most,
        limit: seen.limit,
        accepted: seen.accepted,
        waited: seen.waited,
        turned_away: seen.turned_away,
        cut: seen.cut,
        idle: seen.idle,
        protocol: seen.protocol,
        accept_errors: seen.accept_errors,
    }
}

fn output(name: &'static str, sink: &Sink) -> OutputSample {
    let (queue_full, not_written) = sink.lost();
    OutputSample { name, queue_full, not_written, stale: sink.is_stale() }
}

fn evidence(evidence: &Evidence) -> EvidenceSample {
    let counters = evidence.counters();
    EvidenceSample {
        queue: counters.queue,
        unwritten_rows: counters.unwritten_rows,
        written: counters.written,
        queue_full: counters.queue_full,
        not_written: counters.not_written,
        batches: counters.batches,
        failures: counters.failures,
    }
}

/// What is served as long as this lives.
pub(super) struct Watching {
    _drain: Drain,
}

impl Watching {
    /// Serves at these addresses, now or as soon as it can. Needs a tokio runtime.
    pub(super) fn start(addresses: &[SocketAddr], watched: Watched) -> Self {
        let (shared, drain) = listener::shared(MAX_CONNECTIONS, "of [http]");
        let shared = shared.turning_away();
        let site = Arc::new(Watch {
            watched: Arc::new(watched),
            connections: shared.view(),
            pages: Arc::new(Mutex::new(Pages { last: None, not_before: Instant::now() })),
        });
        for address in addresses {
            tokio::spawn(listen(*address, shared.clone(), Arc::clone(&site)));
        }
        Self { _drain: drain }
    }
}

async fn listen(address: SocketAddr, shared: Shared, site: Arc<Watch>) {
    let at = Address::Tcp { v6: address.is_ipv6(), port: address.port(), host: address.ip().to_string() };
    let mut said = None;
    let listener = loop {
        match Listener::bind(&at, &Ownership::default()) {
            Ok(listener) => break listener,
            Err(error) => {
                let error = with_causes(&error);
                if said.as_ref() != Some(&error) {
                    tracing::error!(http = %address, error, "cannot serve metrics: trying again; mail is not concerned");
                    said = Some(error);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    };
    tracing::info!(http = %address, "serving /metrics, /healthz, /readyz");
    let tally = Arc::clone(shared.tally());
    listener::serve(listener, shared, move |stream, drain| {
        let (site, tally) = (Arc::clone(&site), Arc::clone(&tally));
        async move {
            if let Err(error) = http::serve(stream, site, drain).await {
                tally.failed(&reason(error));
            }
        }
    })
    .await;
}

/// What kind of end that is.
fn reason(error: http::Error) -> listener::ConnectionError<http::Error> {
    tracing::debug!(%error, "a connection of [http] ended");
    if error.is_timeout() {
        listener::ConnectionError::Idle(http::HEAD_WITHIN)
    } else if error.is_parse() {
        listener::ConnectionError::Protocol(error)
    } else {
        listener::ConnectionError::Io(std::io::Error::other(error))
    }
}

/// What stands at the paths.
struct Watch {
    watched: Arc<Watched>,
    connections: View,
    pages: Arc<Mutex<Pages>>,
}

/// The page that was written last, and when the next one may be.
struct Pages {
    last: Option<Page>,
    not_before: Instant,
}

struct Page {
    form: Form,
    begun: Instant,
    text: Bytes,
}

impl Site for Watch {
    async fn answer(&self, request: Request) -> Answer {
        let path = Path::of(&request.path);
        let answer = match (path, request.method) {
            (Path::Other, _) => Answer::not_found(),
            (_, method) if ![Method::GET, Method::HEAD].contains(&method) => {
                Answer::method_not_allowed("GET, HEAD")
            }
            (Path::Metrics, _) => self.metrics(Form::wanted(request.accept.as_deref())).await,
            (Path::Healthz, _) => state("ok", self.watched.not_well().map(str::to_owned)),
            (Path::Readyz, _) => state("ready", self.watched.not_ready()),
            (Path::Root, _) => Answer::text(StatusCode::OK, INDEX),
        };
        self.watched.metrics.requested(path, answer.status().as_u16());
        answer
    }
}

const INDEX: &str = "\
encr-milter
/metrics  what the daemon counts, for Prometheus
/healthz  200 while the daemon is well
/readyz   200 while it accepts and judges mail
";

fn state(well: &'static str, fault: Option<String>) -> Answer {
    match fault {
        None => Answer::text(StatusCode::OK, format!("{well}\n")),
        Some(fault) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")),
    }
}

impl Watch {
    async fn metrics(&self, form: Form) -> Answer {
        let asked = Instant::now();
        let pages = Arc::clone(&self.pages).lock_owned().await;
        let page = match &pages.last {
            // Whoever asked while another page was being written: this one was begun since.
            Some(page) if page.form == form && page.begun >= asked => Ok(page.text.clone()),
            _ => {
                tokio::time::sleep_until(pages.not_before.into()).await;
                let (watched, connections) = (Arc::clone(&self.watched), self.connections.clone());
                // The lock goes along: who does not wait for his page has no second one begun beside it.
                tokio::task::spawn_blocking(move || write(&watched, &connections, form, pages)).await
            }
        };
        match page {
            Ok(text) => Answer::new(StatusCode::OK, form.content_type(), text),
            Err(error) => {
                tracing::error!(%error, "writing the metrics failed within the program; please report this");
                Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "writing the metrics failed: see the log\n")
            }
        }
    }
}

fn write(watched: &Watched, connections: &View, form: Form, mut pages: OwnedMutexGuard<Pages>) -> Bytes {
    let begun = Instant::now();
    // Into memory: cannot fail.
    let text = watched.metrics.text(watched.sample(connections), form).unwrap_or_default();
    let text = Bytes::from(text);
    let took = begun.elapsed();
    pages.not_before = begun + took + (took * REST).min(LONGEST_REST);
    pages.last = Some(Page { form, begun, text: text.clone() });
    text
}
