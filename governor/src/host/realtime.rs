//! The priority of the thread that places. It owns one system call and decides nothing.
//!
//! Between an exec and its placement the new process is runnable, often on the CPU that the reader must wake on. At a
//! normal priority the reader then waits for the next tick, whatever its nice value is; at `SCHED_FIFO` it runs at once.

use std::io;

/// Lowest real-time priority: above every normal thread, below whatever an operator made real-time on purpose.
const PRIORITY: i32 = 1;

/// Makes the calling thread real-time. Its children are not (`SCHED_RESET_ON_FORK`), for a workload must never inherit it.
pub fn raise_this_thread() -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: 0 is the calling thread, and the pointer is to a parameter that outlives the call.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameter,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_asks_is_raised_or_told_why_not_and_no_other() {
        let policy = |stat: &str| -> Option<u32> {
            // Field 41 of proc(5), counted after the name, which may hold blanks.
            let rest = stat.rsplit_once(") ")?.1;
            rest.split(' ').nth(38)?.parse().ok()
        };
        let raised = std::thread::spawn(move || {
            let result = raise_this_thread();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            (result, policy(&stat))
        });
        let (result, inside) = raised.join().unwrap();
        match result {
            Ok(()) => assert_eq!(inside, Some(libc::SCHED_FIFO as u32)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert_eq!(policy(&stat), Some(libc::SCHED_OTHER as u32));
    }
}
