//! Talks to a daemon, or to an engine in this process, with the same words.
