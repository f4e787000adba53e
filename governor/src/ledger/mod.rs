//! What outlives the daemon: jobs, processes, exits, warnings, in SQLite.
