//! Which job a calling node gets.
//!
//! The live queue comes before all others, strictly: priority, then tenants in turn, then first in, first out. What it
//! leaves is shared between default and batch by their weights. Inside those two, every so many starts takes the
//! oldest job whatever its priority, so that none waits for ever. A job that no call can take because it needs more
//! slots than are ever free together gets a node kept free for it after a while; only live work passes it then.

use std::collections::BTreeMap;

use ffrtmp_api::{Band, Queue};

use super::blocklist::NodeNumber;
use super::policy::Policy;
use super::ready::{Place, Ready};
use super::{ClassId, Moment, Seq, TenantId};

/// What a node offers, and what it may be given.
pub struct Offer<'a> {
    /// The node.
    pub node: NodeNumber,
    /// Slots free.
    pub free: u32,
    /// Slots a job of the class takes on this node, or `None` when the node cannot run it or is not given it.
    pub takes: &'a dyn Fn(ClassId) -> Option<u32>,
    /// True when the tenant runs as many jobs as it may.
    pub capped: &'a dyn Fn(TenantId) -> bool,
}

/// A job to give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Its number.
    pub seq: Seq,
    /// Where it waits.
    pub place: Place,
}

/// What fairness remembers. Lost at a restart, which does no harm: it only starts its rounds anew.
#[derive(Debug, Clone, Default)]
pub struct Chooser {
    /// Virtual time of the default and the batch queue: the one that is behind is served.
    passed: [u64; 2],
    /// Starts of each queue.
    starts: [u64; 3],
    /// When each tenant was last served, counted in starts.
    served: BTreeMap<TenantId, u64>,
    clock: u64,
    /// Nodes that are kept free, each for one job.
    reserved: BTreeMap<NodeNumber, Choice>,
}

/// Greatest common measure of the weights: the product keeps the strides whole.
fn strides(policy: &Policy) -> [u64; 2] {
    let (default, batch) = policy.share;
    [u64::from(batch.max(1)), u64::from(default.max(1))]
}

impl Chooser {
    /// The job this offer gets, if any. Changes nothing but reservations; call [`granted`](Self::granted) once the
    /// grant is written.
    pub fn choose(
        &mut self,
        policy: &Policy,
        ready: &Ready,
        offer: &Offer<'_>,
        now: Moment,
    ) -> Option<Choice> {
        if offer.free == 0 {
            return None;
        }
        let live = self.in_order(Queue::Live, ready, offer);
        if live.is_some() {
            return live;
        }
        match self.reservation(policy, ready, offer, now) {
            Some(Reserved::Fits(choice)) => return Some(choice),
            Some(Reserved::Waits) => return None,
            None => {}
        }
        let default = self.in_queue(policy, Queue::Default, ready, offer);
        let batch = self.in_queue(policy, Queue::Batch, ready, offer);
        match (default, batch) {
            (Some(_), Some(batch)) if self.passed[1] < self.passed[0] => Some(batch),
            (Some(default), _) => Some(default),
            (None, batch) => batch,
        }
    }

    /// Takes note of a grant that is written.
    pub fn granted(&mut self, policy: &Policy, choice: Choice) {
        self.clock += 1;
        self.served.insert(choice.place.tenant, self.clock);
        let queue = choice.place.band.queue;
        if let Some(starts) = self.starts.get_mut(queue as usize) {
            *starts += 1;
        }
        let stride = strides(policy);
        let turn = match queue {
            Queue::Live => None,
            Queue::Default => Some(0),
            Queue::Batch => Some(1),
        };
        if let Some(turn) = turn {
            self.passed[turn] += stride[turn];
            // A queue that was empty for long may not make up for it: its lag is one stride at most.
            let behind = self.passed[turn].saturating_sub(stride[0].max(stride[1]));
            let other = &mut self.passed[1 - turn];
            *other = (*other).max(behind);
        }
        self.reserved.retain(|_, reserved| reserved.seq != choice.seq);
    }

    /// Forgets a node that left.
    pub fn forget_node(&mut self, node: NodeNumber) {
        self.reserved.remove(&node);
    }

    /// Jobs for which a node is kept free.
    pub fn reserved(&self) -> impl Iterator<Item = (NodeNumber, Choice)> {
        self.reserved.iter().map(|(node, choice)| (*node, *choice))
    }

    fn in_queue(&self, policy: &Policy, queue: Queue, ready: &Ready, offer: &Offer<'_>) -> Option<Choice> {
        let starts = self.starts.get(queue as usize).copied().unwrap_or_default();
        let every = u64::from(policy.age_every.max(2));
        if starts % every == every - 1 {
            return oldest(queue, ready, offer);
        }
        self.in_order(queue, ready, offer)
    }

    /// By priority, then tenants in turn, then first in, first out.
    fn in_order(&self, queue: Queue, ready: &Ready, offer: &Offer<'_>) -> Option<Choice> {
        for band in Ready::bands(queue) {
            let mut best: Option<(u64, Seq, Place)> = None;
            for choice in candidates(band, ready, offer) {
                let served = self.served.get(&choice.place.tenant).copied().unwrap_or_default();
                let rank = (served, choice.seq, choice.place);
                // Buckets of one tenant share its turn, so the smaller number wins among them.
                if best.is_none_or(|(turn, seq, _)| (served, choice.seq) < (turn, seq)) {
                    best = Some(rank);
                }
            }
            if let Some((_, seq, place)) = best {
                return Some(Choice { seq, place });
            }
        }
        None
    }

    /// Looks after the node's reservation, and makes one for a job that waited too long for slots.
    fn reservation(
        &mut self,
        policy: &Policy,
        ready: &Ready,
        offer: &Offer<'_>,
        now: Moment,
    ) -> Option<Reserved> {
        if let Some(reserved) = self.reserved.get(&offer.node).copied() {
            let wants = (offer.takes)(reserved.place.class);
            let waits =
                ready.contains(reserved.seq, reserved.place) && !(offer.capped)(reserved.place.tenant);
            match wants.filter(|_| waits) {
                Some(slots) if slots <= offer.free => return Some(Reserved::Fits(reserved)),
                Some(_) => return Some(Reserved::Waits),
                None => {
                    self.reserved.remove(&offer.node);
                }
            }
        }
        let waiting = [Queue::Default, Queue::Batch]
            .into_iter()
            .flat_map(Ready::bands)
            .flat_map(|band| ready.buckets(band).map(move |bucket| (band, bucket)));
        let mut oldest: Option<(u64, Choice)> = None;
        for (band, (tenant, class, bucket)) in waiting {
            let short = (offer.takes)(class).is_some_and(|slots| offer.free < slots);
            if !short || (offer.capped)(tenant) {
                continue;
            }
            let place = Place { band, tenant, class };
            for (&seq, &since) in bucket.iter().take(1) {
                let taken = self.reserved.values().any(|reserved| reserved.seq == seq);
                if !taken
                    && policy.reserve_ms <= now.since(since)
                    && oldest.is_none_or(|(before, _)| since < before)
                {
                    oldest = Some((since, Choice { seq, place }));
                }
            }
        }
        let (_, choice) = oldest?;
        self.reserved.insert(offer.node, choice);
        Some(Reserved::Waits)
    }
}

enum Reserved {
    Fits(Choice),
    Waits,
}

/// The first job of every bucket of the band that fits the offer.
fn candidates<'a>(
    band: Band,
    ready: &'a Ready,
    offer: &'a Offer<'_>,
) -> impl Iterator<Item = Choice> + use<'a> {
    let fits = |class| (offer.takes)(class).is_some_and(|slots| slots <= offer.free);
    ready
        .buckets(band)
        .filter(move |(tenant, class, _)| !(offer.capped)(*tenant) && fits(*class))
        .filter_map(move |(tenant, class, bucket)| {
            let (&seq, _) = bucket.first_key_value()?;
            let place = Place { band, tenant, class };
            Some(Choice { seq, place })
        })
}

fn oldest(queue: Queue, ready: &Ready, offer: &Offer<'_>) -> Option<Choice> {
    Ready::bands(queue)
        .flat_map(|band| candidates(band, ready, offer))
        .min_by_key(|choice| choice.seq)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
