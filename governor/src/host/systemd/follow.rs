//! Scopes that must end with the service they came from.
//!
//! `PartOf=` carries a stop of the service to the scope, but not a restart: systemd passes a restart on as a restart, and a
//! scope cannot be started twice, so nothing happens to it. Here the end of each of systemd's jobs is heard, and a
//! scope whose service has begun a new life since is stopped. That is what the restart did before there was a scope. Scopes of an earlier governor are found at the start.

use std::collections::BTreeMap;

use tokio_stream::StreamExt;
use zbus::fdo::PropertiesProxy;
use zbus::proxy::SignalStream;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::bus::{BusError, SYSTEMD, manager};

const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// One row of `ListUnitsByPatterns`.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// Every scope that is part of a service, and systemd's signals while there is one.
pub(super) struct Followed {
    /// Scope to service.
    scopes: BTreeMap<String, String>,
    signals: Option<SignalStream<'static>>,
}

impl Followed {
    pub(super) fn none() -> Self {
        Self {
            scopes: BTreeMap::new(),
            signals: None,
        }
    }

    /// Takes up the scopes of an earlier governor, and stops those whose service was restarted meanwhile.
    pub(super) async fn find(&mut self, bus: &Connection) -> Result<(), BusError> {
        const WHAT: &str = "list our scopes";
        let states: Vec<&str> = Vec::new();
        let listed: Vec<Listed> = manager(bus)
            .await?
            .call("ListUnitsByPatterns", &(states, vec!["ffrtmp-*.scope"]))
            .await
            .map_err(BusError::call(WHAT))?;
        for unit in listed {
            let Ok(part_of) = property::<Vec<String>>(bus, &unit.0, "PartOf").await else {
                continue;
            };
            if let Some(service) = part_of.into_iter().next() {
                self.add(bus, unit.0, service).await?;
            }
        }
        let services: Vec<String> = self.scopes.values().cloned().collect();
        for service in services {
            self.check(bus, &service).await?;
        }
        Ok(())
    }

    /// Follows one more scope.
    pub(super) async fn add(
        &mut self,
        bus: &Connection,
        scope: String,
        service: String,
    ) -> Result<(), BusError> {
        const WHAT: &str = "tell of its units";
        if self.signals.is_none() {
            let manager = manager(bus).await?;
            let signals = manager
                .receive_all_signals()
                .await
                .map_err(BusError::call(WHAT))?;
            // Without this only jobs of our own are told of.
            manager
                .call::<_, _, ()>("Subscribe", &())
                .await
                .map_err(BusError::call(WHAT))?;
            self.signals = Some(signals);
        }
        self.scopes.insert(scope, service);
        Ok(())
    }

    /// The next thing systemd tells; never while no scope is followed.
    pub(super) async fn next(&mut self) -> Option<zbus::Message> {
        match &mut self.signals {
            Some(signals) => signals.next().await,
            None => std::future::pending().await,
        }
    }

    /// Acts on it.
    pub(super) async fn on_signal(
        &mut self,
        bus: &Connection,
        signal: &zbus::Message,
    ) -> Result<(), BusError> {
        const WHAT: &str = "say what happened";
        let header = signal.header();
        let body = signal.body();
        match header.member().map(zbus::names::MemberName::as_str) {
            Some("UnitRemoved") => {
                let (unit, _path): (String, OwnedObjectPath) =
                    body.deserialize().map_err(BusError::call(WHAT))?;
                self.scopes.remove(&unit);
                if self.scopes.is_empty() {
                    self.rest(bus).await?;
                }
            }
            Some("JobRemoved") => {
                let (_number, _path, unit, _result): (u32, OwnedObjectPath, String, String) =
                    body.deserialize().map_err(BusError::call(WHAT))?;
                if self.scopes.values().any(|service| *service == unit) {
                    self.check(bus, &unit).await?;
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Nobody to follow: systemd need not wake us.
    async fn rest(&mut self, bus: &Connection) -> Result<(), BusError> {
        self.signals = None;
        manager(bus)
            .await?
            .call("Unsubscribe", &())
            .await
            .map_err(BusError::call("be silent"))
    }

    /// Stops the scopes of a service that are older than its present life.
    async fn check(&mut self, bus: &Connection, service: &str) -> Result<(), BusError> {
        // A service that ended by itself asked for nobody's end; one that was stopped took its scopes along.
        let Ok(born) = property::<u64>(bus, service, "InactiveExitTimestampMonotonic").await else {
            return Ok(());
        };
        let scopes: Vec<String> = self.scopes.keys().cloned().collect();
        for scope in scopes {
            if self.scopes.get(&scope).is_none_or(|of| of != service) {
                continue;
            }
            let Ok(made) = property::<u64>(bus, &scope, "InactiveExitTimestampMonotonic").await else {
                self.scopes.remove(&scope);
                continue;
            };
            if born > made {
                tracing::info!(scope, service, "its service was restarted: stopping the scope");
                manager(bus)
                    .await?
                    .call::<_, _, OwnedObjectPath>("StopUnit", &(scope.as_str(), "replace"))
                    .await
                    .map_err(BusError::call("stop a scope with its service"))?;
            }
        }
        Ok(())
    }
}

/// A property of a unit that is loaded.
async fn property<T>(bus: &Connection, unit: &str, name: &str) -> Result<T, BusError>
where
    T: TryFrom<OwnedVariant>,
    T::Error: Into<zbus::Error>,
{
    const WHAT: &str = "describe a unit";
    let path: OwnedObjectPath = manager(bus)
        .await?
        .call("GetUnit", &(unit,))
        .await
        .map_err(BusError::call(WHAT))?;
    let properties = PropertiesProxy::builder(bus)
        .destination(SYSTEMD)
        .path(path)
        .build()
        .await
        .map_err(BusError::call(WHAT))?;
    let interface = zbus::names::InterfaceName::from_static_str_unchecked(UNIT);
    let value = properties.get(interface, name).await;
    let value = value.map_err(|error| BusError::call(WHAT)(error.into()))?;
    T::try_from(value).map_err(|error| BusError::call(WHAT)(error.into()))
}
