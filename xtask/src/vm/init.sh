#!/bin/busybox sh
# First process of the guest: loads what the disk needs, then hands over to the disk's own init.
/bin/busybox mkdir -p /proc /sys /dev /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module" || echo "@@vm fatal insmod $module"
done </modules/order
tries=0
until [ -b /dev/vda ] || [ $tries -ge 50 ]; do
    /bin/busybox usleep 100000
    tries=$((tries + 1))
done
if /bin/busybox mount -t ext4 -o noatime /dev/vda /disk; then
    for directory in proc sys dev; do
        /bin/busybox mount --move /$directory /disk/$directory
    done
    exec /bin/busybox switch_root /disk /vm/init
fi
echo "@@vm fatal no disk"
/bin/busybox poweroff -f
