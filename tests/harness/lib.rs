//! What the suites share.

pub mod fuzz;
