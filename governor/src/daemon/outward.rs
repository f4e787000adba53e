//! What the daemon tells others unasked: the webhook's events, and what is counted for the metrics.

use std::sync::Arc;

use super::{DaemonError, DaemonOptions};
use crate::engine::EngineOptions;
use crate::metrics::{Instruments, MetricsSource};
use crate::webhook::Webhook;

/// Both, as far as they are there.
#[derive(Debug, Default)]
pub(super) struct Outward {
    instruments: Option<Arc<Instruments>>,
    webhook: Option<Webhook>,
}

impl Outward {
    /// Starts the webhook where one is configured and ties both to the engine's options: what the engine tells of at its
    /// own start, such as jobs that ended while no governor ran, is heard too.
    pub(super) fn start(options: &DaemonOptions, engine: &mut EngineOptions) -> Result<Self, DaemonError> {
        let mut outward = Self::default();
        match Instruments::new() {
            Ok(instruments) => outward.instruments = Some(Arc::new(instruments)),
            Err(error) => tracing::error!(%error, "nothing is counted by class"),
        }
        engine.instruments.clone_from(&outward.instruments);
        if let Some(config) = &options.config.webhook {
            let (webhook, listener) = Webhook::start(config.clone())?;
            tracing::info!(server = config.shown(), "events go to the webhook");
            engine.listeners.push(listener);
            outward.webhook = Some(webhook);
        }
        Ok(outward)
    }

    /// Shows both to whoever scrapes.
    pub(super) fn show(&self, source: &mut MetricsSource) {
        source.instruments.clone_from(&self.instruments);
        source.webhook = self.webhook.as_ref().map(|webhook| webhook.stats.clone());
    }

    /// The last deliveries; the engine has ended.
    pub(super) async fn close(self) {
        if let Some(webhook) = self.webhook {
            webhook.close().await;
        }
    }
}
