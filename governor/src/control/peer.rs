//! Who is at the other end of the socket, and what they may do.
//!
//! Root and members of group `ffrtmp` may do everything. Anybody else may look (the command lines of others hidden),
//! may attach processes of their own, and only downwards: nothing that gives a process more than it has. What a rule
//! of the administrator put in place, only the privileged undo.
//!
//! The checks here read /proc by pid, so a pid that is reused between the check and the placement could slip through:
//! the engine repeats the ownership check on the process it holds a pidfd of, with the same [`Peer`].

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use ffrtmp_api::{IoClass, Limits};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use procfs::process::Process;
use tokio::net::UnixListener;

use super::types::{AttachRequest, ErrorCode, JobEvent, JobView, Peer, ReleaseRequest, RequestError};
use crate::core::facts::Found;

/// Members of this group may do what root may.
pub const GROUP: &str = "ffrtmp";

/// Weight of every group that asks for none, in the kernel.
const CPU_WEIGHT_DEFAULT: u32 = 100;
/// The default weight of BFQ, 100 of 1000, on the users' scale of 1 to 100.
const IO_WEIGHT_DEFAULT: u32 = 10;

/// What `SO_PEERCRED` said when the connection was made; `None` when the kernel did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credentials(Option<(u32, u32)>);

impl Connected<IncomingStream<'_, UnixListener>> for Credentials {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|cred| (cred.uid(), cred.gid())))
    }
}

impl Credentials {
    /// Who that is. Reads the group database for anybody but root, so call it where blocking is allowed.
    pub(super) fn peer(self, group: &str) -> Peer {
        match self.0 {
            None => Peer {
                uid: u32::MAX,
                privileged: false,
            },
            Some((0, _)) => Peer {
                uid: 0,
                privileged: true,
            },
            Some((uid, gid)) => Peer {
                uid,
                privileged: is_member(uid, gid, group),
            },
        }
    }
}

/// A failing look-up makes nobody a member.
fn is_member(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else {
        return false;
    };
    if group.gid.as_raw() == gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    std::ffi::CString::new(user.name)
        .ok()
        .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok())
        .is_some_and(|groups| groups.contains(&group.gid))
}

/// Ourselves, for an engine in this process.
pub fn ourselves() -> Peer {
    let uid = nix::unistd::geteuid().as_raw();
    Peer {
        uid,
        privileged: uid == 0,
    }
}

/// Refuses a request that only the privileged may make.
pub(super) fn privileged_only(peer: Peer, what: &str) -> Result<(), RequestError> {
    if peer.privileged {
        return Ok(());
    }
    Err(not_allowed(format!(
        "only root and members of group {GROUP} may {what}"
    )))
}

fn not_allowed(message: impl Into<String>) -> RequestError {
    RequestError::new(
        ErrorCode::NotAllowed,
        message,
        format!("use sudo, or have root add you to the group: usermod -aG {GROUP} YOU (then log in again)"),
    )
}

/// Checks a request to attach. `jobs` are the live ones. Blocking: reads /proc.
pub(super) fn may_attach(peer: Peer, request: &AttachRequest, jobs: &[JobView]) -> Result<(), RequestError> {
    if peer.privileged {
        return Ok(());
    }
    let now = Standing::read(request.pid)?;
    if !now.owners.iter().all(|uid| *uid == peer.uid) {
        return Err(not_allowed(format!(
            "process {} belongs to another user",
            request.pid
        )));
    }
    downwards(&request.limits, &now)?;
    let governed = jobs
        .iter()
        .find(|job| job.live > 0 && job.key.0.pid == request.pid);
    governed.map_or(Ok(()), |job| tightens(&job.report.limits.asked, &request.limits))
}

/// How a process stands before it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    /// Real, effective, saved and file-system user: all must be the caller's, or a set-uid program could be governed.
    owners: [u32; 4],
    nice: i64,
    oom_score_adj: i32,
}

impl Standing {
    fn read(pid: u32) -> Result<Self, RequestError> {
        let gone = |_| {
            RequestError::new(
                ErrorCode::NoSuchProcess,
                format!("no process has pid {pid}"),
                "`pgrep -a ffmpeg` lists candidates; it may have ended already",
            )
        };
        let process = Process::new(i32::try_from(pid).unwrap_or(-1)).map_err(gone)?;
        let status = process.status().map_err(gone)?;
        Ok(Self {
            owners: [status.ruid, status.euid, status.suid, status.fuid],
            nice: process.stat().map_err(gone)?.nice,
            oom_score_adj: i32::from(process.oom_score_adj().map_err(gone)?),
        })
    }
}

/// Refuses limits that would give a process more than it has.
fn downwards(asked: &Limits, now: &Standing) -> Result<(), RequestError> {
    let raised = |field: &str, found: String, most: String| {
        Err(not_allowed(format!(
            "{field}: {found} would raise the process; without privilege it may be {most}"
        )))
    };
    if let Some(nice) = asked.nice
        && (nice < 0 || i64::from(nice) < now.nice)
    {
        return raised("nice", nice.to_string(), format!("{} or more", now.nice.max(0)));
    }
    if let Some(score) = asked.oom_score_adj
        && (score < 0 || score < now.oom_score_adj)
    {
        return raised(
            "oom_score_adj",
            score.to_string(),
            format!("{} or more", now.oom_score_adj.max(0)),
        );
    }
    if let Some(weight) = asked.cpu_weight
        && weight > CPU_WEIGHT_DEFAULT
    {
        return raised(
            "cpu_weight",
            weight.to_string(),
            format!("at most {CPU_WEIGHT_DEFAULT}"),
        );
    }
    if let Some(weight) = asked.io_weight
        && weight > IO_WEIGHT_DEFAULT
    {
        return raised(
            "io_weight",
            weight.to_string(),
            format!("at most {IO_WEIGHT_DEFAULT}"),
        );
    }
    if asked
        .io_priority
        .is_some_and(|priority| priority.class == IoClass::Realtime)
    {
        return raised(
            "io_priority",
            "realtime".to_owned(),
            "best-effort or idle".to_owned(),
        );
    }
    Ok(())
}

/// Refuses limits looser than those that govern the process already.
fn tightens(old: &Limits, new: &Limits) -> Result<(), RequestError> {
    let rate = |limits: &Limits| {
        limits
            .cpu_max
            .and_then(|max| Some((max.quota_us?, max.period_us)))
    };
    let looser = [
        (
            "cpu_max",
            match (rate(old), rate(new)) {
                (None, _) => false,
                (Some(_), None) => true,
                // quota/period compared without division.
                (Some((old_quota, old_period)), Some((quota, period))) => {
                    u128::from(quota) * u128::from(old_period) > u128::from(old_quota) * u128::from(period)
                }
            },
        ),
        ("cpu_weight", is_looser(old.cpu_weight, new.cpu_weight)),
        ("memory_max", is_looser(old.memory_max, new.memory_max)),
        ("io_weight", is_looser(old.io_weight, new.io_weight)),
        ("pids_max", is_looser(old.pids_max, new.pids_max)),
        // Whether one list of devices or CPUs is within another is not worth a parser here: it must stay as it is.
        ("io_max", old.io_max.is_some() && old.io_max != new.io_max),
        ("cpu_set", old.cpu_set.is_some() && old.cpu_set != new.cpu_set),
        ("nice", is_looser(old.nice.map(lowered), new.nice.map(lowered))),
        (
            "oom_score_adj",
            is_looser(old.oom_score_adj.map(lowered), new.oom_score_adj.map(lowered)),
        ),
    ];
    match looser.iter().find(|(_, looser)| *looser) {
        None => Ok(()),
        Some((field, _)) => Err(not_allowed(format!(
            "{field}: the process is governed already, and this would loosen its limit"
        ))),
    }
}

/// For limits where less is more.
fn lowered(value: i32) -> i64 {
    -i64::from(value)
}

fn is_looser<T: PartialOrd>(old: Option<T>, new: Option<T>) -> bool {
    match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => new > old,
    }
}

/// Checks a request to release. Jobs that the administrator's rules found stay governed.
pub(super) fn may_release(
    peer: Peer,
    request: &ReleaseRequest,
    jobs: &[JobView],
) -> Result<(), RequestError> {
    if peer.privileged {
        return Ok(());
    }
    let ReleaseRequest::One(name) = request else {
        return privileged_only(peer, "release every job");
    };
    for job in jobs.iter().filter(|job| job.live > 0 && is_named(job, name)) {
        if job.uid != peer.uid {
            return Err(not_allowed(format!("job {name} belongs to another user")));
        }
        if !matches!(job.found, Found::Attach | Found::Run) {
            return Err(not_allowed(format!(
                "job {name} is governed by a rule of the administrator"
            )));
        }
    }
    Ok(())
}

/// Whether a text that a user typed names this job: by key, pid or label.
pub(super) fn is_named(job: &JobView, name: &str) -> bool {
    job.report.job_id.as_str() == name || job.key.to_string() == name || job.key.0.pid.to_string() == name
}

/// Checks a request to explain. `owner` is the job's user where the process belongs to one. Blocking: reads /proc.
pub(super) fn may_explain(peer: Peer, pid: u32, owner: Option<u32>) -> Result<(), RequestError> {
    if peer.privileged {
        return Ok(());
    }
    let own = match owner {
        Some(uid) => uid == peer.uid,
        None => Standing::read(pid)?.owners[0] == peer.uid,
    };
    if own {
        Ok(())
    } else {
        Err(not_allowed(format!("process {pid} belongs to another user")))
    }
}

/// The job as this peer may see it: the command lines of others are hidden.
pub(super) fn job_for(peer: Peer, mut job: JobView) -> JobView {
    if !peer.privileged && job.uid != peer.uid {
        job.report.command = None;
    }
    job
}

/// The same for an event.
pub(super) fn event_for(peer: Peer, event: JobEvent) -> JobEvent {
    JobEvent {
        job: job_for(peer, event.job),
        ..event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::live_job;
    use ffrtmp_api::{CpuMax, IoPriority};

    const NOBODY: Peer = Peer {
        uid: 65534,
        privileged: false,
    };

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn without_privilege_a_process_is_only_moved_downwards() {
        let now = Standing {
            owners: [65534; 4],
            nice: 5,
            oom_score_adj: 100,
        };
        let realtime = IoPriority {
            class: IoClass::Realtime,
            level: 0,
        };
        let rows: [(Limits, bool); 12] = [
            (Limits::default(), true),
            (limits(|l| l.nice = Some(10)), true),
            (limits(|l| l.nice = Some(5)), true),
            (limits(|l| l.nice = Some(4)), false),
            (limits(|l| l.nice = Some(-1)), false),
            (limits(|l| l.oom_score_adj = Some(100)), true),
            (limits(|l| l.oom_score_adj = Some(99)), false),
            (limits(|l| l.cpu_weight = Some(100)), true),
            (limits(|l| l.cpu_weight = Some(101)), false),
            (limits(|l| l.io_weight = Some(11)), false),
            (limits(|l| l.io_priority = Some(realtime)), false),
            (limits(|l| l.memory_max = Some(1 << 30)), true),
        ];
        for (asked, allowed) in rows {
            assert_eq!(downwards(&asked, &now).is_ok(), allowed, "{asked:?}");
        }
    }

    #[test]
    fn without_privilege_limits_in_force_are_only_tightened() {
        let old = limits(|l| {
            l.cpu_max = CpuMax::from_percent(50);
            l.memory_max = Some(100 << 20);
            l.nice = Some(5);
        });
        let with = |change: fn(&mut Limits)| {
            let mut new = old.clone();
            change(&mut new);
            tightens(&old, &new).is_ok()
        };
        assert!(with(|_| ()));
        assert!(with(|l| l.cpu_max = CpuMax::from_percent(20)));
        assert!(with(|l| l.pids_max = Some(3)));
        assert!(with(|l| l.nice = Some(6)));
        assert!(!with(|l| l.cpu_max = CpuMax::from_percent(51)));
        assert!(!with(|l| l.cpu_max = "max".parse().ok()));
        assert!(!with(|l| l.memory_max = None));
        assert!(!with(|l| l.nice = Some(4)));
    }

    #[test]
    fn the_command_lines_of_others_are_hidden() {
        let theirs = live_job(1, 1, 1000, "a");
        let own = live_job(2, 1, 65534, "b");
        assert_eq!(job_for(NOBODY, theirs.clone()).report.command, None);
        assert_eq!(job_for(NOBODY, own.clone()), own);
        let root = Peer {
            uid: 0,
            privileged: true,
        };
        assert_eq!(job_for(root, theirs.clone()), theirs);
    }

    #[test]
    fn without_privilege_only_own_attachments_are_released() {
        let mut attached = live_job(1, 1, 65534, "attached");
        attached.found = Found::Attach;
        let jobs = [
            attached,
            live_job(2, 1, 65534, "by-rule"),
            live_job(3, 1, 1000, "theirs"),
        ];
        let may = |name: &str| may_release(NOBODY, &ReleaseRequest::One(name.to_owned()), &jobs).is_ok();
        assert!(may("attached") && may("1") && may("1-1"));
        assert!(!may("by-rule") && !may("theirs"));
        assert!(may_release(NOBODY, &ReleaseRequest::All, &jobs).is_err());
    }

    #[test]
    fn a_process_of_another_user_is_refused_and_a_dead_one_is_named() {
        let request = |pid| AttachRequest {
            pid,
            found: Found::Attach,
            job_id: None,
            limits: Limits::default(),
            intent: ffrtmp_api::Intent::Production,
            sla_eligible: false,
            timeout_ms: None,
            placement: None,
            command: None,
        };
        let refused = may_attach(NOBODY, &request(std::process::id()), &[]).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotAllowed);
        assert!(refused.hint.is_some());
        let dead = may_attach(NOBODY, &request(u32::MAX), &[]).unwrap_err();
        assert_eq!(dead.code, ErrorCode::NoSuchProcess);
    }

    #[test]
    fn root_is_privileged_and_a_connection_without_credentials_is_not() {
        assert!(Credentials(Some((0, 0))).peer(GROUP).privileged);
        assert!(!Credentials(None).peer(GROUP).privileged);
        assert!(!Credentials(Some((65534, 65534))).peer("no-such-group").privileged);
        let nogroup = Group::from_gid(Gid::from_raw(65534)).unwrap().unwrap().name;
        assert!(Credentials(Some((65534, 65534))).peer(&nogroup).privileged);
    }
}
