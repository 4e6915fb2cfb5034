//! `[http]`: metrics, and whether the daemon is well, for those who watch it.
//!
//! Promises: nothing here takes mail down or slows it. A port that is taken is told, and tried again. Whoever asks whether the
//! daemon is well is answered though others hold all places, and what those hold is bounded in bytes ([`super::pages`]).
//! While the daemon drains it is still served, and says so.

use super::pages::Pages;
use super::sources::{Served, Sources};
use crate::evidence::writer::Evidence;
use crate::http::{self, Answer, Hurry, Manner, Method, Request, Site, StatusCode};
use crate::listener::tally::View;
use crate::listener::{self, Address, Drain, Listener, Ownership, Shared, Stream};
use crate::telemetry::log::with_causes;
use crate::telemetry::metrics::{
    ConnectionSample, EvidenceSample, Form, LoadSample, OutputSample, Path, PolicySample, Sample,
};
use crate::telemetry::sink::Sink;
use socket2::SockRef;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Several Prometheus servers, a load balancer's probes, an administrator: a handful.
const PLACES: usize = 64;
/// Beside them, for those who ask at once, and only whether the daemon is well.
const RESERVED: usize = 16;
/// After so many seconds whoever found all places taken may try again.
const AGAIN_IN: u16 = 5;
/// What the kernel keeps of an answer that is not taken, for each connection: else it may be 4 MB.
const SEND_BUFFER: usize = 128 * 1024;
/// How often a port that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(2);

impl Sources {
    /// Why no mail is judged, or no new connection accepted.
    fn not_ready(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("stopping: open transactions get to their end".to_owned());
        }
        self.served.iter().find_map(|Served { name, view, listeners }| {
            let count = view.not_accepting(*listeners);
            (count > 0).then(|| format!("{count} listeners of [{name}] do not accept"))
        })
    }

    /// What has ended that should run as long as the daemon.
    fn not_well(&self) -> Option<&'static str> {
        (!self.reloading.is_alive())
            .then_some("the thread that reloads the policy has ended; restart the daemon")
    }

    fn sample(&self, http: &View) -> Sample {
        let mta = self.served.iter().map(|served| (served.name, &served.view));
        let last = self.reloads.last();
        let loads = self.reloads.counts();
        Sample {
            ready: self.not_ready().is_none(),
            policy: PolicySample::of(&self.snapshots.load()),
            loads: LoadSample {
                successful: last.is_success(),
                at: last.at,
                succeeded_at: loads.succeeded_at,
                in_force: loads.in_force,
                refused: loads.refused,
            },
            connections: mta
                .chain([("http", http)])
                .map(|(listener, view)| connections(listener, view))
                .collect(),
            outputs: self.sinks.iter().map(|(name, sink)| output(name, sink)).collect(),
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
    pub(super) fn start(addresses: &[SocketAddr], sources: &Arc<Sources>) -> Self {
        let (shared, drain) = listener::shared(PLACES + RESERVED, "of [http]");
        let shared = shared.turning_away();
        let hurry = Hurry::default();
        let watch = Arc::new(Watch {
            sources: Arc::clone(sources),
            connections: shared.view(),
            pages: Pages::new(hurry.clone()),
            places: Arc::new(Semaphore::new(PLACES)),
            hurry,
        });
        for address in addresses {
            tokio::spawn(listen(*address, shared.clone(), Arc::clone(&watch)));
        }
        Self { _drain: drain }
    }
}

async fn listen(address: SocketAddr, shared: Shared, watch: Arc<Watch>) {
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
        let (watch, tally) = (Arc::clone(&watch), Arc::clone(&tally));
        async move {
            if let Stream::Tcp(stream) = &stream {
                // Without it the kernel keeps more, and all else is as well.
                let _ = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER);
            }
            let place = watch.places.clone().try_acquire_owned().ok();
            let manner = Manner { brief: place.is_none(), hurry: watch.hurry.clone() };
            let visit = Arc::new(Visit { watch, brief: manner.brief });
            if let Err(error) = http::serve(stream, visit, drain, manner).await {
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
    sources: Arc<Sources>,
    connections: View,
    pages: Pages,
    places: Arc<Semaphore>,
    hurry: Hurry,
}

/// One connection's view of it.
struct Visit {
    watch: Arc<Watch>,
    /// Whether it found all places taken.
    brief: bool,
}

impl Site for Visit {
    async fn answer(&self, request: Request) -> Answer {
        let (watch, sources) = (&self.watch, &self.watch.sources);
        let path = Path::of(&request.path);
        let answer = match (path, request.method) {
            (Path::Other, _) => Answer::not_found(),
            (_, method) if ![Method::GET, Method::HEAD].contains(&method) => {
                Answer::method_not_allowed("GET, HEAD")
            }
            (Path::Metrics, _) if self.brief => Answer::later(AGAIN_IN, BUSY),
            (Path::Metrics, _) => watch.metrics(Form::wanted(request.accept.as_deref())).await,
            (Path::Healthz, _) => state("ok", sources.not_well().map(str::to_owned)),
            (Path::Readyz, _) => state("ready", sources.not_ready()),
            (Path::Root, _) => Answer::text(StatusCode::OK, INDEX),
        };
        sources.metrics.requested(path, answer.status().as_u16());
        answer
    }
}

const BUSY: &str = "all connections are in use: try again\n";

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
        let (sources, connections) = (Arc::clone(&self.sources), self.connections.clone());
        let write = move || {
            // Into memory: cannot fail.
            sources.metrics.text(sources.sample(&connections), form).unwrap_or_default()
        };
        match self.pages.get(form, write).await {
            Ok(text) => Answer::new(StatusCode::OK, form.content_type(), text),
            Err(error) => {
                tracing::error!(%error, "writing the metrics failed within the program; please report this");
                Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "writing the metrics failed: see the log\n")
            }
        }
    }
}
