//! Whether a group is on its way to being empty, and the file that tells when it is.
//!
//! Looks only; what is done about it is the host's.

use std::io::Read;

use super::cgroup::Group;
use super::process::is_running;

/// The group's `cgroup.events` while all that is left in it is on its way out. A group that holds a live process holds
/// a stranger, and one on v1 alone has no such file; neither is waited for.
pub(super) fn still_leaving(group: &Group) -> Option<std::fs::File> {
    let (events, text) = events_of(group)?;
    let populated = text.lines().any(|line| line == "populated 1");
    (populated && group.pids().is_ok_and(|pids| !pids.into_iter().any(is_running))).then_some(events)
}

/// The group's `cgroup.events`, read; it reports changes after the reading. v1 alone has no such file.
pub(super) fn events_of(group: &Group) -> Option<(std::fs::File, String)> {
    let path = group.dirs().first()?.path.join("cgroup.events");
    let mut events = std::fs::File::open(path).ok()?;
    let mut text = String::new();
    events.read_to_string(&mut text).ok()?;
    Some((events, text))
}
