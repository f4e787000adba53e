//! The file as users write it: what is refused, and that what is accepted acts.

mod acts;
mod generated;
mod policy;
mod refusals;
mod webhook;
