//! What a caller without privilege may ask of a live process: nothing about others, and nothing that gives it more.
//!
//! The routes have judged the request by pid already; here it is judged again on the process that is acted on. Owns the
//! refusals that need the kernel's maps or the process's groups.

use ffrtmp_abi::TaskRow;

use super::Worker;
use crate::control::types::{AttachRequest, ErrorCode, Peer, RequestError};
use crate::core::rule::PlacementMode;
use crate::host::process::{Pinned, owners};

impl Worker {
    /// The request as far as this caller may make it, and a warning for what was changed; or why it may not.
    pub(super) fn unprivileged(
        &self,
        request: &AttachRequest,
        row: &TaskRow,
        peer: Peer,
    ) -> Result<(AttachRequest, Option<String>), RequestError> {
        let pid = request.pid;
        if row.uid != peer.uid || owners(row.key).is_none_or(|ids| ids.iter().any(|id| *id != peer.uid)) {
            return Err(RequestError::new(
                ErrorCode::NotAllowed,
                format!("process {pid} belongs to another user (uid {})", row.uid),
                "attach only your own processes, or ask root or a member of group ffrtmp",
            ));
        }
        let governed = self.brain.core.view(row.key);
        if governed.as_ref().is_some_and(|view| view.report.rule.is_some()) {
            return Err(RequestError::new(
                ErrorCode::NotAllowed,
                format!("process {pid} is governed by a rule of this node"),
                "only root and members of group ffrtmp may change its limits",
            ));
        }
        // A process that leaves the job it was born into leaves that job's limits as well.
        let root = self.brain.host.kernel.root_of(row.key);
        if let Some(root) = root.filter(|root| *root != row.key) {
            return Err(RequestError::new(
                ErrorCode::NotAllowed,
                format!("process {pid} belongs to the job of process {}", root.pid),
                "its limits hold for all of the job; only root and members of group ffrtmp may take one process out",
            ));
        }
        Ok(self.confined(request, row))
    }

    /// A process under limits of its own groups stays there: in our tree it would be free of them.
    fn confined(&self, request: &AttachRequest, row: &TaskRow) -> (AttachRequest, Option<String>) {
        let mut request = request.clone();
        let found = Pinned::open(row.key)
            .map_err(Into::into)
            .and_then(|process| self.brain.host.confinement(&process));
        let why = match found {
            Ok(found) => {
                if let Some(most) = found.pids_max {
                    let asked = request.limits.pids_max.unwrap_or(most);
                    request.limits.pids_max = Some(asked.min(most));
                }
                found.limit
            }
            // It ended, or cannot be looked at; what follows fails on its own or changes no group.
            Err(error) => Some(error.to_string()),
        };
        let stays = !matches!(
            request.placement,
            Some(PlacementMode::InPlace | PlacementMode::Observe)
        );
        let why = why.filter(|_| stays).map(|why| {
            request.placement = Some(PlacementMode::InPlace);
            format!(
                "it stays in its own group, whose limits it would escape by a move ({why}); root or a member of group \
                 ffrtmp may move it"
            )
        });
        (request, why)
    }
}
