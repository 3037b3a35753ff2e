#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Linux 6.1 (Debian 12, linux-image-6.1.0-56-amd64): of two file systems for raw flash, JFFS2 loses nothing that was not synced,
# and UBIFS keeps the names and loses the content.
#
# A program that writes files under temporary names and renames them, without any sync, looks right when it is tested on a
# router with JFFS2: each write is on the flash when the call returns. On a router with UBIFS (NAND flash) data waits in the
# page cache, while names go through the journal. So a test on JFFS2 proves nothing about the syncs of a program, nor does one
# that only counts the files.
#
# Seen after the machine was switched off right behind the last step (files of 5000 bytes, 20 of them, written and renamed;
# how many are there, how many of them are empty, how many whole):
#	jffs2, no sync: 20 there, 0 empty, 20 whole
#	ubifs, no sync, the directory is synced: 20 there, 20 empty, 0 whole
#	ubifs, each file is synced before its rename, then the directory: 20 there, 0 empty, 20 whole
#
# The flash is memory of the machine (mtdram), which is copied to a disk at the moment of the cut, and back at the next start.
# Needs Debian 12 on amd64 (apt-get download), and qemu-system-x86_64. The machine is emulated; it has no network. Ends
# with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

KERNEL=linux-image-6.1.0-56-amd64
MODULES='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk mtd mtdram crc16 zstd_compress
	zstd jffs2 ubi ubifs'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download "$KERNEL=6.1.192-2" busybox-static=1:1.35.0-4+deb12u1+b1 mtd-utils=1:2.1.5-1
for package in ./*.deb; do
	dpkg -x "$package" root
	rm "$package"
done

mkdir -p tree/bin tree/dev tree/proc tree/modules tree/disk
cp root/bin/busybox tree/bin/
for applet in sh mount umount insmod mkdir dd mv sync cat poweroff wc seq; do
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
read -r line </proc/cmdline
for word in $line; do case $word in FS=*) fs=${word#FS=} ;; STEP=*) step=${word#STEP=} ;; esac; done
while read -r module; do
	set --
	case $module in
	mtdram) set -- total_size=16384 erase_size=64 ;;
	ubi) [ "$fs" = ubifs ] && set -- mtd=0 ;;
	esac
	insmod "/modules/$module.ko" "$@" || echo "said: no $module"
	# The flash as the cut has left it, or as it came from the factory.
	[ "$module" = mtdram ] && dd if=/dev/vda of=/dev/mtd0 bs=64k 2>/dev/null
done </modules/order
if [ "$fs" = ubifs ]; then
	mount -t ubifs ubi0:data /disk || echo 'said: no disk'
else
	mount -t jffs2 mtd0 /disk || echo 'said: no disk'
fi
if [ "$step" = read ]; then
	there=0 empty=0 whole=0
	for number in $(seq 20); do
		[ -e "/disk/message.$number" ] || continue
		there=$((there + 1))
		case $(wc -c <"/disk/message.$number") in
		0) empty=$((empty + 1)) ;;
		5000) whole=$((whole + 1)) ;;
		esac
	done
	echo "said: $there there, $empty empty, $whole whole"
else
	for number in $(seq 20); do
		dd if=/dev/zero of=/disk/temporary bs=1000 count=5 2>/dev/null
		# With a name, busybox's sync is fsync of that file.
		[ "$step" = synced ] && sync /disk/temporary
		mv /disk/temporary "/disk/message.$number"
	done
	[ "$step" = none ] || sync /disk
	dd if=/dev/mtd0 of=/dev/vda bs=64k conv=fsync 2>/dev/null
	echo 'said: done'
fi
# At once, and without a sync.
poweroff -nf
END
chmod 755 tree/init
(cd tree && find . | bin/busybox cpio -o -H newc 2>/dev/null) >initramfs
kernel=$(echo root/boot/vmlinuz-*)

boot() {
	timeout 120 qemu-system-x86_64 -M pc -m 256 -nographic -nic none -no-reboot -kernel "$kernel" -initrd initramfs \
		-append "console=ttyS0 quiet panic=-1 FS=$1 STEP=$2" -drive file=disk,format=raw,if=virtio </dev/null 2>/dev/null |
		tr -d '\r' | sed -n 's/^.*said: //p'
}

# flash FS: the flash as it comes from the factory: erased, or with one empty volume.
flash() {
	if [ "$1" = ubifs ]; then
		printf '[data]\nmode=ubi\nvol_id=0\nvol_type=dynamic\nvol_name=data\nvol_size=8MiB\n' >ubi.ini
		root/usr/sbin/ubinize -o image -p 64KiB -m 1 -s 1 ubi.ini
	else
		: >image
	fi
	head -c 16777216 /dev/zero | tr '\000' '\377' >disk
	dd if=image of=disk conv=notrunc 2>/dev/null
}

# row FS STEP TEXT
row() {
	flash "$1"
	[ "$(boot "$1" "$2")" = 'done' ] || { echo "$1: the first machine did not get to its end" >&2; exit 2; }
	echo "$1, $3: $(boot "$1" read)"
}

{
	row jffs2 none 'no sync'
	row ubifs directory 'no sync, the directory is synced'
	row ubifs synced 'each file is synced before its rename, then the directory'
} >seen
cat seen
cat >expected <<'END'
jffs2, no sync: 20 there, 0 empty, 20 whole
ubifs, no sync, the directory is synced: 20 there, 20 empty, 0 whole
ubifs, each file is synced before its rename, then the directory: 20 there, 0 empty, 20 whole
END
if ! diff expected seen; then
	echo 'changed: the kernel no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
