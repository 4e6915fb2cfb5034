//! Every metric that is served: its name, its kind, its labels, and what it tells.
//!
//! Promises: nothing is served that does not stand here, and what stands here is served; the guide's table, the dashboard and
//! the alerts are held to it by tests. Must not: have a label whose values a client could choose.

/// What kind a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the daemon runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name; a counter's ends with `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// The values of `version`.
pub const VERSIONS: [&str; 8] =
    ["none", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "other", "unknown"];
/// The values of `bits`.
pub const BITS: [&str; 8] = ["0", "56", "112", "128", "168", "256", "other", "unknown"];
/// The values of `fact`.
pub const FACT_NAMES: [&str; 7] =
    ["client_addr", "cipher_bits", "tls_version", "verify", "certificate", "peer_name", "other"];

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// All of them, in the order in which they are served.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    DECISIONS Counter "encr_milter_decisions_total" ["direction", "rule", "side", "mode", "verdict", "disposition"]
        "Decisions: one for each record. Without rule where none decided.";
    SESSIONS Counter "encr_milter_sessions_total" ["direction", "version", "bits"]
        "Sessions with a message, by what was negotiated; version none is in the clear.";
    UNKNOWN Counter "encr_milter_unknown_facts_total" ["direction", "fact"]
        "Decisions with the verdict unknown, by what the MTA did not tell.";
    DECIDING Histogram "encr_milter_decision_duration_seconds" ["direction"]
        "From a whole MAIL, RCPT or question to the answer that is ready to be sent.";
    IN_DOUBT Counter "encr_milter_waiting_in_doubt_total" []
        "Messages with a max-delay that were accepted because nobody could tell how long they had been deferred.";
    WAITING Gauge "encr_milter_waiting_messages" []
        "Messages whose first attempt is remembered for a max-delay.";

    POLICY Gauge "encr_milter_policy_info" ["fingerprint"]
        "The policy in force.";
    RULES Gauge "encr_milter_policy_rules" []
        "Rules of the policy in force.";
    KEYS Gauge "encr_milter_policy_keys" ["side"]
        "Keys of the policy in force.";
    RELOAD_SUCCESSFUL Gauge "encr_milter_policy_last_reload_successful" []
        "Whether the last load put in force what the files say: 0 means that the last good policy, or setting, stays.";
    RELOAD_TIME Gauge "encr_milter_policy_last_reload_timestamp_seconds" []
        "When the last load of the files ended.";
    RELOAD_SUCCESS_TIME Gauge "encr_milter_policy_last_reload_success_timestamp_seconds" []
        "When the last one ended that put them in force; 0 if never since the start.";
    RELOADS Counter "encr_milter_policy_reloads_total" ["outcome"]
        "How often the files were loaded, by what came of it: refused is whatever did not put them in force.";

    READY Gauge "encr_milter_ready" []
        "Whether connections are accepted and judged, as /readyz says.";
    CONNECTIONS Gauge "encr_milter_connections" ["listener"]
        "Connections that are served now.";
    CONNECTIONS_MOST Gauge "encr_milter_connections_most" ["listener"]
        "The most connections that were served at once since the start.";
    CONNECTIONS_LIMIT Gauge "encr_milter_connections_limit" ["listener"]
        "How many connections may be served at once: max-connections.";
    ACCEPTED Counter "encr_milter_connections_accepted_total" ["listener"]
        "Connections that were accepted.";
    AT_LIMIT Counter "encr_milter_connections_at_limit_total" ["listener", "outcome"]
        "Connections that found all in use, and waited for their turn or were turned away.";
    FAILED Counter "encr_milter_connections_failed_total" ["listener", "reason"]
        "Connections that ended before their time: cut by the other side, closed after silence, or for what was said on them.";
    ACCEPT_ERRORS Counter "encr_milter_accept_errors_total" ["listener"]
        "How often the system would not accept a connection.";

    LINES_LOST Counter "encr_milter_lines_lost_total" ["output", "reason"]
        "Lines of the log and of the file of decisions that were dropped: the queue was full, or they could not be written.";
    LOG_STALE Gauge "encr_milter_log_stale" ["output"]
        "Whether the file could not be opened anew, so that lines go to the old one or nowhere.";
    EVIDENCE_QUEUE Gauge "encr_milter_evidence_queue_length" []
        "Decisions that wait to be counted in the evidence.";
    EVIDENCE_ROWS Gauge "encr_milter_evidence_unwritten_rows" []
        "Rows of evidence that are kept in memory until they can be written.";
    EVIDENCE_WRITTEN Counter "encr_milter_evidence_decisions_written_total" []
        "Decisions that are in the evidence's file.";
    EVIDENCE_LOST Counter "encr_milter_evidence_decisions_lost_total" ["reason"]
        "Decisions that are not in the evidence: the queue was full, or they could not be written.";
    EVIDENCE_BATCHES Counter "encr_milter_evidence_batches_total" []
        "Batches of evidence that were written.";
    EVIDENCE_FAILURES Counter "encr_milter_evidence_failures_total" []
        "How often evidence could not be written; it is tried again.";

    HTTP_REQUESTS Counter "encr_milter_http_requests_total" ["path", "code"]
        "Requests to [http]; paths that are not there count as other.";
    BUILD Gauge "encr_milter_build_info" ["version"]
        "The program.";

    START_TIME Gauge "process_start_time_seconds" []
        "When the process started, in unix seconds.";
    CPU Counter "process_cpu_seconds_total" []
        "Processor time, user and system.";
    OPEN_FDS Gauge "process_open_fds" []
        "Descriptors that are open.";
    MAX_FDS Gauge "process_max_fds" []
        "Descriptors that may be open.";
    RESIDENT Gauge "process_resident_memory_bytes" []
        "Resident memory.";
    RESIDENT_MOST Gauge "encr_milter_process_resident_memory_most_bytes" []
        "The most resident memory since the start.";
    THREADS Gauge "encr_milter_process_threads" []
        "Threads of the process.";
}
