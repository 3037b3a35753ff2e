#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A router in a virtual machine: MIPS, little memory, flash. Prepares it and runs tests/router in it, and those tests of
# tests/powercut that cut its power.
#
#	scripts/router.sh		prepare, then test
#	scripts/router.sh bench		prepare, then measure; with WRITE=1 the tables go into docs/performance.md
#			BEFORE names an earlier package for mipsel_24kc, which is measured in the same run
#			EMAILRELAY_MIPSEL names a static program of E-MailRelay for mipsel, which is measured as well
#	scripts/router.sh half-year	prepare, then half a year in an hour (tests/router/half_year)
#	scripts/router.sh prepare	only prepare: target/router/{vmlinuz,initramfs,jffs2,ubifs,package.ipk}
#
# The kernel and busybox are taken out of Debian's packages for mipsel and unpacked below target/, with lists of packages of
# their own: nothing is installed, and apt on this machine learns of no other architecture. The mirror is the one that apt
# uses here, or ROUTER_MIRROR. The gateway is the installed package: ROUTER_PACKAGE, or what scripts/package.sh makes for
# mipsel_24kc. What else is needed installs scripts/need.sh.
#
# For the test: POWERCUT_SEED repeats the power cuts, POWERCUT_CUTS is their number on each file system.
set -eu

# The last Debian with mipsel.
SUITE=bookworm
KERNEL_PACKAGE=linux-image-4kc-malta
# In the order of loading. What is built into the kernel is left out. Where there is little memory, only those of the file
# system that is mounted are there.
MODULES='mii pcnet32 phram overlay'
JFFS2_MODULES='crc16 lzo zlib_deflate jffs2'
UBIFS_MODULES='crc16 crc32c_generic lzo zlib_deflate deflate zstd_compress zstd ubi ubifs'
APPLETS='sh cat chown chroot df grep gunzip head insmod ip kill ls mkdir mount reboot rm sed sleep stty sync syslogd tar
	umount usleep'

cd "$(dirname "$0")/.."
target=$(scripts/target_dir.sh)
work=$target/router
apt=$work/apt
# Postfix and msmtp with their libraries, for comparison.
PEERS='postfix msmtp libatomic1 libblkid1 libbz2-1.0 libc6 libcom-err2 libcrypt1 libdb5.3 libffi8 libgcc-s1 libgcrypt20
	libglib2.0-0 libgmp10 libgnutls30 libgpg-error0 libgsasl18 libgssapi-krb5-2 libgssglue1 libhogweed6 libicu72 libidn12
	libidn2-0 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblzma5 libmount1 libnettle8 libnsl2 libntlm0
	libp11-kit0 libpcre2-8-0 libsasl2-2 libsasl2-modules libsasl2-modules-db libsecret-1-0 libselinux1 libssl3
	libstdc++6 libtasn1-6 libtirpc3 libunistring2 libuuid1 libzstd1 netbase zlib1g'
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

# peers: the archive with other relays, in a folder that they take for the root.
peers() {
	tree=$work/tree.peers
	mkdir -p "$tree/peers/etc" "$tree/peers/proc" "$tree/peers/dev" "$tree/peers/tmp" "$tree/peers/var/lib/postfix" \
		"$tree/peers/var/spool/postfix"
	for one in $PEERS; do
		fetch "$one"
		cp -a "$work/$one/." "$tree/peers"
	done
	rm -rf "$tree/peers/usr/share" "$tree/peers/.version"
	cp tests/router/peers/*.cf "$tree/peers/etc/postfix/"
	cp tests/router/peers/msmtprc tests/router/peers/emailrelay.auth "$tree/peers/etc/"
	if [ -n "${EMAILRELAY_MIPSEL:-}" ]; then
		mkdir "$tree/peers/var/spool/emailrelay"
		cp "$EMAILRELAY_MIPSEL" "$tree/peers/usr/bin/emailrelay"
		chmod 755 "$tree/peers/usr/bin/emailrelay"
	fi
	printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\npostfix:x:102:102::/:/bin/sh\n' >"$tree/peers/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\npostfix:x:102:\npostdrop:x:103:\n' >"$tree/peers/etc/group"
	echo '10.0.2.2 localhost' >"$tree/peers/etc/hosts"
	echo 'hosts: files' >"$tree/peers/etc/nsswitch.conf"
	archive peers
}

# before: an earlier package, and the same machine for it.
before() {
	rm -rf "$work/before"
	[ -n "${BEFORE:-}" ] || return 0
	mkdir "$work/before"
	for one in vmlinuz initramfs jffs2 ubifs; do ln -s "../$one" "$work/before/$one"; done
	cp "$BEFORE" "$work/before/package.ipk"
}

prepare
[ "${1:-}" = prepare ] && exit
if [ "${1:-}" = bench ]; then
	peers
	before
fi
# Where ubinize is.
export PATH="$PATH:/usr/sbin:/sbin" ROUTER_VM="$work"
if [ "${1:-}" = bench ]; then
	cargo test --locked --test router -- --nocapture --ignored --test-threads=1 bench
	[ -z "${WRITE:-}" ] || python3 tests/bench/report.py docs/performance.md "$work/tables"/*
	exit
fi
[ "${1:-}" != half-year ] || exec cargo test --locked --test router -- --nocapture --ignored half_year
cargo test --locked --test router -- --nocapture --test-threads=2
exec cargo test --locked --test powercut -- --nocapture --test-threads=2 on_jffs2 on_ubifs on_a_router
