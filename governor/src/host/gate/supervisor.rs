//! The gate's parent: starts it, kills it when it stops or freezes, starts it again, three times within a minute at most.
//!
//! A gate that does not run holds every exec of its files; one that is dead holds none. So a stop is answered with
//! SIGKILL by a thread that does nothing but wait for it, and a freeze by another.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::note::Note;
use super::wire::Channel;
use crate::core::plan::Version;
use crate::host::cgroup::Layout;
use crate::host::file::{self, chain};
use crate::host::process::Pinned;
use crate::host::realtime;

/// Restarts allowed within [`SPAN`].
const RESTARTS: usize = 3;
/// The span they are counted in.
const SPAN: Duration = Duration::from_mins(1);

/// What the engine hears of the gate's life.
#[derive(Debug)]
pub enum GateNews {
    /// It runs.
    Started {
        /// Its pid.
        pid: u32,
        /// The way to it.
        channel: Channel,
        /// Where it could not be brought, with the reason.
        lacks: Vec<String>,
    },
    /// It ended, with the reason; another one follows unless `off` is told as well.
    Ended {
        /// How.
        why: String,
    },
    /// There will be no other until the rules are read again.
    Off {
        /// Why.
        why: String,
    },
}

/// What the supervisor needs to know.
#[derive(Debug, Clone)]
pub(super) struct Post {
    /// The program.
    pub(super) program: PathBuf,
    /// File that names the running gate, for a clean-up.
    pub(super) note: PathBuf,
    /// The hierarchies, so that it is brought out of the governor's own groups.
    pub(super) layout: Layout,
}

/// Starts the thread. It ends when the gate has ended and `stop` is set, or when it gives up.
pub(super) fn start(
    post: Post,
    stop: Arc<AtomicBool>,
    tell: impl Fn(GateNews) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("gate".to_owned())
        .spawn(move || {
            // It must run to kill a gate that does not; without priority that takes longer on a busy machine.
            let _said = realtime::raise_this_thread();
            watch_over(&post, &stop, &tell);
        })
}

fn watch_over(post: &Post, stop: &AtomicBool, tell: &impl Fn(GateNews)) {
    let mut starts = VecDeque::new();
    loop {
        let (pid, group) = match post.open(tell) {
            Ok(started) => started,
            Err(error) => {
                let why = format!("{} cannot be started: {error}", post.program.display());
                return tell(GateNews::Off { why });
            }
        };
        let why = wait_for(pid);
        group.remove();
        Note::forget(&post.note);
        tell(GateNews::Ended { why: why.clone() });
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if !may_restart(&mut starts, Instant::now()) {
            let why = format!(
                "it ended {} times within a minute, the last time because {why}",
                RESTARTS + 1
            );
            return tell(GateNews::Off { why });
        }
    }
}

/// Notes a restart, if there may be one.
fn may_restart(restarts: &mut VecDeque<Instant>, now: Instant) -> bool {
    restarts.retain(|then| now.duration_since(*then) < SPAN);
    if restarts.len() == RESTARTS {
        return false;
    }
    restarts.push_back(now);
    true
}

impl Post {
    fn open(&self, tell: &impl Fn(GateNews)) -> io::Result<(Pid, Outside)> {
        let (channel, theirs) = Channel::pair()?;
        let child = Command::new(&self.program)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .env_clear()
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        let mut lacks = Vec::new();
        let group = Outside::enter(&self.layout, pid, &mut lacks);
        if let Err(error) = Note::write(&self.note, pid, group.dir.as_deref()) {
            lacks.push(format!("noted for a clean-up: {error}"));
        }
        if let Some(dir) = &group.dir
            && let Err(why) = watch_freeze(dir, pid)
        {
            lacks.push(format!("watched for a freeze: {why}"));
        }
        tell(GateNews::Started { pid, channel, lacks });
        Ok((Pid::from_raw(pid.cast_signed()), group))
    }
}

/// Blocks until our child has ended. Kills it when it stops.
fn wait_for(pid: Pid) -> String {
    let mut stopped = false;
    loop {
        match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED) {
            Ok(WaitStatus::Exited(_, code)) => return format!("it exited with {code}"),
            Ok(WaitStatus::Signaled(..)) if stopped => {
                return "it was stopped, and therefore killed".to_owned();
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => return format!("it was killed by {signal}"),
            Ok(_) => {
                stopped = true;
                // It is our child and not yet waited for, so the pid is its own.
                let _ended = kill(pid, Signal::SIGKILL);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return format!("it cannot be waited for: {error}"),
        }
    }
}

/// Kills a gate whose v2 group is frozen, or a group above it: no parent is told of that. v1 cannot be told, nor killed.
fn watch_freeze(dir: &Path, pid: u32) -> Result<(), String> {
    let gate = Pinned::of_pid(pid).map_err(|error| chain(&error))?;
    let path = dir.join("cgroup.events");
    let events = File::open(&path).map_err(|error| error.to_string())?;
    let watch = move || {
        let _said = realtime::raise_this_thread();
        loop {
            // Read through the descriptor that is polled, or kernfs goes on telling of the same change for ever.
            let mut room = [0; 64];
            let read = events.read_at(&mut room, 0).unwrap_or(0);
            if room[..read]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"frozen 1")
            {
                // One that ended meanwhile is as good.
                let _ended = gate.signal(libc::SIGKILL);
            }
            let mut fds = [
                PollFd::new(events.as_fd(), PollFlags::POLLPRI),
                PollFd::new(gate.as_fd(), PollFlags::POLLIN),
            ];
            let found = poll(&mut fds, PollTimeout::NONE);
            let ended = fds[1].revents().is_some_and(|what| !what.is_empty());
            if ended || (found.is_err() && found != Err(nix::errno::Errno::EINTR)) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("gate-freeze".to_owned());
    thread.spawn(watch).map(drop).map_err(|error| error.to_string())
}

/// Where the gate sits: a v2 group of its own at the top, and the root of every v1 hierarchy, which nobody can freeze.
#[derive(Debug)]
struct Outside {
    dir: Option<PathBuf>,
}

impl Outside {
    fn enter(layout: &Layout, pid: u32, lacks: &mut Vec<String>) -> Self {
        let mut dir = None;
        for hierarchy in &layout.hierarchies {
            let target = match hierarchy.version {
                Version::V2 => hierarchy.mount.join(format!("ffrtmp-gate-{pid}")),
                Version::V1 => hierarchy.mount.clone(),
            };
            let v2 = hierarchy.version == Version::V2;
            let made = if v2 {
                std::fs::create_dir(&target).map_err(|error| error.to_string())
            } else {
                Ok(())
            };
            let moved = made.and_then(|()| {
                file::write(&target.join("cgroup.procs"), &pid.to_string()).map_err(|error| chain(&error))
            });
            if let Err(why) = moved {
                lacks.push(format!(
                    "outside the governor's groups in {}: {why}",
                    hierarchy.name
                ));
            }
            if v2 {
                dir = Some(target);
            }
        }
        Self { dir }
    }

    fn remove(&self) {
        if let Some(dir) = &self.dir
            && let Err(error) = std::fs::remove_dir(dir)
        {
            tracing::debug!(%error, dir = %dir.display(), "the gate's group stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_started_again_three_times_a_minute() {
        let mut restarts = VecDeque::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let answers: Vec<bool> = [0, 10, 20, 30, 61, 65]
            .into_iter()
            .map(|seconds| may_restart(&mut restarts, at(seconds)))
            .collect();
        assert_eq!(answers, [true, true, true, false, true, false]);
    }
}
