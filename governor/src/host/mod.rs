//! The machine: everything that can fail because of it.
//!
//! [`Host`] has one method for each effect that touches a process or a group; the engine calls it and turns each answer
//! into an event for the core. Tests put a recording fake behind the same trait.

use ffrtmp_abi::ProcessKey;

use ffrtmp_api::Limits;

use self::cgroup::Announcer;
use crate::core::event::{GroupUsage, PlaceOrder, Placement, Whereabouts, Whom};
use crate::core::pressure::ClassOutcome;

mod alias;
mod certain;
pub mod cgroup;
mod container;
pub mod descend;
pub mod fast;
pub mod file;
pub mod follow;
pub mod gate;
pub mod kernel;
mod leaving;
pub mod linux;
pub mod policy;
pub mod pressure;
pub mod priority;
pub mod process;
pub mod procfs;
pub mod realtime;
mod scope;
pub mod source;
pub mod spares;
pub mod spawn;
pub mod systemd;

/// A placement that did not happen, with what took effect all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct NotPlaced {
    /// Why.
    pub why: String,
    /// Nice and the like, and every warning.
    pub placement: Placement,
}

/// What became of a job's group.
#[derive(Debug)]
pub enum Retire {
    /// It is gone, or stays for the reasons given.
    Done {
        /// What it knew.
        group: GroupUsage,
        /// What went wrong.
        warnings: Vec<String>,
    },
    /// Its last process is on its way out: ask again when this file (`cgroup.events`) reports a change.
    Later(std::fs::File),
}

/// What the engine can do to the machine.
pub trait Host {
    /// Makes the group, writes the limits and reads them back, moves the process and its descendants.
    fn place(&mut self, order: &PlaceOrder) -> Result<Placement, NotPlaced>;

    /// As [`Self::place`], by a systemd scope. `None` when systemd was asked and its answer comes as a command.
    fn order_scope(&mut self, order: &PlaceOrder) -> Option<Result<Placement, NotPlaced>>;

    /// Reads the job's group for the last time and removes it.
    fn retire(&mut self, key: ProcessKey) -> Retire;

    /// Looks where a process of a placed job sits. With `restore` the whole job is brought back into its group first.
    fn recheck(&mut self, key: ProcessKey, process: ProcessKey, restore: bool) -> Whereabouts;

    /// Puts the job back where it was. Gives what was undone, and what could not be.
    fn release(&mut self, key: ProcessKey) -> (Vec<String>, Vec<String>);

    /// Sends a signal somebody asked for.
    fn signal(&mut self, key: ProcessKey, signal: i32, whom: Whom) -> Result<(), String>;

    /// Writes the limits of a class as a whole; none gives back what was written before.
    fn limit_class(&mut self, class: &str, limits: &Limits) -> ClassOutcome;

    /// What announces that a placed job runs into its limits; the figure counts what could not be opened.
    fn announcers(&mut self, _key: ProcessKey) -> (Vec<Announcer>, u64) {
        (Vec::new(), 0)
    }

    /// Drops what the kernel keeps of a process: nobody wants it, or its record is on disk.
    fn drop_record(&mut self, key: ProcessKey);
}
