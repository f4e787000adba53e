//! Completes a report from a wait status, where the governor itself did not see the end. Pure.

use ffrtmp_api::{ExitReason, Report};
use ffrtmp_governor::host::spawn::Ended;
use jiff::Timestamp;

/// What is known of an end.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The wait status.
    Status(i32),
    /// Nothing, for this reason.
    Nothing(String),
}

/// True when the governor's report lacks how the process ended.
pub fn is_missing(report: &Report) -> bool {
    matches!(report.exit, None | Some(ExitReason::Unobserved { .. }))
}

/// Writes the end into the report. A reason that only its author can know (timeout, cancel) is kept.
pub fn complete(report: &mut Report, seen: &Seen, at: Timestamp) {
    if is_missing(report) {
        report.exit = Some(match seen {
            Seen::Status(status) => reason(*status),
            Seen::Nothing(why) => ExitReason::Unobserved { why: why.clone() },
        });
    }
    if let Seen::Status(status) = seen {
        report.exit_code = Some(code(*status));
        report.signal = signal(*status);
    }
    report.exit_reason = report.exit.as_ref().map(|exit| exit.word().to_owned());
    let end = *report.end_time.get_or_insert(at);
    report.duration_sec = Some(end.duration_since(report.start_time).as_secs_f64().max(0.0));
    judge(report);
}

/// Adds the sums a parent gets with its wait, where the report has none.
pub fn add_sums(report: &mut Report, ended: &Ended) {
    let usage = &mut report.usage;
    if usage.cpu_sec.is_some() {
        return;
    }
    usage.user_sec = Some(ended.user_sec);
    usage.system_sec = Some(ended.system_sec);
    usage.cpu_sec = Some(ended.user_sec + ended.system_sec);
    usage.read_bytes.get_or_insert(ended.read_bytes);
    usage.write_bytes.get_or_insert(ended.write_bytes);
    usage.voluntary_switches.get_or_insert(ended.voluntary_switches);
    usage
        .involuntary_switches
        .get_or_insert(ended.involuntary_switches);
    usage
        .absent
        .push("sums are those of wait4: children that nobody waited for are not in them".to_owned());
    if usage.memory_peak_bytes.is_none() {
        usage.memory_peak_bytes = Some(ended.max_rss_bytes);
        usage.absent.push(
            "memory_peak_bytes is that of the largest single process: there is no group to measure"
                .to_owned(),
        );
    }
}

/// Whether the platform did its part. It is to blame for nothing that a plain parent can see; the words are those of
/// the governor's core.
fn judge(report: &mut Report) {
    if report.platform_sla_compliant.is_some() {
        return;
    }
    let reason = match report.exit {
        Some(ExitReason::Unobserved { .. }) | None => return,
        Some(ExitReason::Success) if report.mode == "run" => "completed_successfully",
        Some(ExitReason::Success) => "observed_to_completion",
        Some(ExitReason::Timeout) => "user_timeout",
        Some(_) => "workload_failed_platform_ok",
    };
    report.platform_sla_compliant = Some(true);
    report.platform_sla_reason = Some(reason.to_owned());
}

fn reason(status: i32) -> ExitReason {
    match (signal(status), code(status)) {
        (Some(signal), _) => ExitReason::Signal { signal, sender: None },
        (None, 0) => ExitReason::Success,
        (None, code) => ExitReason::Error { code: code as u8 },
    }
}

/// The status as a shell shows it.
pub fn code(status: i32) -> i32 {
    signal(status).map_or((status >> 8) & 0xff, |signal| 128 + i32::from(signal))
}

/// The low seven bits of a wait status are the signal (wait(2)).
fn signal(status: i32) -> Option<u8> {
    match status & 0x7f {
        0 => None,
        signal => Some(signal as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_read_as_a_shell_reads_it() {
        for (status, shell, word) in [
            (0, 0, "success"),
            (7 << 8, 7, "error"),
            (9, 137, "signal"),
            (15 | 0x80, 143, "signal"),
        ] {
            assert_eq!(code(status), shell);
            assert_eq!(reason(status).word(), word);
        }
    }
}
