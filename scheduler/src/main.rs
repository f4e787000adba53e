//! The scheduler.
fn main() {}
