//! Every number an operator may turn, with its default.

use ffrtmp_api::Queue;

/// How the scheduler behaves. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Tries after faults of the platform, `--max-retries`; node losses do not count.
    pub max_retries: u32,
    /// Times a job may be lost with its node before it fails: a job that kills its nodes must not go round for ever.
    pub max_node_losses: u32,
    /// Shortest and longest pause before a retry.
    pub backoff_ms: (u64, u64),
    /// Time between two heartbeats of a node.
    pub heartbeat_ms: u64,
    /// Silence after which a node is lost: the larger of 30 s and three heartbeats.
    pub lease_ms: u64,
    /// No progress for so long and a live job has timed out.
    pub stale_live_ms: u64,
    /// The same for the other queues.
    pub stale_batch_ms: u64,
    /// A grant whose start was not reported for so long is taken back.
    pub start_ms: u64,
    /// A process that is to be ended and is still reported after so long is given up; the fence keeps its result out.
    pub stop_ms: u64,
    /// Failures of the platform in a row after which a node is not given that class of work.
    pub strikes: u32,
    /// For how long; doubles with each further failure, up to sixteen times.
    pub block_ms: u64,
    /// Starts of the default and the batch queue while both wait.
    pub share: (u32, u32),
    /// One start in so many takes the oldest job of its queue whatever its priority.
    pub age_every: u32,
    /// A job that fits no free slots for so long gets a node kept free for it.
    pub reserve_ms: u64,
    /// A live job that no node can run is rejected after so long.
    pub reject_live_ms: u64,
    /// What each queue promises.
    pub sla: [SlaTarget; 3],
}

/// What a queue promises. `None` promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlaTarget {
    /// Longest time from submission to the first start.
    pub wait_ms: Option<u64>,
    /// Longest run.
    pub run_ms: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            max_node_losses: 5,
            backoff_ms: (1_000, 30_000),
            heartbeat_ms: 10_000,
            lease_ms: 30_000,
            stale_live_ms: 5 * 60_000,
            stale_batch_ms: 30 * 60_000,
            start_ms: 120_000,
            stop_ms: 600_000,
            strikes: 3,
            block_ms: 600_000,
            share: (8, 2),
            age_every: 8,
            reserve_ms: 60_000,
            reject_live_ms: 5 * 60_000,
            sla: [
                // Live streams may run for days.
                SlaTarget {
                    wait_ms: Some(30_000),
                    run_ms: None,
                },
                // The predecessor's figures.
                SlaTarget {
                    wait_ms: Some(30_000),
                    run_ms: Some(600_000),
                },
                SlaTarget {
                    wait_ms: Some(3_600_000),
                    run_ms: None,
                },
            ],
        }
    }
}

impl Policy {
    /// Silence after which a running job of that queue has timed out.
    pub fn stale_ms(&self, queue: Queue) -> u64 {
        match queue {
            Queue::Live => self.stale_live_ms,
            Queue::Default | Queue::Batch => self.stale_batch_ms,
        }
    }

    /// What that queue promises.
    pub fn target(&self, queue: Queue) -> SlaTarget {
        let [live, default, batch] = self.sla;
        match queue {
            Queue::Live => live,
            Queue::Default => default,
            Queue::Batch => batch,
        }
    }

    /// The same policy with the lease that belongs to this heartbeat.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat_ms: u64) -> Self {
        Self {
            heartbeat_ms,
            lease_ms: (3 * heartbeat_ms).max(30_000),
            ..self
        }
    }
}
