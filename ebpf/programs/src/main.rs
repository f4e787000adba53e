//! Entry points of the kernel programs; what each does is told in `docs/architecture.md`.
//!
//! They keep three promises: an exec that the pre-filter does not know costs one lookup and wakes nobody; a record is
//! admitted at its exec or not at all; whatever is lost is counted.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic add on map values; see task.rs")]

mod emit;
mod exec;
mod exit;
mod fork;
mod iter;
mod maps;
mod members;
mod moved;
mod place;
mod signal;
mod task;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "sched_process_exec")]
fn on_exec(ctx: BtfTracePointContext) -> i32 {
    exec::on_exec(&ctx);
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
fn on_fork(ctx: BtfTracePointContext) -> i32 {
    fork::on_fork(&ctx);
    0
}

/// For kernels whose tracepoint tells whether this is the last thread.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit_group(ctx: BtfTracePointContext) -> i32 {
    let dead: u64 = ctx.arg(1);
    exit::on_exit(&ctx, dead & 0xff != 0, false);
    0
}

/// For kernels whose tracepoint does not: `signal->live` was lowered before it.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit_plain(ctx: BtfTracePointContext) -> i32 {
    let dead = exit::nobody_lives(&ctx);
    exit::on_exit(&ctx, dead, dead);
    0
}

#[btf_tracepoint(function = "signal_generate")]
fn on_signal(ctx: BtfTracePointContext) -> i32 {
    signal::on_signal(&ctx);
    0
}

#[btf_tracepoint(function = "cgroup_attach_task")]
fn on_move(ctx: BtfTracePointContext) -> i32 {
    moved::on_move(&ctx);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
