//! Transient scopes: systemd is asked for a group of its own making, with a job's limits as properties.
//!
//! The bus is talked to on a thread of its own, because an answer takes milliseconds and may take seconds, while the
//! engine must go on. Every order is answered exactly once. Nothing here moves or signals a process by itself, and no
//! unit is ever stopped.

mod bus;
mod property;

use std::path::Path;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use bus::{BusError, user_scope};

/// A directory that exists exactly where systemd is the first process (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// Why no scope can be had here; `None` where systemd runs.
pub fn absent() -> Option<String> {
    (!Path::new(BOOTED).is_dir()).then(|| "systemd is not this machine's first process".to_owned())
}

/// What is asked of systemd for one job.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeOrder {
    /// The job.
    pub key: ProcessKey,
    /// Name of the scope.
    pub scope: String,
    /// Slice it belongs to.
    pub slice: String,
    /// Processes that move into it.
    pub pids: Vec<u32>,
    /// Service the job came from.
    pub part_of: Option<String>,
    /// Limits.
    pub limits: Limits,
    /// True when the scope exists and only its limits change.
    pub exists: bool,
}

/// What systemd did.
#[derive(Debug)]
pub struct ScopeAnswer {
    /// The job.
    pub key: ProcessKey,
    /// Name of the scope; may differ from the order's when that name was taken.
    pub scope: String,
    /// How it went: what is to be said in the job's record, or why there is no scope.
    pub result: Result<Vec<String>, BusError>,
}

/// The thread that talks to systemd. It ends when this is dropped.
#[derive(Debug)]
pub struct Scopes {
    orders: UnboundedSender<ScopeOrder>,
}

impl Scopes {
    /// Starts the thread; `tell` gets every answer, on that thread.
    pub fn start(tell: impl Fn(ScopeAnswer) + Send + 'static) -> std::io::Result<Self> {
        // Unbounded, but an engine orders at most one scope for each record of the kernel map.
        let (orders, queue) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("systemd".to_owned())
            .spawn(move || runtime.block_on(serve(queue, tell)))?;
        Ok(Self { orders })
    }

    /// Hands an order over. False when the thread is gone.
    pub fn order(&self, order: ScopeOrder) -> bool {
        self.orders.send(order).is_ok()
    }
}

/// Orders are few and short, so they are done one after the other.
async fn serve(mut orders: UnboundedReceiver<ScopeOrder>, tell: impl Fn(ScopeAnswer)) {
    let mut bus = None;
    while let Some(order) = orders.recv().await {
        let (scope, result) = bus::perform(&mut bus, &order).await;
        tell(ScopeAnswer {
            key: order.key,
            scope,
            result,
        });
    }
}
