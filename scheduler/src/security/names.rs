//! Under which names and addresses this machine may be called, for its certificate.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;

/// What the operator named, then localhost, the host's name, and every address of its interfaces (only the one listened
/// on, where that is not all). A name that cannot be found out is left out.
pub(super) fn of_this_host(listen: SocketAddr, named: &[String]) -> Vec<String> {
    let mut names = named.to_vec();
    names.push("localhost".to_owned());
    if let Ok(host) = nix::unistd::gethostname()
        && let Ok(host) = crate::config::host_name(&host.to_string_lossy())
    {
        names.push(host);
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    if listen.ip().is_unspecified() {
        names.extend(interface_addresses().iter().map(IpAddr::to_string));
    } else {
        names.push(listen.ip().to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Link-local addresses are left out: nobody can write them without a zone, which no certificate has.
fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_named_hosts_are_always_in_and_none_twice() {
        let names = of_this_host(
            "0.0.0.0:1".parse().unwrap(),
            &["media.example".to_owned(), "::1".to_owned()],
        );
        for expected in ["media.example", "localhost", "127.0.0.1", "::1"] {
            assert_eq!(
                names.iter().filter(|name| *name == expected).count(),
                1,
                "{expected} in {names:?}"
            );
        }
        let one = of_this_host("192.0.2.7:1".parse().unwrap(), &[]);
        assert!(one.contains(&"192.0.2.7".to_owned()));
    }
}
