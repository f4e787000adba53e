//! Transient scopes: systemd is asked for a group of its own making, with a job's limits as properties.
//!
//! The bus is talked to on a thread of its own, because an answer takes milliseconds and may take seconds, while the
//! engine must go on. Every order is answered exactly once. Nothing here moves or signals a process by itself, and no
//! unit is stopped but a scope of ours whose service was restarted.

mod bus;
mod follow;
mod property;

use std::path::Path;

use ffrtmp_abi::ProcessKey;
use ffrtmp_api::Limits;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use zbus::Connection;

use super::file::chain;
pub use bus::{BusError, user_scope};
use follow::Followed;

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

/// Orders are few and short, so they are done one after the other; between them systemd is listened to.
async fn serve(mut orders: UnboundedReceiver<ScopeOrder>, tell: impl Fn(ScopeAnswer)) {
    let mut talk = Talk::begin().await;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                tell(talk.perform(order).await);
            }
            signal = talk.followed.next() => talk.listen(signal).await,
        }
    }
}

/// The connection, and what is listened for on it.
struct Talk {
    bus: Option<Connection>,
    followed: Followed,
}

impl Talk {
    async fn begin() -> Self {
        let mut talk = Self {
            bus: None,
            followed: Followed::none(),
        };
        if let Err(error) = talk.connect().await {
            tracing::warn!(error = chain(&error), "systemd cannot be asked for scopes yet");
        }
        talk
    }

    /// The connection, made anew after a failure; the scopes there are are looked for each time.
    async fn connect(&mut self) -> Result<Connection, BusError> {
        if let Some(bus) = &self.bus {
            return Ok(bus.clone());
        }
        let bus = Connection::system().await.map_err(BusError::Connect)?;
        self.followed = Followed::none();
        if let Err(error) = self.followed.find(&bus).await {
            tracing::warn!(
                error = chain(&error),
                "a service's restart will not end the scopes there are"
            );
        }
        self.bus = Some(bus.clone());
        Ok(bus)
    }

    async fn perform(&mut self, order: ScopeOrder) -> ScopeAnswer {
        let mut scope = order.scope.clone();
        let result = match self.connect().await {
            Ok(bus) => bus::perform(&bus, &order, &mut scope).await,
            Err(error) => Err(error),
        };
        let result = match result {
            Ok(done) => {
                if let (Some(service), Some(bus)) = (done.follows, &self.bus)
                    && let Err(error) = self.followed.add(bus, scope.clone(), service).await
                {
                    tracing::warn!(
                        error = chain(&error),
                        scope,
                        "a restart of its service will not end it"
                    );
                }
                Ok(done.said)
            }
            Err(error) => {
                self.bus = None;
                Err(error)
            }
        };
        ScopeAnswer {
            key: order.key,
            scope,
            result,
        }
    }

    async fn listen(&mut self, signal: Option<zbus::Message>) {
        let (Some(signal), Some(bus)) = (signal, &self.bus) else {
            // The bus went away; the next order connects anew.
            self.bus = None;
            self.followed = Followed::none();
            return;
        };
        if let Err(error) = self.followed.on_signal(bus, &signal).await {
            tracing::warn!(error = chain(&error), "what systemd told was not understood");
        }
    }
}
