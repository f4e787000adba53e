//! What a control group's path says of systemd: which service a process belongs to, and what its scope is called.
//!
//! Text in, text out. Whether systemd runs, and whether the unit still exists, is the host's to know.

use std::fmt::Write;

/// Services whose groups hold jobs of ours; a process in one was placed, and belongs to no service.
pub const OWN_UNITS: [&str; 2] = ["ffrtmp-governor.service", "ffrtmp-jobs.service"];

/// A service of the system's manager that a process was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, `nginx.service`.
    pub name: String,
    /// Its group as /proc/PID/cgroup lists it.
    pub group: String,
}

/// The system service that owns a group. `None` for sessions and units of users, whose place is not an administrator's
/// decision, for scopes, and for our own units.
pub fn service_of(cgroup: &str) -> Option<Unit> {
    let mut group = String::new();
    for part in cgroup.split('/').filter(|part| !part.is_empty()) {
        group.push('/');
        group.push_str(part);
        if part == "user.slice" || part.starts_with("user@") || ends(part, ".scope") {
            return None;
        }
        if ends(part, ".service") {
            return (!OWN_UNITS.contains(&part)).then(|| Unit {
                name: part.to_owned(),
                group,
            });
        }
    }
    None
}

/// Unit names are case-sensitive, unlike the endings of files.
fn ends(part: &str, kind: &str) -> bool {
    part.strip_suffix(kind).is_some_and(|name| !name.is_empty())
}

/// The slice of a class: `ffrtmp-live.slice` below `ffrtmp.slice`. A dash in a class would make another level.
pub fn slice_of(class: &str) -> String {
    format!("ffrtmp-{}.slice", escaped(class, false))
}

/// The scope of a job.
pub fn scope_of(name: &str) -> String {
    format!("ffrtmp-{}.scope", escaped(name, true))
}

/// True for the name of a scope that [`scope_of`] gives.
pub fn is_our_scope(name: &str) -> bool {
    name.starts_with("ffrtmp-") && ends(name, ".scope")
}

/// As systemd-escape(1) does: what a unit's name may not hold becomes `\xHH`.
fn escaped(text: &str, dash: bool) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':') || (dash && byte == b'-');
        if plain {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _never = write!(name, "\\x{byte:02x}");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_first_unit_of_the_path() {
        for (path, name) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/worker", Some("nginx.service")),
            (
                "/system.slice/system-stream.slice/stream@1.service",
                Some("stream@1.service"),
            ),
            ("/system.slice/cron.service", Some("cron.service")),
            ("/user.slice/user-1000.slice/session-2.scope", None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
                None,
            ),
            ("/system.slice/docker-1.scope", None),
            ("/ffrtmp.slice/ffrtmp-jobs.service/ffrtmp.slice/live/a", None),
            ("/system.slice/.service", None),
            ("/", None),
        ] {
            assert_eq!(service_of(path).map(|unit| unit.name).as_deref(), name, "{path}");
        }
        let unit = service_of("/system.slice/nginx.service/worker").unwrap();
        assert_eq!(unit.group, "/system.slice/nginx.service");
    }

    #[test]
    fn names_of_units_hold_nothing_systemd_refuses() {
        assert_eq!(slice_of("live"), "ffrtmp-live.slice");
        assert_eq!(slice_of("my-class"), r"ffrtmp-my\x2dclass.slice");
        assert_eq!(scope_of("auto-ffmpeg-7"), "ffrtmp-auto-ffmpeg-7.scope");
        assert_eq!(scope_of("a b"), r"ffrtmp-a\x20b.scope");
        assert!(is_our_scope("ffrtmp-a.scope") && !is_our_scope("session-1.scope"));
    }
}
