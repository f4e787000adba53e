//! The groups that the gate is given: made ready, lent, and taken back.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::wire::Order;
use super::{Gate, Tree};
use crate::core::gate::Kind;
use crate::host::cgroup::{CgroupError, Prepared};
use crate::host::file::chain;

impl Gate {
    /// Takes all groups back, because what stands above them changes. New ones come with [`Self::refill`].
    pub fn discard(&mut self, tree: &Tree) {
        self.take_back(tree, |_| true);
    }

    /// Takes groups back. One that was used this instant stays, and is told of.
    pub(super) fn take_back(&mut self, tree: &Tree, which: impl Fn(u32) -> bool) {
        let kinds: BTreeSet<u32> = self
            .lent
            .keys()
            .map(|key| key.0)
            .filter(|kind| which(*kind))
            .collect();
        for kind in &kinds {
            self.send(&Order::Forget { kind: *kind }, &[]);
        }
        self.lent
            .retain(|key, prepared| !kinds.contains(&key.0) || !tree.retire(&prepared.group).left.is_empty());
    }

    /// Lends groups until the gate has as many as it should.
    pub fn refill(&mut self, tree: &Tree) {
        if self.channel.is_none() {
            return;
        }
        for kind in self.wanted.clone() {
            let lent = self.lent.range((kind, 0)..=(kind, u64::MAX)).count();
            for _ in lent..self.options.settings.ready as usize {
                match self.make_ready(kind, tree) {
                    Ok(Some((seq, prepared))) => {
                        self.lend(kind, seq, &prepared);
                        self.lent.insert((kind, seq), prepared);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "no group can be made ready for the gate");
                        break;
                    }
                }
            }
        }
    }

    /// A group under the limits of this kind, in which nobody was yet.
    pub(super) fn make_ready(
        &mut self,
        kind: u32,
        tree: &Tree,
    ) -> Result<Option<(u64, Prepared)>, CgroupError> {
        let Some(Kind { class, limits }) = self.kinds.get(kind as usize) else {
            return Ok(None);
        };
        self.seq += 1;
        let prepared = tree.prepare(class, &format!("g{}-{}", std::process::id(), self.seq), limits)?;
        Ok(Some((self.seq, prepared)))
    }

    pub(super) fn lend(&mut self, kind: u32, seq: u64, prepared: &Prepared) {
        match prepared.group.open_procs() {
            Ok(procs) => {
                let procs: Vec<BorrowedFd<'_>> = procs.iter().map(AsFd::as_fd).collect();
                self.send(&Order::Ready { kind, seq }, &procs);
            }
            Err(error) => tracing::warn!(error = %chain(&error), "a ready group cannot be lent"),
        }
    }
}
