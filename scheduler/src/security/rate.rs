//! How many requests a second one address and one caller may make.
//!
//! Nodes are limited by their identity alone, because many may stand behind one address. The memory is bounded: what has
//! been quiet is forgotten, and past a cap all newcomers share one budget.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;

use super::scope::Identity;
use crate::config::Access;

/// Most addresses or callers remembered at once.
const KNOWN_MAX: usize = 100_000;
/// Requests a second of one node: a heartbeat, a poll, a few reports, with room for a restart.
const PER_NODE: u32 = 200;

/// Too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// When to come again.
    pub retry_after: Duration,
    /// Whose budget is spent.
    pub budget: Budget,
}

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The address's.
    Address,
    /// The key's or node's.
    Caller,
}

/// All budgets.
pub struct Rates {
    addresses: Option<DefaultKeyedRateLimiter<IpAddr>>,
    callers: Option<DefaultKeyedRateLimiter<String>>,
    nodes: Option<DefaultKeyedRateLimiter<String>>,
    /// For keys with a rate of their own: one table for each rate there is.
    own: RwLock<BTreeMap<NonZeroU32, Arc<DefaultKeyedRateLimiter<String>>>>,
    exempt: Vec<IpNet>,
    clock: DefaultClock,
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

fn limiter<K: std::hash::Hash + Eq + Clone>(per_second: u32) -> Option<DefaultKeyedRateLimiter<K>> {
    NonZeroU32::new(per_second).map(|rate| RateLimiter::keyed(Quota::per_second(rate)))
}

impl Rates {
    /// As configured.
    pub fn new(access: &Access) -> Self {
        Self {
            addresses: limiter(access.per_address),
            callers: limiter(access.per_key),
            nodes: limiter(PER_NODE),
            own: RwLock::default(),
            exempt: access.exempt.clone(),
            clock: DefaultClock::default(),
        }
    }

    /// Charges an address: for callers that are no nodes, and for failed attempts to be one.
    pub fn charge_address(&self, address: IpAddr) -> Result<(), TooMany> {
        let address = canonical(address);
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        self.charge(
            self.addresses.as_ref(),
            household(address),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Budget::Address,
        )
    }

    /// Charges whoever a request is from.
    pub fn charge_caller(&self, who: &Identity) -> Result<(), TooMany> {
        let actor = who.actor();
        match who {
            Identity::Anyone => Ok(()),
            Identity::Node { .. } => self.charge(self.nodes.as_ref(), actor, String::new(), Budget::Caller),
            Identity::Key {
                per_second: Some(own),
                ..
            } => self.charge_own(actor, *own),
            Identity::Master | Identity::Key { .. } | Identity::Ticket { .. } => {
                self.charge(self.callers.as_ref(), actor, String::new(), Budget::Caller)
            }
        }
    }

    fn charge_own(&self, actor: String, per_second: u32) -> Result<(), TooMany> {
        let Some(rate) = NonZeroU32::new(per_second) else {
            return Ok(());
        };
        let known = self
            .own
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&rate)
            .cloned();
        let table = known.unwrap_or_else(|| {
            let mut tables = self.own.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                tables
                    .entry(rate)
                    .or_insert_with(|| Arc::new(RateLimiter::keyed(Quota::per_second(rate)))),
            )
        });
        self.charge(Some(&table), actor, String::new(), Budget::Caller)
    }

    fn charge<K: std::hash::Hash + Eq + Clone>(
        &self,
        limiter: Option<&DefaultKeyedRateLimiter<K>>,
        key: K,
        shared: K,
        budget: Budget,
    ) -> Result<(), TooMany> {
        let Some(limiter) = limiter else { return Ok(()) };
        let key = if limiter.len() < KNOWN_MAX { key } else { shared };
        limiter.check_key(&key).map_err(|until| TooMany {
            retry_after: until.wait_time_from(self.clock.now()),
            budget,
        })
    }

    /// Forgets whoever has been quiet long enough to have a full budget again. Call it now and then.
    pub fn forget_quiet(&self) {
        if let Some(limiter) = &self.addresses {
            limiter.retain_recent();
        }
        for limiter in [&self.callers, &self.nodes].into_iter().flatten() {
            limiter.retain_recent();
        }
        for limiter in self.own.read().unwrap_or_else(PoisonError::into_inner).values() {
            limiter.retain_recent();
        }
    }
}

/// An IPv4 address in IPv6 clothes is the IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// One budget for a whole /64: that is what one IPv6 customer has.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn rates(per_address: u32, per_key: u32) -> Rates {
        Rates::new(&Access {
            per_address,
            per_key,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
            ..Access::default()
        })
    }

    fn passed(mut charge: impl FnMut() -> Result<(), TooMany>) -> usize {
        (0..50).filter(|_| charge().is_ok()).count()
    }

    #[test]
    fn each_address_has_a_budget_and_exempt_networks_have_none() {
        let rates = rates(10, 0);
        let charge = |text: &str| rates.charge_address(text.parse().unwrap());
        assert!((10..=12).contains(&passed(|| charge("192.0.2.1"))));
        assert_eq!(charge("192.0.2.1").unwrap_err().budget, Budget::Address);
        assert!(charge("192.0.2.2").is_ok());
        assert_eq!(passed(|| charge("10.1.2.3")), 50);
        assert_eq!(passed(|| charge("::ffff:10.1.2.3")), 50);
        assert!((10..=12).contains(&passed(|| charge("2001:db8::1"))));
        assert!(
            charge("2001:db8::2").is_err(),
            "a neighbour in the same /64 shares the budget"
        );
        assert!(charge("2001:db8:0:1::2").is_ok());
    }

    #[test]
    fn keys_have_the_common_rate_or_their_own_and_zero_is_no_limit() {
        let key = |id: &str, per_second| Identity::Key {
            id: id.to_owned(),
            name: String::new(),
            scopes: BTreeSet::new(),
            per_second,
        };
        let rates = rates(0, 20);
        assert_eq!(passed(|| rates.charge_address("192.0.2.1".parse().unwrap())), 50);
        assert!((20..=23).contains(&passed(|| rates.charge_caller(&key("a", None)))));
        assert!((5..=7).contains(&passed(|| rates.charge_caller(&key("b", Some(5))))));
        assert_eq!(passed(|| rates.charge_caller(&key("c", Some(0)))), 50);
        assert!(rates.charge_caller(&key("a", None)).unwrap_err().retry_after <= Duration::from_secs(1));
    }
}
