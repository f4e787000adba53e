//! What an operator does with a scheduler as a whole: its queues, the tokens nodes join with, API keys, tenants, backups.

pub mod args;
pub mod backup;
pub mod keys;
pub mod queues;
pub mod tenants;
pub mod tokens;
