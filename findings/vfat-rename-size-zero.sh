#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Linux 6.1 (Debian 12, linux-image-6.1.0-56-amd64): on vfat the usual way to replace a file durably keeps an empty file.
#
# Write under a temporary name, fsync the file, rename it, fsync the directory: that is how programs keep what they have
# promised, and it does so on ext4, exfat and f2fs. On vfat rename makes a new directory entry whose size is 0 until the inode
# is written again, and fsync of the directory does not write it. After a power cut the file is there under its new name and is
# empty; its clusters are lost. A second fsync of the file, after the rename, writes the size.
#
# Seen after the machine was switched off right behind the last step (bytes of a file of 5000):
#	vfat: fsync, rename, fsync of the directory: 0
#	vfat: the same and fsync of the file: 5000
#	exfat: fsync, rename, fsync of the directory: 5000
#	ext4: fsync, rename, fsync of the directory: 5000
#	f2fs: fsync, rename, fsync of the directory: 5000
#
# Needs Debian 12 on amd64 (apt-get download), qemu-system-x86_64, cpio and mke2fs. The machine is emulated; it has no network. Ends
# with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

KERNEL=linux-image-6.1.0-56-amd64
MODULES='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk nls_cp437 nls_ascii nls_utf8
	fat vfat exfat crc16 crc32c_generic mbcache jbd2 ext4 crc32_generic lz4_compress lz4hc_compress xxhash zstd_compress f2fs'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
PATH=$PATH:/usr/sbin:/sbin
export PATH
apt-get -qq -o APT::Sandbox::User=root download "$KERNEL=6.1.192-2" busybox-static=1:1.35.0-4+deb12u1+b1 \
	dosfstools=4.2-1 exfatprogs=1.2.0-1+deb12u1 f2fs-tools=1.15.0-1
for package in ./*.deb; do
	dpkg -x "$package" root
	rm "$package"
done

mkdir -p tree/bin tree/dev tree/proc tree/modules tree/disk
cp root/bin/busybox tree/bin/
for applet in sh mount umount insmod mkdir dd mv sync cat poweroff wc; do
	ln -s busybox "tree/bin/$applet"
done
for name in $MODULES; do
	file=$(find root/lib/modules -name "$name.ko" | head -n 1)
	[ -z "$file" ] || { cp "$file" tree/modules/ && echo "$name" >>tree/modules/order; }
done
# The kernel's command line says in FS what to mount and in STEP what to do.
cat >tree/init <<'END'
#!/bin/sh
PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko" || echo "said: no $module"; done </modules/order
read -r line </proc/cmdline
for word in $line; do case $word in FS=*) fs=${word#FS=} ;; STEP=*) step=${word#STEP=} ;; esac; done
mount -t "$fs" /dev/vda /disk || echo 'said: no disk'
if [ "$step" = read ]; then
	echo "said: $(wc -c </disk/message)"
else
	dd if=/dev/zero of=/disk/temporary bs=1000 count=5 2>/dev/null
	# With a name, busybox's sync is fsync of that file.
	sync /disk/temporary
	mv /disk/temporary /disk/message
	[ "$step" = again ] && sync /disk/message
	sync /disk
	echo 'said: done'
fi
# At once, and without a sync.
poweroff -nf
END
chmod 755 tree/init
(cd tree && find . | cpio -o -H newc 2>/dev/null) >initramfs
kernel=$(echo root/boot/vmlinuz-*)

boot() {
	timeout 120 qemu-system-x86_64 -M pc -m 256 -nographic -nic none -no-reboot -kernel "$kernel" -initrd initramfs \
		-append "console=ttyS0 quiet panic=-1 FS=$1 STEP=$2" -drive file=disk,format=raw,if=virtio </dev/null 2>/dev/null |
		tr -d '\r' | sed -n 's/^.*said: //p'
}

# row FS STEP TEXT MKFS...
row() {
	fs=$1 step=$2 text=$3
	shift 3
	rm -f disk
	truncate -s 64M disk
	"$@" disk >mkfs.log 2>&1 || { cat mkfs.log >&2; exit 2; }
	[ "$(boot "$fs" "$step")" = 'done' ] || { echo "$fs: the first machine did not get to its end" >&2; exit 2; }
	echo "$fs: $text: $(boot "$fs" read)"
}

LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
{
	row vfat once 'fsync, rename, fsync of the directory' root/sbin/mkfs.fat
	row vfat again 'the same and fsync of the file' root/sbin/mkfs.fat
	row exfat once 'fsync, rename, fsync of the directory' root/usr/sbin/mkfs.exfat
	row ext4 once 'fsync, rename, fsync of the directory' mke2fs -q -t ext4
	row f2fs once 'fsync, rename, fsync of the directory' root/sbin/mkfs.f2fs
} >seen
cat seen
cat >expected <<'END'
vfat: fsync, rename, fsync of the directory: 0
vfat: the same and fsync of the file: 5000
exfat: fsync, rename, fsync of the directory: 5000
ext4: fsync, rename, fsync of the directory: 5000
f2fs: fsync, rename, fsync of the directory: 5000
END
if ! diff expected seen; then
	echo 'changed: the kernel no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
