//! The engine: one thread that owns all state.
