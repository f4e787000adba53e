//! The real machine behind the node's policy: what is held above the jobs, and on whose behalf a job is touched.
//!
//! Owns no state of its own; nothing of another user is moved or signalled for somebody without privilege.

use ffrtmp_abi::ProcessKey;

use super::LinuxHost;
use crate::control::types::PolicyLine;
use crate::core::plan::Controller;
use crate::core::policy::{Machine, Reserve};
use crate::host::cgroup::{CgroupError, Confinement};
use crate::host::file::IoError;
use crate::host::process::{Pinned, owners};
use crate::host::source::Source;

impl LinuxHost {
    /// A user without privilege asks for this job.
    pub fn owned_by(&mut self, key: ProcessKey, uid: u32) {
        self.owners.insert(key, uid);
    }

    /// What a process would be free of in our tree.
    pub fn confinement(&self, process: &Pinned) -> Result<Confinement, CgroupError> {
        self.tree.confinement(process)
    }

    /// Has every job from now on join the hierarchies of these controllers.
    pub fn join_always(&mut self, controllers: &[Controller]) {
        self.spares.discard(&self.tree);
        self.tree.join_always(controllers);
        self.spares.refill(&self.tree);
    }

    /// Leaves the reserve to the rest of the host. Gives what is in force.
    pub fn reserve(&mut self, reserve: Reserve, machine: Option<Machine>) -> Vec<PolicyLine> {
        self.spares.discard(&self.tree);
        let lines = self.ceilings.reserve(&self.tree, reserve, machine);
        self.spares.refill(&self.tree);
        lines
    }

    /// The directory of a class in the unified hierarchy, made when it does not exist.
    pub fn v2_class(&self, class: &str) -> Result<Option<std::path::PathBuf>, IoError> {
        self.tree.v2_class(class)
    }
}

/// A job's processes beside the first one. For a user without privilege those that run as somebody else (set-uid) are
/// left out: they stay where they are.
pub(super) fn children(kernel: &Source, key: ProcessKey, owner: Option<&u32>) -> Vec<ProcessKey> {
    // A walk over all members costs 100 µs, and the kernel's own record counts them.
    if kernel.lives_alone(key) {
        return Vec::new();
    }
    let theirs =
        |child: ProcessKey| owner.is_none_or(|uid| owners(child).is_some_and(|ids| ids == [*uid; 4]));
    let members = kernel.members_of(key).into_iter();
    members.filter(|child| *child != key && theirs(*child)).collect()
}

/// As kill(2) judges: the sender must be the target's real or saved user.
pub(super) fn may_signal(uid: u32, target: ProcessKey) -> bool {
    owners(target).is_none_or(|[real, _, saved, _]| uid == real || uid == saved)
}
