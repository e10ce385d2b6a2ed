#!/bin/busybox sh
# Init of the miniature release: mounts what a node would mount, says what it sees, powers off.
# Each line starts with a word and a colon; the last is "TALOS-MINI: done".
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
case "$($b uname -m)" in aarch64) tty=/dev/ttyAMA0 ;; *) tty=/dev/ttyS0 ;; esac
exec > $tty 2>&1 < /dev/null
echo
echo "TALOS-MINI: start"
echo "kernel: $($b uname -r)"
echo "cmdline: $($b cat /proc/cmdline)"
for module in loop squashfs overlay; do
  $b insmod /modules/$module.ko || echo "failed: insmod $module"
done
$b mount -t tmpfs tmpfs /mnt
$b mkdir /mnt/base /mnt/root
$b mount -t squashfs -o ro,loop /rootfs.sqsh /mnt/base || echo "failed: mount rootfs.sqsh"
lower=/mnt/base
if [ -f /extensions.yaml ]; then
  while IFS= read -r line; do echo "yaml: $line"; done < /extensions.yaml
  for image in $($b sed -n 's/^ *- image: *//p' /extensions.yaml); do
    at=/mnt/$image
    $b mkdir "$at"
    if $b mount -t squashfs -o ro,loop "/$image" "$at"; then
      echo "extension: $image"
      (cd "$at" && $b find . ! -type d | $b sort | $b sed "s|^\.|file: $image |")
      lower=$at:$lower
    else
      echo "failed: mount $image"
    fi
  done
fi
for folder in /lib/firmware /usr/lib/firmware; do
  [ -d $folder ] && $b find $folder -type f | $b sort | $b sed 's|^|firmware: |'
done
# One layer is no overlay: the last extension is over the first, all are over the base.
if [ "$lower" != /mnt/base ] && $b mount -t overlay -o "ro,lowerdir=$lower" overlay /mnt/root; then
  $b mount -t proc proc /mnt/root/proc
  # Before 1.10 /lib is a folder of its own; since then it is a link to /usr/lib.
  folder=/mnt/root/lib/modules
  [ -L /mnt/root/lib ] && folder=/mnt/root/usr/lib/modules
  for module in $($b find $folder -path '*/extras/*.ko'); do
    name=$($b basename "$module" .ko)
    if $b chroot /mnt/root /usr/bin/busybox modprobe "$name"; then
      echo "modprobe: $name"
    else
      echo "failed: modprobe $name"
    fi
  done
fi
# The partitions of a disk: what META holds, and whether BOOT can be written to.
modules=/mnt/base/lib/modules/$($b uname -r)/kernel
$b insmod $modules/drivers/block/virtio_blk.ko || echo "failed: insmod virtio_blk"
for partition in /sys/class/block/*/partition; do
  [ -f "$partition" ] || continue
  folder=${partition%/*}
  device=/dev/${folder##*/}
  name=$($b sed -n 's/^PARTNAME=//p' "$folder/uevent")
  echo "partition: $name of $($b cat "$folder/../queue/logical_block_size")"
  case "$name" in
    META) echo "meta: $($b hexdump -v -n 4096 -e '1/1 "%02x"' "$device")" ;;
    BOOT)
      for module in lib/libcrc32c fs/xfs/xfs; do
        $b insmod $modules/$module.ko || echo "failed: insmod $module"
      done
      $b mkdir /mnt/boot
      if $b mount -t xfs "$device" /mnt/boot; then
        echo "written by Linux" > /mnt/boot/A/written || echo "failed: write to BOOT"
        $b sync
        $b umount /mnt/boot || echo "failed: umount BOOT"
      else
        echo "failed: mount BOOT"
      fi
      ;;
  esac
done
echo "TALOS-MINI: done"
$b poweroff -f
