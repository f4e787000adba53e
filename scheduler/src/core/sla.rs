//! Whether a job counts, and whether the platform did its part.

use ffrtmp_api::{
    Classification, FailureReason, JobRequest, JobState, Priority, Queue, Scenario, SlaVerdict,
};

use super::policy::SlaTarget;

/// Shorter jobs say nothing about the platform, in seconds of media (the predecessor's figure).
const SHORTEST_SEC: f64 = 10.0;

/// Whether a job counts: as the submission says, else production work of some length that is not the last in line.
pub fn eligible(job: &JobRequest) -> bool {
    if let Some(said) = job.sla_eligible {
        return said;
    }
    let trial = Scenario::parse(&job.scenario).is_ok_and(|scenario| scenario.trial);
    job.classification == Classification::Production
        && !trial
        && job.duration_sec().is_none_or(|seconds| seconds >= SHORTEST_SEC)
        && !(job.queue == Queue::Batch && job.priority == Priority::Low)
}

/// Times of a job that is over, in milliseconds; `None` for what never happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the submission to the last attempt's start.
    pub wait_ms: Option<u64>,
    /// From that start to the end.
    pub run_ms: Option<u64>,
}

/// Whether the platform did its part for a job that is over. A cancelled one is nobody's fault and gets no verdict.
pub fn verdict(
    state: JobState,
    reason: Option<FailureReason>,
    target: SlaTarget,
    times: Times,
) -> Option<SlaVerdict> {
    let said = |compliant, reason: &str| {
        Some(SlaVerdict {
            compliant,
            reason: reason.to_owned(),
        })
    };
    let above =
        |time: Option<u64>, limit: Option<u64>| time.zip(limit).is_some_and(|(time, limit)| limit < time);
    match (state, reason) {
        (JobState::Completed, _) if above(times.wait_ms, target.wait_ms) => {
            said(false, "queue_time_exceeded")
        }
        (JobState::Completed, _) if above(times.run_ms, target.run_ms) => {
            said(false, "processing_time_exceeded")
        }
        (JobState::Completed, _) => said(true, "compliant"),
        (
            JobState::Failed,
            Some(FailureReason::PlatformError | FailureReason::NodeLost | FailureReason::CapabilityMismatch),
        ) => said(false, "platform_failure"),
        (JobState::Failed, Some(FailureReason::ResourceError)) => said(false, "resource_management_failure"),
        (JobState::Failed, Some(FailureReason::Timeout | FailureReason::Stalled)) => {
            if above(times.run_ms, target.run_ms) {
                said(false, "platform_timeout_exceeded")
            } else {
                said(true, "user_timeout_reasonable")
            }
        }
        (JobState::Rejected, _)
        | (
            JobState::Failed,
            Some(FailureReason::UserError | FailureReason::InputError | FailureReason::NetworkError),
        ) => said(true, "external_failure_platform_ok"),
        (JobState::Failed, Some(FailureReason::RuntimeError)) => said(true, "runtime_error_external"),
        (JobState::Failed, None) => said(true, "unknown_failure_external"),
        (
            JobState::Queued
            | JobState::Assigned
            | JobState::Running
            | JobState::TimedOut
            | JobState::Retrying
            | JobState::Canceled,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Policy;

    #[test]
    fn each_queue_is_held_to_its_own_promise() {
        let policy = Policy::default();
        let word = |queue, wait_ms, run_ms| {
            let times = Times {
                wait_ms: Some(wait_ms),
                run_ms: Some(run_ms),
            };
            verdict(JobState::Completed, None, policy.target(queue), times)
                .unwrap()
                .reason
        };
        assert_eq!(word(Queue::Default, 30_000, 600_000), "compliant");
        assert_eq!(word(Queue::Default, 30_001, 1), "queue_time_exceeded");
        assert_eq!(word(Queue::Default, 1, 600_001), "processing_time_exceeded");
        assert_eq!(word(Queue::Batch, 60_000, 7_200_000), "compliant");
        assert_eq!(word(Queue::Live, 1, 86_400_000), "compliant");
    }

    #[test]
    fn the_platform_answers_for_its_own_faults_only() {
        let target = Policy::default().target(Queue::Default);
        let times = Times {
            wait_ms: None,
            run_ms: None,
        };
        for reason in FailureReason::ALL {
            let verdict = verdict(JobState::Failed, Some(*reason), target, times).unwrap();
            let ours = matches!(
                reason,
                FailureReason::PlatformError
                    | FailureReason::NodeLost
                    | FailureReason::CapabilityMismatch
                    | FailureReason::ResourceError
            );
            assert_eq!(verdict.compliant, !ours, "{reason}");
        }
        assert_eq!(verdict(JobState::Canceled, None, target, times), None);
    }

    #[test]
    fn trials_and_idle_work_do_not_count() {
        let counts = |text: &str| eligible(&serde_json::from_str(text).unwrap());
        assert!(counts(r#"{"scenario":"1080p-h264"}"#));
        assert!(!counts(r#"{"scenario":"test-1"}"#));
        assert!(!counts(
            r#"{"scenario":"1080p-h264","classification":"benchmark"}"#
        ));
        assert!(!counts(
            r#"{"scenario":"1080p-h264","parameters":{"duration":5}}"#
        ));
        assert!(!counts(
            r#"{"scenario":"1080p-h264","queue":"batch","priority":"low"}"#
        ));
        assert!(counts(r#"{"scenario":"test-1","sla_eligible":true}"#));
    }
}
