//! Groups made ahead of need, so that a job that is found waits for none: limits written and read back, never used twice.
//!
//! Owns the spares of each pair of class and limits and the thread that makes them. It decides nothing: which pairs are
//! wanted comes from the rules, and a job for which no spare is ready gets a group made on the spot. A spare that was
//! made before its class changed is thrown away, not mended.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use ffrtmp_api::Limits;

use super::cgroup::{CgroupError, Prepared, Tree};
use super::file::chain;
use crate::core::rule::Pair;

/// Spares of one pair of class and limits when the configuration says nothing: as many starts in one instant as a node of
/// this kind sees.
pub const DEFAULT_EACH: u32 = 4;
/// Pairs that get spares. Further ones are made on the spot: an idle group costs the kernel tens of KiB on each CPU.
const PAIRS_MAX: usize = 16;

/// A group in which nobody was yet.
#[derive(Debug)]
pub struct Spare {
    /// The group.
    pub prepared: Prepared,
    /// Its `cgroup.procs`, open for writing, in the order of its directories; empty where they could not be opened. Each
    /// saves its placement the walk to the file.
    pub doors: Vec<File>,
}

/// The spares of one pair.
#[derive(Debug)]
struct Pool {
    pair: Pair,
    ready: VecDeque<Spare>,
    /// Asked for and not here yet.
    coming: usize,
    /// It could not be made; nobody tries again before something changes.
    off: bool,
}

/// What the thread is asked to make.
struct Order {
    change: u64,
    tree: Tree,
    pair: Pair,
    name: String,
}

/// What it made, for whom.
type Made = (Pair, Result<Spare, CgroupError>);

/// The thread's two ends.
struct Maker {
    orders: SyncSender<Order>,
    made: Receiver<Made>,
    thread: std::thread::JoinHandle<()>,
    changes: Arc<Changes>,
}

/// What the engine tells the thread while that works.
#[derive(Default)]
struct Changes {
    /// Counts what made spares useless: an order of before the last change is not carried out.
    count: AtomicU64,
    /// Held while a spare is made, so that a change waits for it and finds it.
    making: Mutex<()>,
}

/// Every spare. Without a maker there are none.
#[derive(Default)]
pub struct Spares {
    each: usize,
    pools: Vec<Pool>,
    maker: Option<Maker>,
    names: u64,
}

impl std::fmt::Debug for Spares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spares")
            .field("each", &self.each)
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

impl Spares {
    /// Starts the thread that makes them. `each` of a pair are kept; 0 keeps none and starts nothing.
    pub fn start(each: u32) -> std::io::Result<Self> {
        let each = each as usize;
        if each == 0 {
            return Ok(Self::default());
        }
        let (orders, wanted) = sync_channel::<Order>(PAIRS_MAX * each);
        let (sender, made) = channel();
        let changes = Arc::new(Changes::default());
        let told = Arc::clone(&changes);
        let thread = std::thread::Builder::new()
            .name("spares".to_owned())
            .spawn(move || {
                for order in wanted {
                    let _making = told.making.lock().unwrap_or_else(PoisonError::into_inner);
                    if told.count.load(Ordering::SeqCst) != order.change {
                        continue;
                    }
                    let Order { tree, pair, name, .. } = order;
                    let made = tree.prepare(&pair.class, &name, &pair.limits);
                    let result = made.map(|prepared| Spare {
                        doors: prepared.group.open_procs().unwrap_or_default(),
                        prepared,
                    });
                    // Whoever waits takes it before he lets this thread go.
                    let _taken = sender.send((pair, result));
                }
            })?;
        Ok(Self {
            each,
            maker: Some(Maker {
                orders,
                made,
                thread,
                changes,
            }),
            ..Self::default()
        })
    }

    /// Keeps spares of these pairs and of no others.
    pub fn want(&mut self, tree: &Tree, pairs: Vec<Pair>) {
        if self.maker.is_none() {
            return;
        }
        let mut wanted: Vec<Pair> = Vec::new();
        for pair in pairs {
            if !wanted.contains(&pair) {
                wanted.push(pair);
            }
        }
        if wanted.len() > PAIRS_MAX {
            let left = wanted.len() - PAIRS_MAX;
            tracing::info!(
                "no spare groups for {left} pairs of class and limits beyond the first {PAIRS_MAX}"
            );
            wanted.truncate(PAIRS_MAX);
        }
        if !self.pools.iter().map(|pool| &pool.pair).eq(&wanted) {
            self.replace(tree, wanted);
        }
        self.refill(tree);
    }

    fn replace(&mut self, tree: &Tree, wanted: Vec<Pair>) {
        self.discard(tree);
        let pool = |pair| Pool {
            pair,
            ready: VecDeque::new(),
            coming: 0,
            off: false,
        };
        self.pools = wanted.into_iter().map(pool).collect();
    }

    /// A group that is ready for this class and these limits. The one that replaces it comes with [`Self::refill`], which
    /// wakes a thread and is therefore for after the placement.
    pub fn take(&mut self, class: &str, limits: &Limits) -> Option<Spare> {
        self.collect();
        let pool = self
            .pools
            .iter_mut()
            .find(|pool| pool.pair.class == class && pool.pair.limits == *limits)?;
        pool.ready.pop_front()
    }

    /// Throws all spares away, because what stands above them changes. New ones come with [`Self::refill`].
    pub fn discard(&mut self, tree: &Tree) {
        let Some(maker) = &self.maker else { return };
        maker.changes.count.fetch_add(1, Ordering::SeqCst);
        let _made = maker
            .changes
            .making
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = maker.made.try_iter().filter_map(|(_, result)| result.ok());
        throw_away(tree, made);
        for pool in &mut self.pools {
            pool.coming = 0;
            pool.off = false;
            throw_away(tree, std::mem::take(&mut pool.ready));
        }
    }

    /// Orders what is lacking.
    pub fn refill(&mut self, tree: &Tree) {
        let Some(maker) = &self.maker else { return };
        let change = maker.changes.count.load(Ordering::SeqCst);
        for pool in &mut self.pools {
            while !pool.off && pool.ready.len() + pool.coming < self.each {
                let order = Order {
                    change,
                    tree: tree.clone(),
                    pair: pool.pair.clone(),
                    name: format!("s{}-{}", std::process::id(), self.names + 1),
                };
                // A full queue holds orders of before a change; the next job asks again.
                if maker.orders.try_send(order).is_err() {
                    return;
                }
                self.names += 1;
                pool.coming += 1;
            }
        }
    }

    /// The governor ends: whatever is ready or still being made is removed.
    pub fn end(&mut self, tree: &Tree) {
        self.discard(tree);
        let Some(maker) = self.maker.take() else { return };
        drop(maker.orders);
        if maker.thread.join().is_err() {
            tracing::error!("the thread that makes spare groups panicked");
        }
        self.pools.clear();
    }

    /// Takes what the thread has made by now.
    fn collect(&mut self) {
        let Some(maker) = &self.maker else { return };
        for (pair, result) in maker.made.try_iter() {
            let Some(pool) = self.pools.iter_mut().find(|pool| pool.pair == pair) else {
                continue;
            };
            pool.coming = pool.coming.saturating_sub(1);
            match result {
                Ok(spare) => pool.ready.push_back(spare),
                Err(error) => {
                    pool.off = true;
                    let (class, why) = (&pool.pair.class, chain(&error));
                    tracing::warn!(
                        "no spare groups for class {class}, jobs wait for theirs to be made: {why}"
                    );
                }
            }
        }
    }
}

/// Removes groups nobody has joined. One that somebody has joined stays and is found as a leftover.
fn throw_away(tree: &Tree, spares: impl IntoIterator<Item = Spare>) {
    for spare in spares {
        tree.lift_quota(&spare.prepared.group);
        for error in tree.retire(&spare.prepared.group).left {
            tracing::warn!(%error, "a spare group stays");
        }
    }
}
