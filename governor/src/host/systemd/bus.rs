//! The talk with systemd on D-Bus (org.freedesktop.systemd1(5)).

use std::time::Duration;

use ffrtmp_api::Limits;
use tokio_stream::StreamExt;
use zbus::fdo::PropertiesProxy;
use zbus::{Connection, OwnedObjectPath, Proxy, Variant};

use super::ScopeOrder;
use super::property::{Property, of_limits};

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// How long systemd may take to start a scope. It is busy for seconds during a reload of many units.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names tried before a job gets no scope.
const NAMES_MAX: u32 = 16;

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No bus, or it hung up.
    #[error("connect to the bus")]
    Connect(#[source] zbus::Error),
    /// systemd refused, or did not answer.
    #[error("ask systemd to {what}")]
    Call {
        /// The step.
        what: &'static str,
        /// The answer.
        #[source]
        source: Box<zbus::Error>,
    },
    /// The job of systemd's that starts the scope failed.
    #[error("systemd could not start {scope}: {result}")]
    Job {
        /// Name of the scope.
        scope: String,
        /// systemd's word for it.
        result: String,
    },
    /// No answer in time.
    #[error("systemd did not answer within {} s", PATIENCE.as_secs())]
    Silent,
}

impl BusError {
    pub(super) fn call(what: &'static str) -> impl FnOnce(zbus::Error) -> Self {
        move |source| Self::Call {
            what,
            source: Box::new(source),
        }
    }

    /// The unit of that name exists already.
    fn is_taken(&self) -> bool {
        matches!(self, Self::Call { source, .. } if matches!(&**source,
            zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.UnitExists"))
    }
}

/// What an order came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What is to be said in the job's record.
    pub(super) said: Vec<String>,
    /// The service whose restart must end the scope.
    pub(super) follows: Option<String>,
}

/// Performs one order. `scope` becomes another name when the order's was taken.
pub(super) async fn perform(
    bus: &Connection,
    order: &ScopeOrder,
    scope: &mut String,
) -> Result<Done, BusError> {
    let done = tokio::time::timeout(PATIENCE, attempt(bus, order, scope)).await;
    done.unwrap_or(Err(BusError::Silent))
}

async fn attempt(bus: &Connection, order: &ScopeOrder, scope: &mut String) -> Result<Done, BusError> {
    let mut done = Done::default();
    if order.exists {
        set_properties(bus, scope, &order.limits).await?;
        return Ok(done);
    }
    let mut more: Vec<Property> = Vec::new();
    if let Some(unit) = &order.part_of {
        match stopped_with(bus, unit).await? {
            Some(kill) => {
                more.extend(kill);
                done.follows = Some(unit.clone());
            }
            None => done.said.push(format!(
                "stopping {unit} leaves the job alone, as it did before: that unit's KillMode spares its children"
            )),
        }
    }
    for number in 1..=NAMES_MAX {
        match start(bus, scope, order, &more).await {
            Err(error) if error.is_taken() && number < NAMES_MAX => {
                let stem = order.scope.strip_suffix(".scope").unwrap_or(&order.scope);
                *scope = format!("{stem}-{}.scope", number + 1);
            }
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    Ok(done)
}

pub(super) async fn manager(bus: &Connection) -> Result<Proxy<'static>, BusError> {
    Proxy::new(bus, SYSTEMD, MANAGER_PATH, MANAGER)
        .await
        .map_err(BusError::call("answer"))
}

/// What makes the scope end with its service as the service's own children do; `None` when they outlive it.
async fn stopped_with(bus: &Connection, unit: &str) -> Result<Option<Vec<Property>>, BusError> {
    let path: OwnedObjectPath = manager(bus)
        .await?
        .call("GetUnit", &(unit,))
        .await
        .map_err(BusError::call("find the unit the job came from"))?;
    let properties = PropertiesProxy::builder(bus)
        .destination(SYSTEMD)
        .path(path)
        .build()
        .await
        .map_err(BusError::call("answer"))?;
    let interface = zbus::names::InterfaceName::from_static_str_unchecked(SERVICE);
    let get = async |name: &'static str| {
        let value = properties.get(interface.clone(), name).await;
        value.map_err(|error| BusError::call("describe the unit the job came from")(error.into()))
    };
    let mode = get("KillMode").await?;
    if !matches!(mode.downcast_ref::<&str>(), Ok("control-group" | "mixed")) {
        return Ok(None);
    }
    Ok(Some(vec![
        ("PartOf", Variant::new(vec![unit.to_owned()])),
        ("KillSignal", get("KillSignal").await?.into()),
        ("SendSIGKILL", get("SendSIGKILL").await?.into()),
        ("TimeoutStopUSec", get("TimeoutStopUSec").await?.into()),
    ]))
}

/// Starts the scope and waits until its processes are in it.
async fn start(bus: &Connection, scope: &str, order: &ScopeOrder, more: &[Property]) -> Result<(), BusError> {
    let mut properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", Variant::new("media job governed by ffrtmp")),
        ("Slice", Variant::new(order.slice.as_str())),
        ("PIDs", Variant::new(order.pids.clone())),
        // Its group is ours to write to and to divide; systemd passes every controller on.
        ("Delegate", Variant::new(true)),
        // Nobody would ever reset a failed one.
        ("CollectMode", Variant::new("inactive-or-failed")),
    ];
    for (name, value) in more.iter().chain(&of_limits(&order.limits)) {
        let value = value.try_clone().map_err(|error| BusError::Call {
            what: "take a property",
            source: Box::new(error),
        })?;
        properties.push((name, value));
    }
    start_transient(bus, scope, &properties).await
}

async fn start_transient(
    bus: &Connection,
    scope: &str,
    properties: &[(&str, Variant<'_>)],
) -> Result<(), BusError> {
    const WHAT: &str = "start a scope";
    let manager = manager(bus).await?;
    // Asked for before the start, so that its end cannot be missed. systemd tells whoever ordered a job of its end,
    // subscribed or not.
    let mut removed = manager
        .receive_signal("JobRemoved")
        .await
        .map_err(BusError::call(WHAT))?;
    let none: Vec<(String, Vec<(String, Variant<'_>)>)> = Vec::new();
    let job: OwnedObjectPath = manager
        .call("StartTransientUnit", &(scope, "fail", properties, none))
        .await
        .map_err(BusError::call(WHAT))?;
    while let Some(signal) = removed.next().await {
        let body = signal.body();
        let (_number, path, _unit, result): (u32, OwnedObjectPath, String, String) =
            body.deserialize().map_err(BusError::call(WHAT))?;
        if path == job {
            return if result == "done" {
                Ok(())
            } else {
                Err(BusError::Job {
                    scope: scope.to_owned(),
                    result,
                })
            };
        }
    }
    Err(BusError::Silent)
}

async fn set_properties(bus: &Connection, scope: &str, limits: &Limits) -> Result<(), BusError> {
    let properties = of_limits(limits);
    if properties.is_empty() {
        return Ok(());
    }
    manager(bus)
        .await?
        .call::<_, _, ()>("SetUnitProperties", &(scope, true, properties))
        .await
        .map_err(BusError::call("change the scope's limits"))
}

/// Asks the user's own systemd for a scope around one process: how an unprivileged user gets limits of a group.
pub async fn user_scope(scope: &str, pid: u32, limits: &Limits) -> Result<(), BusError> {
    let ask = async {
        let bus = Connection::session().await.map_err(BusError::Connect)?;
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::new("job of ffrtmp run")),
            ("PIDs", Variant::new(vec![pid])),
            ("Delegate", Variant::new(true)),
            ("CollectMode", Variant::new("inactive-or-failed")),
        ];
        properties.extend(of_limits(limits));
        start_transient(&bus, scope, &properties).await
    };
    tokio::time::timeout(PATIENCE, ask)
        .await
        .unwrap_or(Err(BusError::Silent))
}
