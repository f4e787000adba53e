//! The central queue: jobs, attempts, nodes, and who gets what next.
