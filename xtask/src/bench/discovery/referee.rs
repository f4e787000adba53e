//! The neutral referee: `perf record` on three tracepoints, which tells what happened to each process without asking the
//! contender. The same for all of them; only the name of the group differs.
//!
//! It fails when perf lost an event: a verdict on part of the events is none.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::lives::{Event, What};
use super::target::Target;

/// How long perf may take to answer, milliseconds.
const PATIENCE_MS: u16 = 20_000;

/// Pages of the buffer of each CPU: 4 MiB, as in the method the published figures come from.
const PAGES: &str = "1024";

/// A recording that runs until it is [read](Referee::verdict) or dropped.
pub(super) struct Referee {
    perf: Child,
    directory: tempfile::TempDir,
}

impl Referee {
    /// Starts to watch execs of one program, moves into groups whose path holds `groups`, and ends of processes of the
    /// target's name. Returns when perf says that it records.
    pub(super) fn watch(program: &Path, target: &Target, groups: Option<&str>) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ffrtmp-bench-perf-")
            .tempdir()
            .context("making a directory")?;
        let (control, answers) = (directory.path().join("control"), directory.path().join("answers"));
        for fifo in [&control, &answers] {
            mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).context("making a pipe to perf")?;
        }
        let mut command = Command::new("perf");
        command
            .args([
                "record",
                "-q",
                "-k",
                "CLOCK_MONOTONIC",
                "-a",
                "-m",
                PAGES,
                "-D",
                "-1",
            ])
            .arg(format!(
                "--control=fifo:{},{}",
                control.display(),
                answers.display()
            ))
            .arg("-o")
            .arg(directory.path().join("data"))
            .args(["-e", "sched:sched_process_exec", "--filter"])
            .arg(format!("filename == \"{}\"", program.display()))
            .args(["-e", "sched:sched_process_exit", "--filter"])
            .arg(format!("comm == \"{}\"", target.name()));
        if let Some(groups) = groups {
            command
                .args(["-e", "cgroup:cgroup_attach_task", "--filter"])
                .arg(format!("dst_path ~ \"*{groups}*\""));
        }
        let log = File::create(directory.path().join("log")).context("making perf's log")?;
        // Both ends are opened for both ways, so that neither open waits for a perf that has failed.
        let mut to = both_ways(&control)?;
        let from = both_ways(&answers)?;
        let perf = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting perf")?;
        let referee = Self { perf, directory };
        to.write_all(b"enable\n").context("asking perf to record")?;
        let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(PATIENCE_MS)).context("waiting for perf")? == 0 {
            bail!("perf does not record; it said: {}", referee.log());
        }
        Ok(referee)
    }

    /// Ends the recording and returns what it holds.
    pub(super) fn verdict(mut self) -> Result<Vec<Event>> {
        kill(Pid::from_raw(self.perf.id() as i32), Signal::SIGINT).context("ending perf")?;
        self.perf.wait().context("waiting for perf")?;
        let mut script = Command::new("perf")
            .args([
                "script",
                "--ns",
                "--show-lost-events",
                "-F",
                "time,event,trace",
                "-i",
            ])
            .arg(self.directory.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting perf script")?;
        let mut text = String::new();
        if let Some(mut out) = script.stdout.take() {
            out.read_to_string(&mut text).context("reading perf script")?;
        }
        if !script.wait().context("waiting for perf script")?.success() {
            bail!("perf script failed; perf said: {}", self.log());
        }
        if text.contains("PERF_RECORD_LOST") {
            bail!("perf lost events, so the referee has no verdict");
        }
        Ok(text.lines().filter_map(event).collect())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        // Ended already, after a verdict; on the way out of an error what can be ended is ended.
        if matches!(self.perf.try_wait(), Ok(None)) {
            drop(self.perf.kill());
            drop(self.perf.wait());
        }
    }
}

fn both_ways(fifo: &PathBuf) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(fifo)
        .with_context(|| format!("opening {}", fifo.display()))
}

/// One line of perf script.
fn event(line: &str) -> Option<Event> {
    let (time, rest) = line.trim_start().split_once(": ")?;
    let (name, trace) = rest.trim_start().split_once(": ")?;
    let number = |word: &str| {
        let (_, tail) = trace.rsplit_once(word)?;
        tail.split(' ').next()?.parse::<u32>().ok()
    };
    let what = match name {
        "sched:sched_process_exec" => What::Execed,
        "sched:sched_process_exit" => What::Exited,
        "cgroup:cgroup_attach_task" => What::Moved {
            hierarchy: number("dst_root=")?,
        },
        _ => return None,
    };
    Some(Event {
        at_ns: nanoseconds(time)?,
        pid: number(" pid=")?,
        what,
    })
}

/// `SECONDS.NANOSECONDS`, nine digits.
fn nanoseconds(time: &str) -> Option<u64> {
    let (seconds, rest) = time.split_once('.')?;
    (rest.len() == 9).then_some(())?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + rest.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_perf_script_are_read() {
        let at = |at_ns, pid, what| Some(Event { at_ns, pid, what });
        assert_eq!(
            event("36098.896419381:  sched:sched_process_exec: filename=/tmp/a pid=3 old_pid=4"),
            at(36_098_896_419_381, 3, What::Execed)
        );
        assert_eq!(
            event(" 1.000000002: sched:sched_process_exit: comm=a pid=3 prio=120 group_dead=true"),
            at(1_000_000_002, 3, What::Exited)
        );
        assert_eq!(
            event(
                "1.000000002: cgroup:cgroup_attach_task: dst_root=1 dst_id=9 dst_level=2 dst_path=/a/b pid=3 comm=c d"
            ),
            at(1_000_000_002, 3, What::Moved { hierarchy: 1 })
        );
        assert_eq!(event("no line of ours"), None);
    }
}
