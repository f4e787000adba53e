//! The pure core: facts in, decisions out. No file, socket, clock, process or thread is touched here.

pub mod event;
pub mod facts;
pub mod plan;
pub mod readback;
pub mod redact;
pub mod rule;
