//! Control groups: v2, v1 and hybrid.
//!
//! Owns the tree below `ffrtmp.slice`: which hierarchies there are ([`Layout`]), the groups in them ([`Tree::prepare`]),
//! who sits in them ([`Tree::place`], [`Tree::release`]), what they counted ([`Tree::usage`]) and their end
//! ([`Tree::retire`]). Every limit is read back after it was written; what is not in force is a warning with its reason.
//!
//! Never mounts, unmounts or remounts anything, never touches a group outside its own tree except to put a process back
//! where it came from, never removes a group that holds a process, and never moves a bare pid.
//! Why this is written by hand: `docs/decisions/0003-cgroups-by-hand.md`.

mod announce;
mod ceiling;
mod confined;
mod error;
mod foreign;
mod group;
mod layout;
mod levels;
mod origin;
mod own;
mod place;
mod retire;
mod stats;

pub use announce::Announcer;
pub use ceiling::{Ceiling, Held, give_back};
pub use confined::Confinement;
pub use error::{CgroupError, NameProblem};
pub use group::{Group, GroupDir, Prepared, Tree};
pub use layout::{CgroupBase, DEFAULT_SLICE, Hierarchy, Kind, Layout, Sources, TreeOptions};
pub use origin::Undone;
pub use place::{Moved, SpawnInto};
pub use retire::{Leftover, Retired};
