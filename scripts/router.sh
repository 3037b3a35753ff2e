#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A router in a virtual machine: MIPS, little memory, flash. Prepares it and runs tests/router in it, and those tests of
# tests/powercut that cut its power.
#
#	scripts/router.sh		prepare, then test
#	scripts/router.sh prepare	only prepare: target/router/{vmlinuz,initramfs,jffs2,ubifs,package.ipk}
#
# The kernel and busybox are taken out of Debian's packages for mipsel and unpacked below target/, with lists of packages of
# their own: nothing is installed, and apt on this machine learns of no other architecture. The mirror is the one that apt
# uses here, or ROUTER_MIRROR. The gateway is the installed package: ROUTER_PACKAGE, or what scripts/package.sh makes for
# mipsel_24kc. What else is needed installs scripts/need.sh.
#
# For the test: POWERCUT_SEED repeats the power cuts, POWERCUT_CUTS is their number with durability 'always'.
set -eu

# The last Debian with mipsel.
SUITE=bookworm
KERNEL_PACKAGE=linux-image-4kc-malta
# In the order of loading. What is built into the kernel is left out. Where there is little memory, only those of the file
# system that is mounted are there.
MODULES='mii pcnet32 phram overlay'
JFFS2_MODULES='crc16 lzo zlib_deflate jffs2'
UBIFS_MODULES='crc16 crc32c_generic lzo zlib_deflate deflate zstd_compress zstd ubi ubifs'
APPLETS='sh cat chroot grep gunzip head insmod ip kill ls mkdir mount reboot rm sed sleep stty sync syslogd tar usleep'

cd "$(dirname "$0")/.."
target=$(scripts/target_dir.sh)
work=$target/router
apt=$work/apt
# shellcheck disable=SC2034 # for kit.sh
apt_options="-oAPT::Architecture=mipsel -oAPT::Architectures::=mipsel -oDir::State::Lists=$apt/lists
	-oDir::Cache=$apt/cache -oDir::State::status=$apt/status -oDir::Etc::sourcelist=$apt/sources.list
	-oDir::Etc::sourceparts=- -oAPT::Sandbox::User="
# shellcheck source=scripts/kit.sh
. scripts/kit.sh

# package_file: sets $package.
package_file() {
	version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
	package=${ROUTER_PACKAGE:-$target/packages/smtprelay_$version-r1_mipsel_24kc.ipk}
	[ -f "$package" ] || die "$package is missing: make package ARCH=mipsel_24kc"
}

# archive NAME: packs $tree, to a multiple of four bytes, because the kernel gets another archive behind it.
archive() {
	pack_tree "$1" busybox
	gzip -9n <"$work/$1" | dd bs=4 conv=sync 2>/dev/null >"$work/$1.new"
	mv "$work/$1.new" "$work/$1"
}

prepare() {
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	: >>"$apt/status"
	# shellcheck disable=SC2016 # $(REPO_URI) is apt's.
	mirror=${ROUTER_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Component: main' 'Label: Debian' | head -n 1)}
	[ -n "$mirror" ] || die "apt knows no mirror of Debian: run 'apt-get update' as root, or set ROUTER_MIRROR"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" >"$apt/sources.list"
	kernel_of "$KERNEL_PACKAGE"
	fetch "$kernel"
	fetch busybox-static
	package_file

	cp "$package" "$work/package.ipk"

	tree=$work/tree
	rm -rf "$tree" "$tree".*
	mkdir -p "$tree/dev" "$tree/proc" "$tree/modules" "$tree/overlay" "$tree/router" "$tree/rom/bin" "$tree/rom/dev" \
		"$tree/rom/proc" "$tree/rom/tmp" "$tree/rom/etc/config" "$tree/rom/etc/powercut" "$tree/rom/sbin" "$tree/rom/safe"
	ln -s tmp "$tree/rom/var"
	# Where the settings of the power cuts have the RAM disk.
	ln -s tmp/spool "$tree/rom/spool"
	# shellcheck disable=SC2086 # words
	add_busybox rom/bin $APPLETS
	# shellcheck disable=SC2086
	add_modules $MODULES
	cp tests/router/init.sh "$tree/init"
	cp tests/router/procd.sh "$tree/rom/sbin/procd"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/rom/etc/passwd"
	echo 'root:x:0:' >"$tree/rom/etc/group"
	# The provider's certificate is for this name, and the provider is on the machine around this one.
	printf '127.0.0.1 router\n10.0.2.2 localhost\n' >"$tree/rom/etc/hosts"
	chmod 755 "$tree/init" "$tree/rom/sbin/procd"
	archive initramfs

	tree=$work/tree.jffs2
	mkdir -p "$tree/modules"
	# shellcheck disable=SC2086
	add_modules $JFFS2_MODULES
	mv "$tree/modules/order" "$tree/modules/more"
	archive jffs2

	tree=$work/tree.ubifs
	mkdir -p "$tree/modules"
	# shellcheck disable=SC2086
	add_modules $UBIFS_MODULES
	mv "$tree/modules/order" "$tree/modules/more"
	archive ubifs
	cp "$work/$kernel"/boot/vmlinuz-* "$work/vmlinuz"
}

prepare
[ "${1:-}" = prepare ] && exit
# Where ubinize is.
export PATH="$PATH:/usr/sbin:/sbin" ROUTER_VM="$work"
cargo test --locked --test router -- --nocapture --test-threads=2
exec cargo test --locked --test powercut -- --nocapture --test-threads=3 on_jffs2 on_ubifs on_a_router
