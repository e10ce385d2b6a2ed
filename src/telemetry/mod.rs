//! The one place that names log fields and metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What distinguishes the series of requests.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's name, never a path: paths have too many values.
    pub route: &'static str,
    /// The method.
    pub method: String,
    /// The status.
    pub status: u16,
}

/// What distinguishes the series of one kind of work.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabels {
    /// The kind of work.
    pub kind: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from a request's head to the last byte of its answer, by route.
    pub duration: Family<KindLabels, Histogram>,
    /// Bytes of bodies sent.
    pub sent_bytes: Counter,
    /// Connections open.
    pub connections: Gauge,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Bytes hashed to learn digests of what was made.
    pub hashed_bytes: Counter,
    /// Things made or fetched once: installers, prepared extensions, source images.
    pub made: Family<KindLabels, Counter>,
    /// Questions that memory answered.
    pub hits: Family<KindLabels, Counter>,
    /// Signatures of source images that were refused.
    pub refused_signatures: Counter,
    /// Failures of the upstream that a caller was told of.
    pub upstream_failures: Counter,
    /// Stored blobs that were read through for damage.
    pub scrubbed_blobs: Counter,
    /// Of these, the ones that were damaged and dropped.
    pub scrubbed_bad_blobs: Counter,
    /// 1 when the list of versions is known and the store can be read.
    pub ready: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("image_factory");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let duration = Family::<KindLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.0005, 4.0, 10))
        });
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to the last byte of its answer",
            Unit::Seconds,
            duration.clone(),
        );
        let sent_bytes = Counter::default();
        registry.register_with_unit("http_sent", "Bytes of bodies sent", Unit::Bytes, sent_bytes.clone());
        let connections = Gauge::default();
        registry.register("http_connections", "Connections open", connections.clone());
        let in_flight = Gauge::default();
        registry.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        let hashed_bytes = Counter::default();
        registry.register_with_unit("hashed", "Bytes hashed to learn digests", Unit::Bytes, hashed_bytes.clone());
        let made = Family::<KindLabels, Counter>::default();
        registry.register("made", "Things made, prepared or fetched once", made.clone());
        let hits = Family::<KindLabels, Counter>::default();
        registry.register("cache_hits", "Questions that memory answered", hits.clone());
        let refused_signatures = Counter::default();
        registry.register(
            "refused_signatures",
            "Source images whose signature was refused",
            refused_signatures.clone(),
        );
        let upstream_failures = Counter::default();
        registry.register("upstream_failures", "Failures of the upstream", upstream_failures.clone());
        let scrubbed_blobs = Counter::default();
        registry.register("scrubbed_blobs", "Stored blobs read through for damage", scrubbed_blobs.clone());
        let scrubbed_bad_blobs = Counter::default();
        registry.register(
            "scrubbed_bad_blobs",
            "Stored blobs that were found damaged and dropped by reading them through",
            scrubbed_bad_blobs.clone(),
        );
        let ready = Gauge::<u64, AtomicU64>::default();
        registry.register("ready", "Whether the factory is ready", ready.clone());
        Self {
            registry,
            requests,
            duration,
            sent_bytes,
            connections,
            in_flight,
            hashed_bytes,
            made,
            hits,
            refused_signatures,
            upstream_failures,
            scrubbed_blobs,
            scrubbed_bad_blobs,
            ready,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// Counts one thing made.
    pub fn count_made(&self, kind: &'static str) {
        self.made.get_or_create(&KindLabels { kind }).inc();
    }

    /// Counts one answer out of memory.
    pub fn count_hit(&self, kind: &'static str) {
        self.hits.get_or_create(&KindLabels { kind }).inc();
    }
}

/// Starts structured logging to standard error: one JSON object a line, `RUST_LOG` chooses what (default `info`).
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
