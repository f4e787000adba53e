//! Is a process in a container, and in whose: by the paths of its control groups, or by its pid namespace.
//!
//! A container is its engine's to limit, so what is found here is only observed unless a rule says otherwise. Other
//! namespaces say nothing: systemd gives units a mount namespace of their own for `PrivateTmp=`, and browsers, snaps and
//! `unshare -m` have one too, while their processes are the machine's like any other. What the machine itself is, a guest or
//! a container, is taken from its first process: sharing that one's container is being in none.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use procfs::ProcessCGroups;

use super::procfs::read_cgroups;
use crate::core::facts::NAMESPACE;

/// What is the machine's own.
#[derive(Debug)]
struct Home {
    groups: Option<ProcessCGroups>,
    pid_namespace: Option<(u64, u64)>,
}

/// The container of a process, `None` for one that is in none. The namespace is read only where the paths say nothing
/// and `namespaces` asks for it.
pub(super) fn of(pid: u32, groups: Option<&ProcessCGroups>, namespaces: bool) -> Option<String> {
    static HOME: OnceLock<Home> = OnceLock::new();
    let home = HOME.get_or_init(Home::read);
    let named = groups.and_then(|groups| by_paths(groups, home.groups.as_ref()));
    let apart = || namespaces && home.is_apart(pid);
    named.or_else(|| apart().then_some(NAMESPACE)).map(str::to_owned)
}

impl Home {
    fn read() -> Self {
        Self {
            groups: read_cgroups(1).ok(),
            // An unprivileged user may not look at pid 1; the reader's own namespace is then the best there is.
            pid_namespace: pid_namespace("1").or_else(|| pid_namespace("self")),
        }
    }

    /// False too when the namespace may not be read: what is not known makes no container.
    fn is_apart(&self, pid: u32) -> bool {
        match (self.pid_namespace, pid_namespace(&pid.to_string())) {
            (Some(home), Some(own)) => home != own,
            (None, _) | (_, None) => false,
        }
    }
}

/// Device and inode of the namespace, which together name it.
fn pid_namespace(process: &str) -> Option<(u64, u64)> {
    let found = std::fs::metadata(format!("/proc/{process}/ns/pid")).ok()?;
    Some((found.dev(), found.ino()))
}

/// Asks the path in every hierarchy: on a hybrid machine Docker fills the v1 ones and leaves v2 at its own service.
fn by_paths(groups: &ProcessCGroups, home: Option<&ProcessCGroups>) -> Option<&'static str> {
    groups.0.iter().find_map(|group| {
        let same = |other: &&procfs::ProcessCGroup| other.hierarchy == group.hierarchy;
        let base = home.and_then(|home| home.0.iter().find(same));
        let base = base.map_or("/", |base| base.pathname.as_str());
        // Below the group of a first process that is itself in a container, only what follows can tell another one.
        let rest = by_path(base).and_then(|_| group.pathname.strip_prefix(base));
        by_path(rest.unwrap_or(&group.pathname))
    })
}

/// The container runtime a group's path shows: `docker`, `podman`, `containerd`, `kubepods`, `lxc` or
/// `nspawn`.
///
/// Kubernetes comes before the runtime below it, because its own limits are what an operator looks at.
fn by_path(cgroup: &str) -> Option<&'static str> {
    let parts = || cgroup.split('/').filter(|part| !part.is_empty());
    // A scope's name is a unit's name; there the ending is case-sensitive, unlike a file's.
    let scope = |part: &str, prefix: &str| {
        let id = part
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(".scope"));
        id.is_some_and(|id| !id.is_empty())
    };
    let kind = if parts()
        .any(|part| part == "kubepods" || part == "kubepods.slice" || part.starts_with("kubepods-"))
    {
        "kubepods"
    } else if parts().any(|part| part == "libpod_parent" || part.starts_with("libpod-")) {
        "podman"
    } else if parts().any(|part| scope(part, "docker-")) || after(cgroup, "docker").is_some_and(is_hex_id) {
        "docker"
    } else if parts().any(|part| scope(part, "cri-containerd-") || scope(part, "nerdctl-"))
        || parts().any(|part| part.contains(":cri-containerd:"))
        || parts().next_back().is_some_and(is_hex_id)
            && parts().any(|part| part == "containerd.service" || part == "default" || part == "k8s.io")
    {
        "containerd"
    } else if parts().any(|part| part == "lxc" || part.starts_with("lxc.payload") || part.starts_with("lxc@"))
    {
        "lxc"
    } else if parts().any(|part| part == "machine.slice")
        && parts().any(|part| scope(part, "machine-") || part.starts_with("systemd-nspawn@"))
    {
        "nspawn"
    } else {
        return None;
    };
    Some(kind)
}

/// The part right below the one named.
fn after<'a>(path: &'a str, part: &str) -> Option<&'a str> {
    path.split('/').skip_while(|&found| found != part).nth(1)
}

/// A full container id: 64 hexadecimal digits.
fn is_hex_id(part: &str) -> bool {
    part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use procfs::FromRead;

    use super::*;

    const ID: &str = "4f1c0c1f8b0a4d6e9b7a2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071";

    #[test]
    fn container_runtimes_are_known_by_their_paths() {
        for (path, kind) in [
            (format!("/docker/{ID}"), Some("docker")),
            (format!("/system.slice/docker-{ID}.scope"), Some("docker")),
            (format!("/docker/{ID}/init.scope"), Some("docker")),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some("podman"),
            ),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
                Some("podman"),
            ),
            (format!("/libpod_parent/libpod-{ID}"), Some("podman")),
            (
                format!("/system.slice/cri-containerd-{ID}.scope"),
                Some("containerd"),
            ),
            (format!("/default/{ID}"), Some("containerd")),
            (
                format!("/system.slice/containerd.service/{ID}"),
                Some("containerd"),
            ),
            (format!("/system.slice/nerdctl-{ID}.scope"), Some("containerd")),
            (format!("/kubepods/burstable/pod12/{ID}"), Some("kubepods")),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
                ),
                Some("kubepods"),
            ),
            ("/lxc.payload.web/system.slice/x.service".to_owned(), Some("lxc")),
            ("/lxc/web".to_owned(), Some("lxc")),
            (
                "/machine.slice/systemd-nspawn@web.service/payload/system.slice/x.service".to_owned(),
                Some("nspawn"),
            ),
            (
                "/machine.slice/machine-web.scope/payload".to_owned(),
                Some("nspawn"),
            ),
            ("/machine.slice".to_owned(), None),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope"),
                Some("docker"),
            ),
            ("/".to_owned(), None),
            ("/system.slice/docker.service".to_owned(), None),
            ("/system.slice/nginx.service".to_owned(), None),
            ("/user.slice/user-1000.slice/session-2.scope".to_owned(), None),
            ("/ffrtmp.slice/default/docker".to_owned(), None),
            ("/docker/buildx".to_owned(), None),
            ("/ffrtmp.slice/default/auto-ffmpeg-1".to_owned(), None),
        ] {
            assert_eq!(by_path(&path), kind, "{path}");
        }
    }

    #[test]
    fn every_hierarchy_is_asked_and_the_machines_own_container_is_none() {
        let docker = format!("/docker/{ID}");
        let read = |text: &str| ProcessCGroups::from_read(text.as_bytes()).unwrap();
        let bare = read("4:memory:/\n0::/\n");
        let guest = read(&format!("4:memory:{docker}\n0::/system.slice/docker.service\n"));
        for (home, groups, kind) in [
            (
                &bare,
                format!("4:memory:{docker}\n0::/system.slice/docker.service\n"),
                Some("docker"),
            ),
            (&bare, "4:memory:/\n0::/\n".to_owned(), None),
            (
                &guest,
                format!("4:memory:{docker}\n0::/system.slice/docker.service\n"),
                None,
            ),
            (
                &guest,
                format!("4:memory:{docker}/ffrtmp.slice/default/x\n0::/\n"),
                None,
            ),
            (&guest, format!("4:memory:{docker}/lxc/web\n0::/\n"), Some("lxc")),
            // Seen from a cgroup namespace of one's own, others' paths climb out of it first.
            (&bare, format!("0::/../../docker/{ID}\n"), Some("docker")),
        ] {
            assert_eq!(by_paths(&read(&groups), Some(home)), kind, "{groups:?}");
        }
        assert_eq!(by_paths(&guest, None), Some("docker"));
    }
}
