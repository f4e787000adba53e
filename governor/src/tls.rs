//! Which cryptography HTTP clients use: ring, named once, because reqwest brings none of its own and refuses to make any
//! client without one, not even a client of the Unix socket.

/// To be called before a client is made; calls after the first change nothing.
pub fn use_ring() {
    // Whoever embeds us may have chosen another before; that one serves as well.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
}
