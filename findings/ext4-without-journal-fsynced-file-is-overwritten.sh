#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Linux 6.1 (Debian 12, linux-image-6.1.0-56-amd64) and e2fsprogs 1.47.0: on ext4 without a journal, files that were synced
# together with their directory are overwritten by the next files after a power cut.
#
# OpenWrt makes its ext4 images without a journal unless CONFIG_TARGET_EXT4_JOURNAL is set, and mounts them without a check.
# fsync of a file writes its content, its inode and, when the file is new, the directory, but not the maps that say which
# inodes and blocks are in use. After a power cut the file is there, complete, and the kernel mounts the file system with a
# warning; the files that are created then get the same blocks, and no error is reported. syncfs writes the maps as well, and so does
# a journal. (e2fsck before the mount repairs the maps.)
#
# Seen after the machine was switched off right behind the last sync and ten files were created after the next boot (of five files,
# those whose content was still theirs):
#	journal, fsync of the file and the directory: 5 before, 5 after
#	no journal, fsync of the file and the directory: 5 before, 0 after
#	no journal, syncfs: 5 before, 5 after
#
# Needs Debian 12 on amd64 (apt-get download) and qemu-system-x86_64. The machine is emulated; it has no network. Ends with 0
# when the behaviour is as described, with 1 when it has changed.
set -eu

KERNEL=linux-image-6.1.0-56-amd64
MODULES='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc16 crc32c_generic mbcache jbd2
	ext4'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download "$KERNEL=6.1.192-2" busybox-static=1:1.35.0-4+deb12u1+b1 \
	e2fsprogs=1.47.0-2+b2
for package in ./*.deb; do
	dpkg -x "$package" root
	rm "$package"
done

mkdir -p tree/bin tree/dev tree/proc tree/modules tree/disk
cp root/bin/busybox tree/bin/
for applet in sh mount insmod sync cat poweroff; do
	ln -s busybox "tree/bin/$applet"
done
for name in $MODULES; do
	file=$(find root/lib/modules -name "$name.ko" | head -n 1)
	[ -z "$file" ] || { cp "$file" tree/modules/ && echo "$name" >>tree/modules/order; }
done
# The kernel's command line says in STEP what to do. With a name, busybox's sync is fsync of that file; with -f it is syncfs.
cat >tree/init <<'END'
#!/bin/sh
PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko" || echo "said: no $module"; done </modules/order
read -r line </proc/cmdline
for word in $line; do case $word in STEP=*) step=${word#STEP=} ;; esac; done
mount -t ext4 /dev/vda /disk || echo 'said: no disk'
if [ "$step" = read ]; then
	count=0
	for number in 1 2 3 4 5; do
		[ "$(cat "/disk/mail$number")" = "message $number" ] && count=$((count + 1))
	done
	echo "said: $count"
elif [ "$step" = more ]; then
	for number in 1 2 3 4 5 6 7 8 9 10; do echo "later $number" >"/disk/later$number"; done
	sync
	echo 'said: done'
else
	for number in 1 2 3 4 5; do
		echo "message $number" >"/disk/mail$number"
		case $step in
		fsync)
			sync "/disk/mail$number"
			sync /disk
			;;
		syncfs) sync -f "/disk/mail$number" ;;
		esac
	done
	echo 'said: done'
fi
# At once, and without a sync.
poweroff -nf
END
chmod 755 tree/init
(cd tree && find . | ../root/bin/busybox cpio -o -H newc 2>/dev/null) >initramfs
kernel=$(echo root/boot/vmlinuz-*)

boot() {
	timeout 120 qemu-system-x86_64 -M pc -m 256 -nographic -nic none -no-reboot -kernel "$kernel" -initrd initramfs \
		-append "console=ttyS0 quiet panic=-1 STEP=$1" -drive file=disk,format=raw,if=virtio </dev/null 2>/dev/null |
		tr -d '\r' | sed -n 's/^.*said: //p'
}

# after_a_cut FEATURE STEP: what is left of the five files.
after_a_cut() {
	rm -f disk
	truncate -s 64M disk
	root/sbin/mke2fs -q -F -t ext4 -O "$1" disk
	if [ "$(boot "$2")" != 'done' ]; then
		echo "the machine did not do $2"
		return
	fi
	before=$(boot read)
	[ "$(boot more)" = 'done' ] || before='?'
	echo "$before before, $(boot read) after"
}

status=0
check() {
	echo "$1: $2"
	[ "$2" = "$3" ] || { echo "expected: $3" && status=1; }
}

check 'journal, fsync of the file and the directory' "$(after_a_cut has_journal fsync)" '5 before, 5 after'
check 'no journal, fsync of the file and the directory' "$(after_a_cut ^has_journal fsync)" '5 before, 0 after'
check 'no journal, syncfs' "$(after_a_cut ^has_journal syncfs)" '5 before, 5 after'
[ "$status" = 1 ] || echo 'as described'
exit $status
