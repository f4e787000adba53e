//! Who does the cryptography of HTTP clients. It owns that one choice.

use std::sync::Once;

/// Chooses ring for this process, once. Every HTTP client needs the choice made, those of Unix sockets too.
pub fn choose_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only where somebody has chosen already, and then theirs is used.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    });
}
