//! Contenders that print a line for each process they find: execsnoop, and our own scan of /proc.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use super::super::target::Target;
use super::Group;

/// A pid and the moment it was found, nanoseconds of the monotonic clock.
type Line = (u32, u64);

/// One that runs, with its lines so far.
pub(in super::super) struct Told {
    child: Child,
    lines: Arc<Mutex<Vec<Line>>>,
    reader: Option<JoinHandle<()>>,
}

impl Told {
    /// execsnoop as Debian ships it. Its lines carry no time of the kernel's, so they are stamped when they are read;
    /// stdbuf makes it write each line at once.
    pub(super) fn execsnoop(target: &Target) -> Result<Self> {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "execsnoop"]);
        let name = target.name().to_owned();
        Self::start(command, move |line, now| {
            snooped(line, &name).map(|pid| (pid, now))
        })
    }

    /// The scan, which places as well and tells the moment itself.
    pub(super) fn scan(binaries: &Path, target: &Target, interval_ms: u64, group: &Group) -> Result<Self> {
        let mut command = Command::new(binaries.join("ffrtmp-test-scan"));
        command
            .args([target.name(), &interval_ms.to_string()])
            .arg(group.path());
        Self::start(command, |line, _| scanned(line))
    }

    fn start(
        mut command: Command,
        read: impl Fn(&str, u64) -> Option<Line> + Send + 'static,
    ) -> Result<Self> {
        let program = command.get_program().to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let out = child.stdout.take().context("its standard output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some(found) = read(&line, now_ns()) {
                        lines.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                    }
                }
            }
        });
        Ok(Self {
            child,
            lines,
            reader: Some(reader),
        })
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it found so far.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            // The pipe is closed, so it ends; one that panicked has read what it has read.
            drop(reader.join());
        }
    }
}

fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

/// `NAME PID PPID RET ARGS`, of a name that is looked for.
fn snooped(line: &str, name: &str) -> Option<u32> {
    let mut words = line.split_whitespace();
    (words.next()? == name).then(|| words.next()?.parse().ok())?
}

/// `PID NANOSECONDS`.
fn scanned(line: &str) -> Option<Line> {
    let (pid, at) = line.split_once(' ')?;
    Some((pid.parse().ok()?, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_are_read() {
        assert_eq!(
            snooped("ffb-1    77     5     0 /tmp/ffb-1 --id 3", "ffb-1"),
            Some(77)
        );
        assert_eq!(snooped("cat      78     5     0 /bin/cat", "ffb-1"), None);
        assert_eq!(snooped("PCOMM            PID    PPID   RET ARGS", "ffb-1"), None);
        assert_eq!(scanned("77 123456789"), Some((77, 123_456_789)));
        assert_eq!(scanned("usage: x"), None);
    }
}
