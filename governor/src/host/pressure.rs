//! Pressure stall information: has the kernel announce a stall, instead of reading averages on a timer.
//!
//! Owns the trigger and the file it is set on. It decides nothing: that a stall was reached is told to the core.
//!
//! A trigger is one write (`some STALL WINDOW`, microseconds) to a pressure file; the descriptor then reports `POLLPRI`
//! at most once a window while the stall lasts. Without `CAP_SYS_RESOURCE` the kernel takes windows of whole 2 s only
//! (6.4 and later; before it took none at all).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::file::{IoError, chain};
use crate::core::pressure::Watch;

/// Pressure of the whole machine.
const MACHINE: &str = "/proc/pressure";
/// `PSI_FREQ` of kernel/sched/psi.c: windows of the unprivileged are multiples of it, µs.
const UNPRIVILEGED_WINDOW_US: u64 = 2_000_000;

/// A trigger the kernel has taken; it lives as long as its descriptor.
#[derive(Debug)]
pub struct Trigger {
    file: File,
    /// The file it is set on.
    pub path: PathBuf,
    /// What was written.
    pub written: String,
}

/// Why the kernel announces no stall.
#[derive(Debug, thiserror::Error)]
pub enum PressureError {
    /// The kernel has no pressure stall information.
    #[error("this kernel tells no pressure (no {MACHINE}); boot it with psi=1, or build it with CONFIG_PSI")]
    Absent,
    /// The class has no group in the unified hierarchy.
    #[error(
        "class {class} has no pressure of its own, because no cgroup v2 hierarchy is mounted; leave watch.class out to \
         watch the whole machine"
    )]
    NoGroup {
        /// The class.
        class: String,
    },
    /// The class's group could not be made.
    #[error("make the group of class {class}")]
    Group {
        /// The class.
        class: String,
        /// Why.
        source: IoError,
    },
    /// The trigger cannot be waited for.
    #[error("wait for {}", path.display())]
    Wait {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not take the trigger.
    #[error("set a pressure trigger")]
    Refused(#[source] IoError),
}

/// True when this kernel tells pressure at all. The files may exist and answer `EOPNOTSUPP` (psi=0).
pub fn is_available() -> bool {
    std::fs::read(Path::new(MACHINE).join("cpu")).is_ok()
}

impl Trigger {
    /// Sets the trigger on the machine, or on the class's group when there is one.
    pub fn set(watch: &Watch, group: Option<&Path>) -> Result<Self, PressureError> {
        if !is_available() {
            return Err(PressureError::Absent);
        }
        let resource = watch.resource.word();
        let path = match group {
            Some(group) => group.join(format!("{resource}.pressure")),
            None => Path::new(MACHINE).join(resource),
        };
        Self::on(&path, watch)
    }

    fn on(path: &Path, watch: &Watch) -> Result<Self, PressureError> {
        let share = watch.share.word();
        let asked = format!("{share} {} {}", watch.stall_us, watch.window_us);
        let refused = match Self::write(path, asked) {
            Ok(trigger) => return Ok(trigger),
            Err(error) => error,
        };
        // EINVAL is what the unprivileged get for any other window; the stall grows with it.
        let (stall, window) = for_unprivileged(watch.stall_us, watch.window_us);
        let may_help = matches!(refused.errno(), Some(libc::EINVAL | libc::EPERM));
        if !may_help || window == watch.window_us {
            return Err(PressureError::Refused(refused));
        }
        Self::write(path, format!("{share} {stall} {window}")).map_err(|_| PressureError::Refused(refused))
    }

    fn write(path: &Path, text: String) -> Result<Self, IoError> {
        let opened = File::options().read(true).write(true).open(path);
        let mut file = opened.map_err(|error| IoError::new("open", path, error))?;
        // The kernel takes the text with its closing NUL.
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        file.write_all(&bytes).map_err(|source: io::Error| IoError {
            op: "write",
            path: path.to_owned(),
            value: Some(text.clone()),
            source,
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
            written: text,
        })
    }

    /// One line for `doctor`.
    pub fn describe(&self, watch: &Watch) -> String {
        let path = self.path.display();
        let asked = format!("{} {} {}", watch.share.word(), watch.stall_us, watch.window_us);
        if self.written == asked {
            format!("{path}: {asked}")
        } else {
            format!(
                "{path}: {} in place of {asked}, because without CAP_SYS_RESOURCE the kernel takes windows of whole 2 s",
                self.written
            )
        }
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The next window the unprivileged may have, and the same share of it as a stall.
fn for_unprivileged(stall_us: u64, window_us: u64) -> (u64, u64) {
    let window = window_us.div_ceil(UNPRIVILEGED_WINDOW_US).max(1) * UNPRIVILEGED_WINDOW_US;
    let stall = u128::from(stall_us) * u128::from(window) / u128::from(window_us.max(1));
    (u64::try_from(stall).unwrap_or(window), window)
}

/// The error in one line.
pub fn because(error: &PressureError) -> String {
    chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pressure::{Resource, Share};

    fn watch(stall_us: u64, window_us: u64) -> Watch {
        Watch {
            class: None,
            resource: Resource::Cpu,
            share: Share::Some,
            stall_us,
            window_us,
        }
    }

    #[test]
    fn the_share_of_a_wider_window_stays_the_same() {
        for (stall, window, wider) in [
            (150_000, 1_000_000, (300_000, 2_000_000)),
            (150_000, 2_000_000, (150_000, 2_000_000)),
            (500_000, 2_500_000, (800_000, 4_000_000)),
            (1, 10_000_000, (1, 10_000_000)),
        ] {
            assert_eq!(for_unprivileged(stall, window), wider);
        }
    }

    #[test]
    fn a_file_that_is_no_pressure_file_is_named() {
        let error = Trigger::on(Path::new("/nowhere/cpu.pressure"), &watch(1, 2_000_000)).unwrap_err();
        assert_eq!(
            because(&error),
            "set a pressure trigger: open /nowhere/cpu.pressure: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_trigger_says_what_was_written_in_place_of_what() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let asked = watch(150_000, 1_000_000);
        let trigger = Trigger::write(file.path(), "some 300000 2000000".to_owned()).unwrap();
        let text = trigger.describe(&asked);
        assert!(
            text.contains("some 300000 2000000 in place of some 150000 1000000"),
            "{text}"
        );
        let trigger = Trigger::on(file.path(), &asked).unwrap();
        assert!(trigger.describe(&asked).ends_with(": some 150000 1000000"));
    }
}
