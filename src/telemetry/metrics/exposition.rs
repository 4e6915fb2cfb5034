//! The metrics as text, in either of the forms that Prometheus reads.
//!
//! Promises: the same names and numbers in both forms; nothing but what [`super::reference`] lists. The library escapes
//! labels. Must not: be called on a thread that answers, for a large policy has much to tell.

use super::process::Process;
use super::reference::{self as all, Kind, Metric};
use super::tallies::Tallied;
use super::{Metrics, Path, REASONS, Sample};
use crate::policy::decide::Verdict;
use crate::policy::rule::{Mode, Side};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Prometheus' own, which everybody reads: a counter's name is the whole name.
    Plain,
    /// OpenMetrics, which Prometheus asks for first.
    OpenMetrics,
}

impl Form {
    /// What to answer to this `Accept`.
    pub fn wanted(accept: Option<&str>) -> Self {
        let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything, as text.
pub(super) fn text(metrics: &Arc<Metrics>, sample: Sample, form: Form) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { metrics: Arc::clone(metrics), sample, form }));
    let mut text = String::with_capacity(16 * 1024);
    match form {
        Form::Plain => encode_registry(&mut text, &registry)?,
        Form::OpenMetrics => encode(&mut text, &registry)?,
    }
    Ok(text)
}

/// One reading of all numbers.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    sample: Sample,
    form: Form,
}

type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

struct Page<'e> {
    encoder: DescriptorEncoder<'e>,
    form: Form,
}

impl Page<'_> {
    fn family(
        &mut self,
        metric: &Metric,
        write: impl FnOnce(&mut MetricEncoder<'_>, Form) -> fmt::Result,
    ) -> fmt::Result {
        let (kind, name) = match (metric.kind, self.form) {
            (Kind::Counter, Form::OpenMetrics) => {
                (MetricType::Counter, metric.name.strip_suffix("_total").unwrap_or(metric.name))
            }
            (Kind::Counter, Form::Plain) => (MetricType::Counter, metric.name),
            (Kind::Gauge, _) => (MetricType::Gauge, metric.name),
            (Kind::Histogram, _) => (MetricType::Histogram, metric.name),
        };
        let mut encoder = self.encoder.encode_descriptor(name, metric.help, None, kind)?;
        write(&mut encoder, self.form)
    }

    fn counters<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        series: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        self.family(metric, |encoder, form| {
            for (labels, count) in series {
                counter(encoder, form, &labels, count)?;
            }
            Ok(())
        })
    }

    fn counter(&mut self, metric: &Metric, count: u64) -> fmt::Result {
        self.counters(metric, [([], count)])
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        series: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        self.family(metric, |encoder, _| {
            for (labels, value) in series {
                encoder.encode_family(&labels)?.encode_gauge(&value)?;
            }
            Ok(())
        })
    }

    fn gauge(&mut self, metric: &Metric, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.family(metric, |encoder, _| encoder.encode_gauge(value))
    }

    /// One that is left out where it is not known.
    fn known<V: EncodeGaugeValue>(&mut self, metric: &Metric, value: Option<V>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(metric, &value))
    }
}

fn counter<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    form: Form,
    labels: &Labels<'_, N>,
    count: u64,
) -> fmt::Result {
    if N == 0 {
        // Without the braces that labels have.
        return match form {
            Form::Plain => encoder.encode_gauge(&count),
            Form::OpenMetrics => encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None),
        };
    }
    match form {
        // The library puts `_total` behind a counter's name; here it stands there already.
        Form::Plain => encoder.encode_family(labels)?.encode_gauge(&count),
        Form::OpenMetrics => {
            encoder.encode_family(labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
        }
    }
}

/// Unix seconds, to the millisecond.
fn timestamp(at: jiff::Timestamp) -> f64 {
    jiff::SignedDuration::from_millis(at.as_millisecond()).as_secs_f64()
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder, form: self.form };
        self.decisions(&mut page)?;
        self.policy(&mut page)?;
        self.connections(&mut page)?;
        self.outputs(&mut page)?;
        self.program(&mut page)
    }
}

impl Scrape {
    fn decisions(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        page.family(&all::DECISIONS, |encoder, form| {
            let mut written = Ok(());
            metrics.tallies.each(|tallied| {
                if written.is_ok() {
                    written = counter(encoder, form, &labels_of(tallied), tallied.count);
                }
            });
            written
        })?;
        page.counters(
            &all::SESSIONS,
            metrics.sessions.all().map(|(direction, version, bits, count)| {
                ([("direction", direction.as_str()), ("version", version), ("bits", bits)], count)
            }),
        )?;
        page.counters(
            &all::UNKNOWN,
            metrics
                .unknown
                .all()
                .map(|(direction, fact, count)| ([("direction", direction.as_str()), ("fact", fact)], count)),
        )?;
        page.family(&all::DECIDING, |encoder, _| {
            for (direction, histogram) in super::sessions::DIRECTIONS.into_iter().zip(&metrics.deciding) {
                let seen = histogram.seen();
                let labels = [("direction", direction.as_str())];
                let mut encoder = encoder.encode_family(&labels)?;
                encoder.encode_histogram::<NoLabelSet>(seen.sum, seen.count, &seen.buckets, None)?;
            }
            Ok(())
        })?;
        page.counter(&all::IN_DOUBT, self.sample.in_doubt)?;
        page.gauge(&all::WAITING, &self.sample.waiting)
    }

    fn policy(&self, page: &mut Page<'_>) -> fmt::Result {
        let (policy, loads) = (&self.sample.policy, &self.sample.loads);
        page.gauges(&all::POLICY, [([("fingerprint", policy.fingerprint.as_str())], 1)])?;
        page.gauge(&all::RULES, &policy.rules)?;
        page.gauges(
            &all::KEYS,
            Side::ALL.into_iter().zip(policy.keys).map(|(side, keys)| ([("side", side.as_str())], keys)),
        )?;
        page.gauge(&all::RELOAD_SUCCESSFUL, &u64::from(loads.successful))?;
        page.gauge(&all::RELOAD_TIME, &timestamp(loads.at))?;
        page.gauge(&all::RELOAD_SUCCESS_TIME, &timestamp(loads.succeeded_at.unwrap_or_default()))?;
        let outcomes = [("in-force", loads.in_force), ("refused", loads.refused)];
        page.counters(&all::RELOADS, outcomes.map(|(outcome, count)| ([("outcome", outcome)], count)))
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(&all::READY, &u64::from(self.sample.ready))?;
        let each = || self.sample.connections.iter().map(|of| ([("listener", of.listener)], of));
        page.gauges(&all::CONNECTIONS, each().map(|(labels, of)| (labels, of.live)))?;
        page.gauges(&all::CONNECTIONS_MOST, each().map(|(labels, of)| (labels, of.most)))?;
        page.gauges(&all::CONNECTIONS_LIMIT, each().map(|(labels, of)| (labels, of.limit)))?;
        page.counters(&all::ACCEPTED, each().map(|(labels, of)| (labels, of.accepted)))?;
        page.counters(
            &all::AT_LIMIT,
            each().flat_map(|([label], of)| {
                let counts = [("waited", of.waited), ("turned-away", of.turned_away)];
                counts.map(|(outcome, count)| ([label, ("outcome", outcome)], count))
            }),
        )?;
        page.counters(
            &all::FAILED,
            each().flat_map(|([label], of)| {
                let counts = [("cut", of.cut), ("idle", of.idle), ("protocol", of.protocol)];
                counts.map(|(reason, count)| ([label, ("reason", reason)], count))
            }),
        )?;
        page.counters(&all::ACCEPT_ERRORS, each().map(|(labels, of)| (labels, of.accept_errors)))
    }

    fn outputs(&self, page: &mut Page<'_>) -> fmt::Result {
        let outputs = &self.sample.outputs;
        page.counters(
            &all::LINES_LOST,
            outputs.iter().flat_map(|output| {
                let lost = [output.queue_full, output.not_written];
                REASONS
                    .into_iter()
                    .zip(lost)
                    .map(|(reason, count)| ([("output", output.name), ("reason", reason)], count))
            }),
        )?;
        page.gauges(
            &all::LOG_STALE,
            outputs.iter().map(|output| ([("output", output.name)], u64::from(output.stale))),
        )?;
        let evidence = self.sample.evidence.unwrap_or_default();
        page.gauge(&all::EVIDENCE_QUEUE, &evidence.queue)?;
        page.gauge(&all::EVIDENCE_ROWS, &evidence.unwritten_rows)?;
        page.counter(&all::EVIDENCE_WRITTEN, evidence.written)?;
        let lost = REASONS.into_iter().zip([evidence.queue_full, evidence.not_written]);
        page.counters(&all::EVIDENCE_LOST, lost.map(|(reason, count)| ([("reason", reason)], count)))?;
        page.counter(&all::EVIDENCE_BATCHES, evidence.batches)?;
        page.counter(&all::EVIDENCE_FAILURES, evidence.failures)
    }

    fn program(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        page.family(&all::HTTP_REQUESTS, |encoder, form| {
            for path in Path::ALL {
                for (code, count) in metrics.requests.of(path) {
                    counter(encoder, form, &[("path", path.as_str()), ("code", code)], count)?;
                }
            }
            Ok(())
        })?;
        page.gauges(&all::BUILD, [([("version", env!("CARGO_PKG_VERSION"))], 1)])?;
        let process = Process::now();
        page.gauge(&all::START_TIME, &timestamp(metrics.started))?;
        if let Some(seconds) = process.cpu_seconds {
            page.family(&all::CPU, |encoder, form| match form {
                Form::Plain => encoder.encode_gauge(&seconds),
                Form::OpenMetrics => encoder.encode_counter::<NoLabelSet, f64, f64>(&seconds, None),
            })?;
        }
        page.known(&all::OPEN_FDS, process.open_descriptors)?;
        page.known(&all::MAX_FDS, process.most_descriptors)?;
        page.known(&all::RESIDENT, process.resident)?;
        page.known(&all::RESIDENT_MOST, process.most_resident)?;
        page.known(&all::THREADS, process.threads)
    }
}

/// A label without a value is to Prometheus as if it were not there: no rule, no side, no mode.
fn labels_of(tallied: &Tallied) -> Labels<'_, 6> {
    [
        ("direction", tallied.direction.as_str()),
        ("rule", tallied.rule.as_deref().unwrap_or_default()),
        ("side", tallied.side.map_or("", Side::as_str)),
        ("mode", tallied.mode.map_or("", Mode::as_str)),
        ("verdict", Verdict::as_str(tallied.verdict)),
        ("disposition", tallied.disposition().as_str()),
    ]
}
