//! The program `ffrtmp-gate`. The governor starts it with one end of a channel as `stdin`; started by hand it ends at once.

use std::process::ExitCode;

fn main() -> ExitCode {
    match ffrtmp_governor::host::gate::hold() {
        Ok(()) => ExitCode::SUCCESS,
        // The governor is gone, or was never there. Whatever was held runs when the descriptors close.
        Err(_ended) => ExitCode::from(1),
    }
}
