//! What makes the gate hard to hurt: it cannot dump core, is locked in memory, comes before every normal thread, is the
//! last the kernel kills for memory, and ends with its parent.
//!
//! Each protection that cannot be had is said, and the gate works without it.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::host::file;
use crate::host::realtime;

/// Puts on all of it. Gives what could not be had, with the reason.
pub(super) fn put_on() -> Vec<String> {
    let mut lacks = Vec::new();
    let mut try_to = |what: &str, done: Result<(), String>| {
        if let Err(why) = done {
            lacks.push(format!("{what}: {why}"));
        }
    };
    let text = |error: nix::Error| error.to_string();
    try_to(
        "sure to end with the governor while it is stopped",
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(text),
    );
    try_to(
        "kept from dumping core",
        nix::sys::prctl::set_dumpable(false)
            .and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0))
            .map_err(text),
    );
    try_to(
        "given all the descriptors the host allows",
        getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most))
            .map_err(text),
    );
    try_to(
        "at real-time priority; on busy CPUs it waits for a tick, so grant CAP_SYS_NICE",
        realtime::raise_this_thread().map_err(|error| error.to_string()),
    );
    try_to(
        "exempt from the out-of-memory killer; grant CAP_SYS_RESOURCE",
        file::write("/proc/self/oom_score_adj".as_ref(), "-1000").map_err(|error| file::chain(&error)),
    );
    lacks
}

/// Locks what is mapped now and later. Called when all threads run, so that their stacks are in.
pub(super) fn lock_memory() -> Result<(), String> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|error| format!("locked in memory; grant CAP_IPC_LOCK: {error}"))
}

/// Descriptors that may be open at once.
pub(super) fn descriptors_max() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(now, _)| usize::try_from(now).unwrap_or(usize::MAX))
}
