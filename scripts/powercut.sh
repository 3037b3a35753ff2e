#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Cuts the power of the gateway: prepares a small virtual machine and runs tests/powercut in it.
#
#	scripts/powercut.sh		prepare, then test
#	scripts/powercut.sh prepare	only prepare: target/powercut/{vmlinuz,initramfs}
#
# The kernel and busybox are taken out of Debian's packages (scripts/kit.sh). What else is needed installs scripts/need.sh.
#
# For the test: POWERCUT_SEED repeats a run, POWERCUT_CUTS is the number of cuts on each file system, POWERCUT_MACHINES that of
# machines side by side with `deferred`, POWERCUT_ACCEL=kvm uses KVM in place of emulation, POWERCUT_PROGRAM is another
# smtprelay than the one that is there, such as an earlier one (static, or for this machine).
set -eu

KERNEL_PACKAGE=linux-image-amd64
# In the order of loading. What is built into the kernel is left out.
MODULES='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk failover net_failover
	virtio_net crc16 crc32c_generic mbcache jbd2 ext4 fat vfat nls_cp437 nls_ascii nls_utf8 exfat xxhash_generic xxhash
	zstd_compress lz4_compress lz4hc_compress crc32_generic f2fs'
APPLETS='sh mount insmod mkdir tar ip sleep poweroff'

prepare() {
	mkdir -p "$work"
	[ "$(uname -m)" = x86_64 ] || die 'this needs a machine with x86-64'
	kernel_of "$KERNEL_PACKAGE"
	fetch "$kernel"
	fetch busybox-static
	program=${POWERCUT_PROGRAM:-$(scripts/target_dir.sh)/cross/x86_64/smtprelay}
	[ -x "$program" ] || die "$program is missing: make cross ARCH=x86_64"

	tree=$work/tree
	rm -rf "$tree"
	mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/etc" "$tree/modules"
	# shellcheck disable=SC2086 # words
	add_busybox bin $APPLETS
	# shellcheck disable=SC2086
	add_modules $MODULES
	cp tests/powercut/init.sh "$tree/init"
	cp "$program" "$tree/bin/smtprelay"
	# A program that is not static brings its libraries along.
	for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true); do
		mkdir -p "$tree$(dirname "$library")"
		cp -L "$library" "$tree$library"
	done
	chmod 755 "$tree/init" "$tree/bin/smtprelay"
	pack_tree initramfs "$tree/bin/busybox"
	cp "$work/$kernel"/boot/vmlinuz-* "$work/vmlinuz"
}

cd "$(dirname "$0")/.."
work=$(scripts/target_dir.sh)/powercut
# shellcheck source=scripts/kit.sh
. scripts/kit.sh
prepare
[ "${1:-}" = prepare ] && exit
# Where mkfs.ext4, e2fsck and their like are.
PATH=$PATH:/usr/sbin:/sbin
export PATH
POWERCUT_VM=$work exec cargo test --locked --test powercut -- --nocapture --test-threads=2
