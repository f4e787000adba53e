//! Who belongs to which job: the only reads and writes of MEMBERS, and of the counts that answer for most strangers.
//!
//! A count is raised before its key goes in and lowered after it came out, here and in user space. So it is never too low;
//! one that is too high costs a look into MEMBERS.

use ffrtmp_abi::{Member, ProcessKey, near_slot};

use crate::{
    maps::{MEMBERS, NEAR},
    task,
};

/// The job that a process belongs to.
#[inline(always)]
pub fn root_of(key: &ProcessKey) -> Option<ProcessKey> {
    let near = NEAR.get_ptr(near_slot(key.pid))?;
    // SAFETY: a successful lookup; user space writes it too, whole words at a time.
    if unsafe { core::ptr::read_volatile(near) } == 0 {
        return None;
    }
    MEMBERS.get_ptr(key).map(|member| {
        // SAFETY: a successful lookup.
        unsafe { (*member).root }
    })
}

/// Makes a process a member of a job. False when there is no room, or when `flags` forbid it.
#[inline(always)]
pub fn insert(key: &ProcessKey, root: ProcessKey, flags: u64) -> bool {
    add(key, 1);
    let done = MEMBERS.insert(key, &Member { root }, flags).is_ok();
    if !done {
        add(key, u64::MAX);
    }
    done
}

/// Gives a member to another job.
#[inline(always)]
pub fn give(key: &ProcessKey, root: ProcessKey) -> bool {
    MEMBERS.insert(key, &Member { root }, 0).is_ok()
}

/// Takes a process out. Of several that try only one succeeds.
#[inline(always)]
pub fn remove(key: &ProcessKey) -> bool {
    let done = MEMBERS.remove(key).is_ok();
    if done {
        add(key, u64::MAX);
    }
    done
}

#[inline(always)]
fn add(key: &ProcessKey, value: u64) {
    if let Some(near) = NEAR.get_ptr_mut(near_slot(key.pid)) {
        // SAFETY: a successful lookup.
        unsafe { task::add(near, value) };
    }
}
