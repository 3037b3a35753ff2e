#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Cuts the power of the gateway: prepares a small virtual machine and runs tests/powercut in it.
#
#	scripts/powercut.sh		prepare, then test
#	scripts/powercut.sh prepare	only prepare: target/powercut/{vmlinuz,initramfs}
#
# The kernel and busybox are taken out of Debian's packages and unpacked below target/: nothing of this machine's own
# boot set-up is touched. What else is needed installs scripts/need.sh.
#
# For the test: POWERCUT_SEED repeats a run, POWERCUT_CUTS is the number of cuts with durability 'always',
# POWERCUT_ACCEL=kvm uses KVM in place of emulation, POWERCUT_PROGRAM is another smtprelay than the one that is there, such
# as an earlier one (static, or for this machine).
set -eu

KERNEL_PACKAGE=linux-image-amd64
# In the order of loading. What is built into the kernel is left out.
MODULES='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk failover net_failover
	virtio_net crc16 crc32c_generic mbcache jbd2 ext4 fat vfat nls_cp437 nls_ascii nls_utf8 exfat xxhash_generic xxhash
	zstd_compress lz4_compress lz4hc_compress crc32_generic f2fs'
APPLETS='sh mount insmod mkdir tar ip sleep poweroff'

die() {
	echo "powercut.sh: $*" >&2
	exit 1
}

download() {
	(cd "$work/download" && apt-get download -qq "$1" 2>"$work/download.log")
}

# fetch PACKAGE: unpacks it into $work/PACKAGE, once for each version.
fetch() {
	version=$(apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p')
	[ -n "$version" ] || die "apt knows no package $1: this needs Debian on x86-64, and 'apt-get update' before"
	[ "$(cat "$work/$1/.version" 2>/dev/null)" = "$version" ] && return
	echo "powercut.sh: fetching $1 $version" >&2
	rm -rf "${work:?}/$1" "$work/download"
	mkdir -p "$work/$1" "$work/download"
	download "$1" || { apt-get update >/dev/null && download "$1"; } || {
		cat "$work/download.log" >&2
		die "can't download $1"
	}
	dpkg -x "$work/download/"*.deb "$work/$1"
	rm -rf "$work/download"
	echo "$version" >"$work/$1/.version"
}

# add_module NAME: into the initramfs, unless it is in the kernel.
add_module() {
	file=$(find "$modules" -name "$1.ko" | head -n 1)
	if [ -n "$file" ]; then
		cp "$file" "$tree/modules/"
		echo "$1" >>"$tree/modules/order"
	else
		grep -q "/$1\\.ko\$" "$modules/modules.builtin" || die "no module $1 in $kernel"
	fi
}

prepare() {
	mkdir -p "$work"
	[ "$(uname -m)" = x86_64 ] || die 'this needs a machine with x86-64'
	command -v apt-get >/dev/null || die "this needs Debian's apt-get, for kernel and busybox"
	apt-cache show "$KERNEL_PACKAGE" >/dev/null 2>&1 || apt-get update >/dev/null ||
		die "run 'apt-get update' as root"
	kernel=$(apt-cache depends --important "$KERNEL_PACKAGE" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$kernel" ] || die "can't tell which kernel $KERNEL_PACKAGE stands for"
	fetch "$kernel"
	fetch busybox-static
	program=${POWERCUT_PROGRAM:-$(scripts/target_dir.sh)/cross/x86_64/smtprelay}
	[ -x "$program" ] || die "$program is missing: make cross ARCH=x86_64"

	tree=$work/tree
	rm -rf "$tree"
	mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/etc" "$tree/modules"
	find "$work/busybox-static" -name busybox -type f -perm -100 -exec cp {} "$tree/bin/busybox" \;
	for applet in $APPLETS; do
		ln -s busybox "$tree/bin/$applet"
	done
	modules=$(echo "$work/$kernel"/*/modules/*)
	[ -d "$modules" ] || modules=$(echo "$work/$kernel"/usr/lib/modules/*)
	for module in $MODULES; do
		add_module "$module"
	done
	cp tests/powercut/init.sh "$tree/init"
	cp "$program" "$tree/bin/smtprelay"
	# A program that is not static brings its libraries along.
	for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true); do
		mkdir -p "$tree$(dirname "$library")"
		cp -L "$library" "$tree$library"
	done
	chmod 755 "$tree/init" "$tree/bin/smtprelay"
	(cd "$tree" && find . | "$tree/bin/busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs.new"
	mv "$work/initramfs.new" "$work/initramfs"
	cp "$work/$kernel"/boot/vmlinuz-* "$work/vmlinuz"
}

cd "$(dirname "$0")/.."
work=$(scripts/target_dir.sh)/powercut
prepare
[ "${1:-}" = prepare ] && exit
# Where mkfs.ext4, e2fsck and their like are.
PATH=$PATH:/usr/sbin:/sbin
export PATH
POWERCUT_VM=$work exec cargo test --locked --test powercut -- --nocapture --test-threads=2
