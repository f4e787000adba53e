//! The step `closure LINES`: forks without a pause while somebody moves us, and finds out whether anybody is left outside.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Enough to span the move on an idle machine; a thousand of these run one after the other.
const CHILDREN_MAX: usize = 16;
/// Emulated machines are slow, and nothing here is hurried: it ends as soon as all are inside.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exits with the number of processes that did not end in our tree in `lines` hierarchies.
pub(crate) fn run(lines: usize) -> ! {
    let mut children = Vec::new();
    // Another rhythm each time, so that over many trials a fork falls on every instant of a move.
    let pause = Duration::from_micros(u64::from(std::process::id() % 16) * 10);
    while children.len() < CHILDREN_MAX && !inside(lines) {
        let next = Instant::now() + pause;
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        children.push(child(|| {
            // Every other child has one of its own, born outside as well if the timing is bad.
            let grandchild = std::process::id()
                .is_multiple_of(2)
                .then(|| child(|| arrives(lines)));
            let both = [arrives(lines), grandchild.is_none_or(succeeded)];
            both.into_iter().all(|fine| fine)
        }));
    }
    // One more for each side of the instant at which we were moved.
    children.push(child(|| arrives(lines)));
    let mut outside = i32::from(!arrives(lines));
    outside += children
        .into_iter()
        .map(|child| i32::from(!succeeded(child)))
        .sum::<i32>();
    std::process::exit(outside)
}

fn child(body: impl FnOnce() -> bool) -> Pid {
    // SAFETY: this program has one thread here, so the child may do whatever its parent might.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = i32::from(!body());
            std::process::exit(code)
        }
    }
}

fn succeeded(child: Pid) -> bool {
    matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
}

fn arrives(lines: usize) -> bool {
    let end = Instant::now() + PATIENCE;
    while !inside(lines) {
        if end < Instant::now() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn inside(lines: usize) -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    groups.matches("/ffrtmp.slice/").count() >= lines
}
