//! Spans as OTLP over HTTP, in batches from a thread of their own. A collector that is away costs a log line, no request.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Traces;

/// Traces could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up traces to {endpoint}")]
pub struct TraceError {
    endpoint: String,
    source: ExporterBuildError,
}

/// Sends spans.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts the thread that sends.
    pub(super) fn start(traces: &Traces) -> Result<Self, TraceError> {
        let endpoint = url(&traces.endpoint);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint.clone())
            .build()
            .map_err(|source| TraceError { endpoint, source })?;
        let share = f64::from(traces.sample_percent) / 100.0;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(Resource::builder().with_service_name("ffrtmp-scheduler").build())
            .build();
        Ok(Self { provider })
    }

    /// What turns spans of the log into spans of a trace.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer("ffrtmp-scheduler"))
    }

    /// Sends what is left. Blocks.
    pub(super) fn close(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The predecessor's `host:port` means plain HTTP and the standard path.
fn url(endpoint: &str) -> String {
    if endpoint.contains("://") {
        return endpoint.to_owned();
    }
    format!("http://{endpoint}/v1/traces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_become_the_standard_url() {
        assert_eq!(url("localhost:4318"), "http://localhost:4318/v1/traces");
        assert_eq!(url("https://otel.example/x"), "https://otel.example/x");
    }
}
