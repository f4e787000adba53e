//! Who is to blame for a failure, and what follows: another try after a pause, or the end.
//!
//! Failures of the program itself, of its input or of the request are final: trying them again would fail again and
//! take a slot each time. Failures of the platform are tried again.

use ffrtmp_api::FailureReason;

use super::policy::Policy;

/// Tries a job has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Faults of the platform, counted by `--max-retries`.
    pub retries: u32,
    /// Nodes lost under it.
    pub losses: u32,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another try after this many milliseconds; `used` are the tries used up then.
    Retry {
        /// The pause.
        delay_ms: u64,
        /// Tries used up.
        used: Used,
    },
    /// The end.
    Fail {
        /// True when it would have been tried again, had there been a try left.
        exhausted: bool,
    },
}

/// True when a failure of this kind says something about the node.
pub fn strikes(reason: FailureReason) -> bool {
    match reason {
        FailureReason::CapabilityMismatch | FailureReason::PlatformError | FailureReason::ResourceError => {
            true
        }
        FailureReason::RuntimeError
        | FailureReason::Timeout
        | FailureReason::UserError
        | FailureReason::NetworkError
        | FailureReason::InputError
        | FailureReason::Stalled
        | FailureReason::NodeLost => false,
    }
}

/// What follows a failure of this kind. `salt` makes the pause differ between jobs.
pub fn next(policy: &Policy, reason: FailureReason, used: Used, max_retries: u32, salt: u64) -> Next {
    match reason {
        FailureReason::RuntimeError
        | FailureReason::Timeout
        | FailureReason::UserError
        | FailureReason::InputError => Next::Fail { exhausted: false },
        FailureReason::NodeLost => {
            if used.losses >= policy.max_node_losses {
                return Next::Fail { exhausted: true };
            }
            // The lease was pause enough for a first loss.
            let delay_ms = match used.losses {
                0 => 0,
                losses => backoff_ms(policy, losses - 1, salt),
            };
            let losses = used.losses + 1;
            Next::Retry {
                delay_ms,
                used: Used { losses, ..used },
            }
        }
        FailureReason::CapabilityMismatch
        | FailureReason::NetworkError
        | FailureReason::PlatformError
        | FailureReason::ResourceError
        | FailureReason::Stalled => {
            if used.retries >= max_retries {
                return Next::Fail { exhausted: true };
            }
            let retries = used.retries + 1;
            Next::Retry {
                delay_ms: backoff_ms(policy, used.retries, salt),
                used: Used { retries, ..used },
            }
        }
    }
}

/// The pause before try `n` (from 0): between one and two times the shortest pause doubled `n` times, never above the
/// longest. Half of it is fixed and half spread, so that jobs that failed together do not return together.
pub fn backoff_ms(policy: &Policy, n: u32, salt: u64) -> u64 {
    let (shortest, longest) = policy.backoff_ms;
    let ceiling = shortest
        .saturating_mul(2_u64.saturating_pow(n.saturating_add(1)))
        .min(longest)
        .max(1);
    let half = ceiling / 2;
    let spread = mix(salt) % (ceiling - half + 1);
    (half + spread).max(shortest.min(longest))
}

/// Spreads neighbouring numbers over the whole range (the finaliser of `splitmix64`).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reason: FailureReason, retries: u32, losses: u32) -> Next {
        next(&Policy::default(), reason, Used { retries, losses }, 3, 7)
    }

    #[test]
    fn failures_of_the_program_are_final_and_those_of_the_platform_are_not() {
        for reason in FailureReason::ALL {
            let retried = matches!(at(*reason, 0, 0), Next::Retry { .. });
            let platform = matches!(
                reason,
                FailureReason::CapabilityMismatch
                    | FailureReason::NetworkError
                    | FailureReason::PlatformError
                    | FailureReason::ResourceError
                    | FailureReason::Stalled
                    | FailureReason::NodeLost
            );
            assert_eq!(retried, platform, "{reason}");
        }
    }

    #[test]
    fn tries_run_out_and_losses_do_not_use_them_up() {
        assert_eq!(
            at(FailureReason::PlatformError, 3, 0),
            Next::Fail { exhausted: true }
        );
        let Next::Retry { used, delay_ms } = at(FailureReason::NodeLost, 3, 0) else {
            panic!("a lost node used up the job's tries");
        };
        assert_eq!((used.retries, used.losses, delay_ms), (3, 1, 0));
        assert_eq!(at(FailureReason::NodeLost, 0, 5), Next::Fail { exhausted: true });
    }

    proptest::proptest! {
        #[test]
        fn pauses_are_between_one_and_thirty_seconds_and_never_shrink_below_half_the_ceiling(n in 0_u32..100, salt: u64) {
            let pause = backoff_ms(&Policy::default(), n, salt);
            proptest::prop_assert!((1_000..=30_000).contains(&pause));
            let ceiling = 1_000_u64.saturating_mul(2_u64.saturating_pow(n + 1)).min(30_000);
            proptest::prop_assert!(pause >= ceiling / 2);
        }
    }
}
