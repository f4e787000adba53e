//! signal_generate: who aims a fatal signal at a first process. Runs in the sender's context.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_comm, bpf_probe_read_kernel},
    programs::BtfTracePointContext,
};
use core::ffi::c_void;
use ffrtmp_abi::flag;

use crate::{
    maps::RECORDS,
    task::{self, OFF_SIGINFO_CODE, Ptr},
};

/// Signals whose default is not to end the process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 =
    1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;
const SIGKILL: u32 = 9;
/// `TRACE_SIGNAL_DELIVERED`; all else was ignored or already pending.
const DELIVERED: u64 = 0;

#[inline(always)]
pub fn on_signal(ctx: &BtfTracePointContext) {
    let signal = ctx.arg::<u64>(0) as u32;
    if signal == 0 || signal > 64 || (signal < 64 && HARMLESS >> signal & 1 != 0) {
        return;
    }
    if ctx.arg::<u64>(4) & 0xffff_ffff != DELIVERED {
        return;
    }
    let target: Ptr = ctx.arg::<*const c_void>(2);
    // SAFETY: argument 2 is the target task.
    unsafe {
        let key = task::key(target);
        let Some(record) = RECORDS.get_ptr_mut(&key) else { return };
        // Nothing comes after a SIGKILL.
        if (*record).flags & flag::KILLER != 0 && (*record).kill_signal == SIGKILL {
            return;
        }
        let info = ctx.arg::<u64>(1);
        let code = si_code(info);
        (*record).kill_signal = signal;
        (*record).kill_code = code;
        (*record).kill_pid = ctx.tgid();
        (*record).kill_uid = ctx.uid();
        (*record).kill_comm = bpf_get_current_comm().unwrap_or_default();
        let mut flags = (*record).flags & !flag::KILLER_KERNEL | flag::KILLER;
        // SEND_SIG_PRIV is the pointer value 1; a positive code means "raised by the kernel".
        if info == 1 || (code > 0 && info > 1) {
            flags |= flag::KILLER_KERNEL;
        }
        (*record).flags = flags;
    }
}

/// `si_code`. The pointer may be 0 (no info, from a user) or 1 (the kernel) instead of an address, so it is only ever
/// read through the helper that survives a fault.
#[inline(always)]
fn si_code(info: u64) -> i32 {
    if info <= 1 || OFF_SIGINFO_CODE.load() == 0 {
        return i32::MIN;
    }
    let at = info + u64::from(OFF_SIGINFO_CODE.load());
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(at as *const i32) }.unwrap_or(i32::MIN)
}
