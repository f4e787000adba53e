#!/bin/bash
# Runs each step under its time limit and says how it ended. As the disk's init it first mounts what a booted system
# has; as a service of systemd it finds that done.
# Not busybox's shell: that one prefers its own applets to programs of the same name.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C GST_REGISTRY_FORK=no
box() { /bin/busybox "$@"; }
if [ $$ -eq 1 ]; then
    box mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
    box mount -t bpf bpf /sys/fs/bpf
    box mount -t tracefs tracefs /sys/kernel/tracing
    box mkdir -p /dev/pts /dev/shm
    box mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
    box mount -t tmpfs tmpfs /dev/shm
    box mount -t tmpfs tmpfs /run
    box chmod 1777 /tmp
    box hostname ffrtmp-vm
    box ip link set lo up
fi
seconds() { read -r up _ </proc/uptime && echo "$up"; }
failed=0
for step in /vm/steps/*; do
    name=${step##*/}
    read -r limit <"$step/limit"
    printf '\n@@vm begin %s %s\n' "$name" "$(seconds)"
    timeout -k 5 "$limit" /bin/bash "$step/run" </dev/null 2>&1
    status=$?
    [ $status -eq 0 ] || failed=1
    printf '\n@@vm end %s %s %s\n' "$name" "$status" "$(seconds)"
done
if [ $failed -ne 0 ]; then
    printf '\nlast kernel messages:\n'
    dmesg --level=emerg,alert,crit,err,warn | tail -n 20
fi
printf '\n@@vm done\n'
box sync
box poweroff -f
