//! What `ffrtmp` returns to the shell. `run` and `attach` mirror the workload; everything else is in [`ExitCode`].

use ffrtmp_api::Report;

/// Printed below the help of `run` and `attach`.
pub const AFTER_HELP: &str = "\
Exit status: that of the command or process, 128+n when signal n ended it;
125 ffrtmp itself failed, or the end was not seen; 126 not executable; 127 not found.

A signal to ffrtmp ends ffrtmp alone: the workload goes on, under its limits.";

/// Exit statuses of `ffrtmp` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// The request failed or was refused; the message says why.
    Failure = 1,
    /// The command line is wrong (`run` and `attach` use [`Self::Own`] instead, because 2 is a usual status of a workload).
    Usage = 2,
    /// `doctor`: processes are governed, but something is off; each line marked `off` or `warn` says what.
    Degraded = 3,
    /// `doctor`: no limit that needs a control group can be enforced from here.
    Ungoverned = 4,
    /// No scheduler answers, or it is not trusted.
    Unreachable = 5,
    /// The key is missing or wrong, or it may not do this.
    Denied = 6,
    /// The scheduler knows no such job, node, key or token.
    Missing = 7,
    /// The state of the job or node does not allow it.
    Conflict = 8,
    /// `jobs submit`: part of the batch was refused.
    Partial = 9,
    /// A job that was waited for did not complete.
    JobFailed = 10,
    /// The scheduler is busy, is stopping, or its disk is full; the same may succeed later.
    Busy = 11,
    /// `nodes drain --wait`: the time was up before the node had no work left.
    TimedOut = 12,
    /// `run`, `attach`: ffrtmp itself failed, or the end of the process was not seen.
    Own = 125,
    /// `run`: the command cannot be executed.
    NotExecutable = 126,
    /// `run`: the command was not found.
    NotFound = 127,
    /// Ctrl-C ended the waiting for a job; the job goes on.
    Interrupted = 130,
}

impl ExitCode {
    /// Every status, with its meaning for the generated table.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::Success, "done"),
        (
            Self::Failure,
            "the request failed or was refused; the message says why",
        ),
        (
            Self::Usage,
            "the command line is wrong (`run` and `attach` use 125, because 2 is a usual status of a workload)",
        ),
        (
            Self::Degraded,
            "`doctor`: processes are governed, but something is off; it says what",
        ),
        (
            Self::Ungoverned,
            "`doctor`: no limit that needs a control group can be enforced from here",
        ),
        (
            Self::Unreachable,
            "no scheduler answers, or its certificate is not trusted",
        ),
        (
            Self::Denied,
            "the scheduler's answer: the key is missing or wrong, or it may not do this",
        ),
        (
            Self::Missing,
            "the scheduler knows no such job, node, key or token",
        ),
        (
            Self::Conflict,
            "the state of the job or node does not allow it, or an idempotency key was used with another body",
        ),
        (Self::Partial, "`jobs submit`: part of the batch was refused"),
        (
            Self::JobFailed,
            "`jobs submit --wait`, `status --wait`, `watch JOB`: the job ended and did not complete",
        ),
        (
            Self::Busy,
            "the scheduler is busy, is stopping, or its disk is full; the same may succeed later",
        ),
        (
            Self::TimedOut,
            "`nodes drain --wait`: the time was up before the node had no work left",
        ),
        (
            Self::Own,
            "`run`, `attach`: ffrtmp itself failed, or the end of the process was not seen",
        ),
        (Self::NotExecutable, "`run`: the command cannot be executed"),
        (Self::NotFound, "`run`: the command was not found"),
        (
            Self::Interrupted,
            "Ctrl-C ended the waiting for a job; the job goes on",
        ),
    ];

    /// The table for the documentation.
    pub fn table() -> String {
        let rows: Vec<String> = Self::ALL
            .iter()
            .map(|(code, meaning)| format!("| {} | {meaning} |\n", *code as u8))
            .collect();
        format!(
            "# Exit statuses of `ffrtmp`\n\n\
             `run` and `attach` return the workload's own status, and 128+n when signal n ended it. Ended by a signal\n\
             themselves, they return 128 plus that signal, and the workload goes on.\n\n\
             | status | meaning |\n| --: | --- |\n{}",
            rows.concat()
        )
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

/// The status that mirrors a workload. An end that was not seen is our failure, never a guess.
pub fn mirror(report: &Report) -> u8 {
    report
        .exit_code
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(ExitCode::Own.into())
}

/// The status of a wrapper that a signal ended.
pub fn signalled(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(ExitCode::Own.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_table_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/generated/exit-codes.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        if committed != ExitCode::table() {
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            std::fs::write(path, ExitCode::table()).unwrap();
            panic!("docs/generated/exit-codes.md was stale and has been rewritten; commit it");
        }
    }
}
