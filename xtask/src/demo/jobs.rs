//! The demo's jobs: what is special about each, and what its record must say.
//!
//! They are real processes started by a plain shell (`jobs.sh`); here they are only recognised and judged.

use serde_json::Value;

/// What the shell runs.
pub(super) const SCRIPT: &str = include_str!("jobs.sh");

/// Somebody else's script. Its name is what the kernel will name as the sender: 15 characters, the most it keeps.
pub(super) const KILLER: (&str, &str) = ("nightly-cleanup", "#!/bin/sh\nkill -KILL \"$1\"\n");

/// One job of `jobs.sh`.
pub(super) struct Job {
    /// Text that only this job's command line has.
    pub(super) mark: &'static str,
    /// What is special about it.
    pub(super) about: &'static str,
    ending: Ending,
    /// A limit that must be in force.
    limit: Option<&'static str>,
}

enum Ending {
    Success,
    Error,
    Oom,
    KilledBy(&'static str),
}

/// Every job of `jobs.sh`.
pub(super) const JOBS: &[Job] = &[
    Job {
        mark: "quota.mkv",
        about: "over its CPU quota",
        ending: Ending::Success,
        limit: Some("cpu_max"),
    },
    Job {
        mark: "memory.mkv",
        about: "over its memory limit",
        ending: Ending::Oom,
        limit: Some("memory_max"),
    },
    Job {
        mark: "stream.mkv",
        about: "killed by another process",
        ending: Ending::KilledBy(KILLER.0),
        limit: Some("memory_max"),
    },
    Job {
        mark: "broken.mp4",
        about: "bad input",
        ending: Ending::Error,
        limit: None,
    },
    Job {
        mark: "pipeline.mjpeg",
        about: "a GStreamer pipeline",
        ending: Ending::Success,
        limit: Some("cpu_max"),
    },
    Job {
        mark: "--version",
        about: "gone within 20 ms",
        ending: Ending::Success,
        limit: None,
    },
];

/// Largest share of a core that the job under a quota of 50 % may show; the rest is its first instants before the move
/// and the rounding of a short run.
const QUOTA_SHARE: f64 = 0.65;

/// The command line of a job's record.
pub(super) fn command(view: &Value) -> String {
    let words = view["report"]["command"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    words
        .iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The record of this job, once it is closed.
pub(super) fn closed<'a>(job: &Job, views: &'a [Value]) -> Option<&'a Value> {
    views
        .iter()
        .find(|view| command(view).contains(job.mark) && !view["report"]["end_time"].is_null())
}

/// What is wrong with the records of this job; empty when they say what happened.
pub(super) fn problems(job: &Job, views: &[Value]) -> Vec<String> {
    let mine: Vec<&Value> = views
        .iter()
        .filter(|view| command(view).contains(job.mark))
        .collect();
    let [view] = mine.as_slice() else {
        return vec![format!("it has {} records instead of one", mine.len())];
    };
    let report = &view["report"];
    let mut problems = Vec::new();
    if report["tier"] != "kernel" {
        problems.push(format!(
            "it was found by {}, not by the kernel's events",
            report["tier"]
        ));
    }
    if let Some(problem) = wrong_ending(&job.ending, report) {
        problems.push(problem);
    }
    if let Some(limit) = job.limit {
        let applied = report["limits"]["applied"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if !applied.iter().any(|one| one["limit"] == limit) {
            problems.push(format!("{limit} is not in force"));
        }
        if report["placement"]["placed_in_us"].is_null() {
            problems.push("it was not placed".to_owned());
        }
    }
    if report["usage"]["cpu_sec"].is_null() {
        problems.push("its CPU time is absent".to_owned());
    }
    if job.mark == "quota.mkv" {
        problems.extend(over_quota(report));
    }
    problems
}

fn wrong_ending(ending: &Ending, report: &Value) -> Option<String> {
    let reason = report["exit_reason"].as_str().unwrap_or("absent");
    let (expected, right) = match ending {
        Ending::Success => ("success", reason == "success"),
        Ending::Error => ("error", reason == "error"),
        Ending::Oom => ("oom", reason == "oom"),
        Ending::KilledBy(comm) => (
            "signal 9 with its sender",
            report["signal"] == 9 && report["killed_by"]["comm"] == *comm,
        ),
    };
    (!right).then(|| format!("its exit reason is {reason} ({}), not {expected}", report["exit"]))
}

fn over_quota(report: &Value) -> Option<String> {
    let cpu = report["usage"]["cpu_sec"].as_f64()?;
    let wall = report["duration_sec"].as_f64()?;
    (cpu > wall * QUOTA_SHARE)
        .then(|| format!("it used {cpu:.2} s of CPU in {wall:.2} s, more than half a core"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(change: impl FnOnce(&mut Value)) -> Value {
        let mut view = json!({"report": {
            "command": ["ffmpeg", "stream.mkv"], "end_time": "2026-01-01T00:00:00Z", "tier": "kernel",
            "exit_reason": "signal", "exit": null, "signal": 9, "killed_by": {"kind": "process", "comm": "nightly-cleanup"},
            "limits": {"applied": [{"limit": "memory_max"}]}, "placement": {"placed_in_us": 90},
            "usage": {"cpu_sec": 1.0}, "duration_sec": 3.0,
        }});
        change(&mut view["report"]);
        view
    }

    fn stream() -> &'static Job {
        JOBS.iter().find(|job| job.mark == "stream.mkv").unwrap()
    }

    #[test]
    fn a_true_record_has_no_problem() {
        assert_eq!(problems(stream(), &[view(|_| ())]), Vec::<String>::new());
    }

    #[test]
    fn each_false_or_missing_field_is_a_problem() {
        let count = |change: fn(&mut Value)| problems(stream(), &[view(change)]).len();
        assert_eq!(count(|report| report["tier"] = json!("scan")), 1);
        assert_eq!(count(|report| report["signal"] = json!(15)), 1);
        assert_eq!(count(|report| report["killed_by"] = json!(null)), 1);
        assert_eq!(count(|report| report["limits"]["applied"] = json!([])), 1);
        assert_eq!(
            count(|report| report["placement"]["placed_in_us"] = json!(null)),
            1
        );
        assert_eq!(count(|report| report["usage"]["cpu_sec"] = json!(null)), 1);
        assert_eq!(problems(stream(), &[]).len(), 1);
        assert_eq!(problems(stream(), &[view(|_| ()), view(|_| ())]).len(), 1);
    }

    #[test]
    fn a_job_that_used_a_whole_core_was_over_its_quota() {
        assert!(over_quota(&json!({"usage": {"cpu_sec": 2.9}, "duration_sec": 3.0})).is_some());
        assert!(over_quota(&json!({"usage": {"cpu_sec": 1.6}, "duration_sec": 3.0})).is_none());
    }

    #[test]
    fn every_mark_is_in_the_script_once() {
        for job in JOBS {
            let lines = SCRIPT
                .lines()
                .filter(|line| line.contains(job.mark) && !line.starts_with("echo"))
                .count();
            assert_eq!(lines, 1, "{}", job.mark);
        }
    }
}
