//! What belongs to a process rather than a group: nice, disk priority, out-of-memory score.
//!
//! Each is set for every thread that has it, and read back. Refuses to act without a [`Pinned`] process.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use ffrtmp_api::{IoClass, IoPriority, LimitOutcome, Limits};

use super::file::{self, chain};
use super::process::{Pinned, ProcessError};
use crate::core::origin::Attributes;
use crate::core::plan::not_enforced;

/// The warning users of the predecessor know.
pub const NEGATIVE_NICE_REFUSED: &str = "Cannot set negative nice (requires root), using 0";

/// Looks at the list of threads this often, until no new one turned up.
const THREAD_ROUNDS: usize = 4;

/// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_SHIFT` of `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// What came of setting some attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// In force, read back.
    pub applied: Vec<LimitOutcome>,
    /// Not in force, with the reason.
    pub warnings: Vec<String>,
}

/// Sets the attributes that `limits` ask for.
pub fn apply(process: &Pinned, limits: &Limits) -> Applied {
    let mut done = Applied::default();
    if let Some(nice) = limits.nice {
        let outcome = set_nice(process, nice);
        done.take("nice", "setpriority", outcome);
    }
    if let Some(io) = limits.io_priority {
        let outcome = set_io(process, encode(io)).map(describe_io);
        done.take("io_priority", "ioprio_set", outcome);
    }
    if let Some(score) = limits.oom_score_adj {
        let outcome = set_oom(process, score);
        done.take("oom_score_adj", "oom_score_adj", outcome);
    }
    done
}

/// Reads the attributes as they stand.
pub fn read(process: &Pinned) -> Attributes {
    Attributes {
        nice: get_nice(process.pid()).ok(),
        io_priority: get_io(process.pid()).ok(),
        oom_score_adj: get_oom(process).ok(),
    }
}

/// Notes the attributes that `limits` ask for as they stand, to be put back later. One that is noted already is what it
/// was before we set it for the first time.
pub fn remember(process: &Pinned, limits: &Limits, before: &mut Attributes) {
    if limits.nice.is_some() && before.nice.is_none() {
        before.nice = get_nice(process.pid()).ok();
    }
    if limits.io_priority.is_some() && before.io_priority.is_none() {
        before.io_priority = get_io(process.pid()).ok();
    }
    if limits.oom_score_adj.is_some() && before.oom_score_adj.is_none() {
        before.oom_score_adj = get_oom(process).ok();
    }
}

/// Puts back what `asked` changed: an attribute that still has the value we set. One that the workload, or somebody
/// else, has set since is left alone. Gives what was changed, a line each, and what could not be.
pub fn restore(process: &Pinned, before: &Attributes, asked: &Limits) -> (Vec<String>, Vec<String>) {
    let now = read(process);
    let pid = process.pid();
    let (mut undone, mut warnings) = (Vec::new(), Vec::new());
    let mut note = |what: String, outcome: Result<(), SetError>| match outcome {
        Ok(()) => undone.push(what),
        Err(error) if error.is_gone() => {}
        Err(error) => warnings.push(format!("{what} failed: {}", chain(&error))),
    };
    if let Some(nice) = due(before.nice, now.nice, asked.nice) {
        note(
            format!("process {pid}: nice back to {nice}"),
            set_nice(process, nice).map(drop),
        );
    }
    if let Some(io) = due(before.io_priority, now.io_priority, asked.io_priority.map(encode)) {
        let shown = describe_io(io);
        note(
            format!("process {pid}: disk priority back to {shown}"),
            set_io(process, io).map(drop),
        );
    }
    if let Some(score) = due(before.oom_score_adj, now.oom_score_adj, asked.oom_score_adj) {
        note(
            format!("process {pid}: oom_score_adj back to {score}"),
            set_oom(process, score).map(drop),
        );
    }
    (undone, warnings)
}

/// The value to go back to, when the present one is ours and another than before.
fn due(before: Option<i32>, now: Option<i32>, asked: Option<i32>) -> Option<i32> {
    before.filter(|_| asked.is_some() && now == asked && now != before)
}

/// Why an attribute is not as asked.
#[derive(Debug, thiserror::Error)]
enum SetError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{NEGATIVE_NICE_REFUSED}")]
    NegativeNice,
    #[error("{call} of thread {tid} to {value}")]
    Call {
        call: &'static str,
        tid: u32,
        value: i32,
        source: io::Error,
    },
    #[error(
        "going below the score it has needs CAP_SYS_RESOURCE, which this process lacks; add it to the governor's unit"
    )]
    OomFloor(#[source] file::IoError),
    #[error("cannot write the score")]
    File(#[from] file::IoError),
    #[error("asked for {asked}, the kernel shows {found}")]
    Differs { asked: String, found: String },
}

impl SetError {
    fn is_gone(&self) -> bool {
        match self {
            Self::Process(error) => error.is_gone(),
            Self::File(error) => error.is_gone(),
            _ => false,
        }
    }
}

impl Applied {
    fn take(&mut self, limit: &str, target: &str, outcome: Result<String, SetError>) {
        match outcome {
            Ok(value) => self.applied.push(LimitOutcome {
                limit: limit.to_owned(),
                target: target.to_owned(),
                value,
            }),
            Err(SetError::NegativeNice) => self.warnings.push(NEGATIVE_NICE_REFUSED.to_owned()),
            Err(error) => self.warnings.push(not_enforced(limit, chain(&error))),
        }
    }
}

/// Runs `set` on every thread, again for threads that were born meanwhile. A thread that ended is no failure.
fn every_thread(
    process: &Pinned,
    mut set: impl FnMut(u32) -> Result<(), SetError>,
) -> Result<BTreeSet<u32>, SetError> {
    let mut seen = BTreeSet::new();
    for _ in 0..THREAD_ROUNDS {
        process.check()?;
        let fresh: Vec<u32> = threads(process)?.difference(&seen).copied().collect();
        if fresh.is_empty() {
            break;
        }
        for tid in fresh {
            match set(tid) {
                Err(SetError::Call { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
            seen.insert(tid);
        }
    }
    process.check()?;
    Ok(seen)
}

fn threads(process: &Pinned) -> Result<BTreeSet<u32>, SetError> {
    let path = PathBuf::from(format!("/proc/{}/task", process.pid()));
    let entries = std::fs::read_dir(&path)
        .map_err(|error| ProcessError::read(process.pid(), file::IoError::new("list", &path, error)))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

fn set_nice(process: &Pinned, nice: i32) -> Result<String, SetError> {
    let threads = every_thread(process, |tid| {
        // SAFETY: the call takes three integers. The cast follows the C prototype, which differs between libcs.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS as _, tid, nice) };
        if result == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        if nice < 0 && matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM)) {
            return Err(SetError::NegativeNice);
        }
        Err(SetError::Call {
            call: "setpriority",
            tid,
            value: nice,
            source,
        })
    })?;
    agree(&threads, nice, get_nice)?;
    Ok(nice.to_string())
}

/// Fails when some thread that still lives shows another value.
fn agree(threads: &BTreeSet<u32>, asked: i32, get: fn(u32) -> io::Result<i32>) -> Result<(), SetError> {
    match threads
        .iter()
        .filter_map(|&tid| get(tid).ok())
        .find(|&found| found != asked)
    {
        None => Ok(()),
        Some(found) => Err(SetError::Differs {
            asked: asked.to_string(),
            found: found.to_string(),
        }),
    }
}

fn get_nice(tid: u32) -> io::Result<i32> {
    // -1 is a nice value as well as an error, so errno decides.
    nix::errno::Errno::clear();
    // SAFETY: the call takes two integers. The cast follows the C prototype, which differs between libcs.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS as _, tid) };
    match nix::errno::Errno::last_raw() {
        errno if nice == -1 && errno != 0 => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok(nice),
    }
}

fn encode(io: IoPriority) -> i32 {
    // IOPRIO_CLASS_RT, _BE and _IDLE of `linux/ioprio.h`.
    let (class, level) = match io.class {
        IoClass::Realtime => (1, io.level),
        IoClass::BestEffort => (2, io.level),
        IoClass::Idle => (3, 0),
    };
    (class << IOPRIO_CLASS_SHIFT) | i32::from(level)
}

fn describe_io(value: i32) -> String {
    let level = value & 7;
    match value >> IOPRIO_CLASS_SHIFT {
        1 => format!("realtime {level}"),
        2 => format!("best-effort {level}"),
        3 => "idle".to_owned(),
        _ => "none".to_owned(),
    }
}

fn set_io(process: &Pinned, value: i32) -> Result<i32, SetError> {
    let threads = every_thread(process, |tid| {
        // SAFETY: the call takes three integers.
        let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, value) };
        if result == 0 {
            return Ok(());
        }
        Err(SetError::Call {
            call: "ioprio_set",
            tid,
            value,
            source: io::Error::last_os_error(),
        })
    })?;
    // Class "none" reads back as the class that follows from nice, so only a real class can be compared.
    if value >> IOPRIO_CLASS_SHIFT != 0 {
        agree(&threads, value, get_io)?;
    }
    Ok(value)
}

fn get_io(tid: u32) -> io::Result<i32> {
    // SAFETY: the call takes two integers.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) };
    match i32::try_from(value) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn oom_path(process: &Pinned) -> PathBuf {
    PathBuf::from(format!("/proc/{}/oom_score_adj", process.pid()))
}

fn set_oom(process: &Pinned, score: i32) -> Result<String, SetError> {
    process.check()?;
    // The kernel gives EACCES for a score below the floor, which is where a privileged process last set it.
    let below = get_oom(process).is_ok_and(|now| score < now);
    file::write(&oom_path(process), &score.to_string()).map_err(|error| match error.errno() {
        Some(libc::EACCES) if below => SetError::OomFloor(error),
        _ => SetError::File(error),
    })?;
    process.check()?;
    let found = get_oom(process)?;
    if found == score {
        return Ok(score.to_string());
    }
    Err(SetError::Differs {
        asked: score.to_string(),
        found: found.to_string(),
    })
}

fn get_oom(process: &Pinned) -> Result<i32, SetError> {
    let text = file::read(&oom_path(process))?;
    text.trim().parse().map_err(|_| {
        SetError::Process(ProcessError::Parse {
            pid: process.pid(),
            file: "oom_score_adj",
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs `body` with a sleeping process and ends it.
    fn with_sleeper(body: impl FnOnce(&Pinned)) {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        body(&pinned);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn asked() -> Limits {
        Limits {
            nice: Some(7),
            io_priority: Some(IoPriority {
                class: IoClass::BestEffort,
                level: 6,
            }),
            oom_score_adj: Some(500),
            ..Limits::default()
        }
    }

    #[test]
    fn attributes_are_set_read_back_and_put_back() {
        with_sleeper(|process| {
            let before = read(process);
            let done = apply(process, &asked());
            assert_eq!(done.warnings, Vec::<String>::new());
            let shown: Vec<_> = done
                .applied
                .iter()
                .map(|one| format!("{} {}", one.limit, one.value))
                .collect();
            assert_eq!(
                shown,
                ["nice 7", "io_priority best-effort 6", "oom_score_adj 500"]
            );
            assert_eq!(read(process).nice, Some(7));
            let (undone, warnings) = restore(process, &before, &asked());
            // Going back to a lower nice needs CAP_SYS_NICE, which root has.
            if nix::unistd::geteuid().is_root() {
                assert_eq!(warnings, Vec::<String>::new());
                assert_eq!(undone.len(), 3, "{undone:?}");
                assert_eq!(read(process), before);
            }
        });
    }

    #[test]
    fn every_thread_of_a_process_gets_the_nice_value() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // The value is set for this one thread's sake, and only raised, so the test needs no privilege.
            let _ended = wait.recv();
        });
        let me = Pinned::of_pid(std::process::id()).unwrap();
        let tids = threads(&me).unwrap();
        assert!(tids.len() >= 2);
        let mut seen = BTreeSet::new();
        every_thread(&me, |tid| {
            seen.insert(tid);
            Ok(())
        })
        .unwrap();
        assert!(
            tids.iter()
                .filter(|&&tid| get_nice(tid).is_ok())
                .all(|tid| seen.contains(tid))
        );
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn nothing_is_set_on_a_process_that_ended() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pinned = Pinned::of_pid(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let done = apply(&pinned, &asked());
        assert!(done.applied.is_empty());
        assert_eq!(done.warnings.len(), 3);
        assert!(done.warnings[0].contains("has ended"), "{:?}", done.warnings);
    }

    #[test]
    fn a_refused_negative_nice_reads_as_users_know_it() {
        let mut done = Applied::default();
        done.take("nice", "setpriority", Err(SetError::NegativeNice));
        assert_eq!(
            done.warnings,
            ["Cannot set negative nice (requires root), using 0"]
        );
    }

    #[test]
    fn what_somebody_else_set_since_is_not_put_back() {
        for (before, now, asked, back) in [
            (Some(0), Some(5), Some(5), Some(0)),
            (Some(0), Some(7), Some(5), None),
            (Some(0), Some(7), None, None),
            (Some(5), Some(5), Some(5), None),
            (None, Some(5), Some(5), None),
            (Some(0), None, Some(5), None),
        ] {
            assert_eq!(due(before, now, asked), back);
        }
    }

    #[test]
    fn disk_priorities_are_encoded_as_the_kernel_reads_them() {
        for (class, level, value, shown) in [
            (IoClass::Realtime, 0, 0x2000, "realtime 0"),
            (IoClass::BestEffort, 7, 0x4007, "best-effort 7"),
            (IoClass::Idle, 5, 0x6000, "idle"),
        ] {
            assert_eq!(encode(IoPriority { class, level }), value);
            assert_eq!(describe_io(value), shown);
        }
        assert_eq!(describe_io(0), "none");
    }
}
