#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Sees to it that what some tasks need is installed.
#
#	scripts/need.sh build|demo|test|luci|screenshots|powercut|router|bench ...
#
# Debian packages are installed by name, all in one run of apt-get, when run as root; otherwise they are named.
set -eu

# The oldest Rust that compiles the program (Cargo.toml: rust-version).
RUST_MINOR=$(sed -n 's/^rust-version = "1\.\([0-9]*\)".*/\1/p' "$(dirname "$0")/../Cargo.toml")

say() {
	echo "need.sh: $*" >&2
}

missing=

# want PACKAGE...: they are missing.
want() {
	for package in "$@"; do
		case " $missing " in
		*" $package "*) ;;
		*) missing="$missing $package" ;;
		esac
	done
}

# need COMMAND PACKAGE...: wants the packages unless the command is there.
need() {
	program=$1
	shift
	command -v "$program" >/dev/null || want "$@"
}

# Installs what is missing.
install_missing() {
	[ -n "$missing" ] || return 0
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		say "not installed:$missing (names of Debian's packages)"
		say "install them, or run this again as root: apt-get install$missing"
		case $missing in
		*-web*) say "in place of those with -web: Rust 1.$RUST_MINOR or later by rustup (https://rustup.rs)" ;;
		esac
		exit 1
	fi
	say "installing$missing"
	apt-get update >/dev/null
	case $missing in
	*' rustc-web'*)
		# Ubuntu has no such packages, and neither has a Debian without its updates.
		[ -n "$(apt-cache policy rustc-web)" ] || {
			say "this system has no package rustc-web: install Rust 1.$RUST_MINOR or later by rustup (https://rustup.rs),"
			say 'then rustup component add rustfmt clippy rust-src, and run this again'
			exit 1
		}
		# The new versions come with Debian's security updates.
		offered=$(apt-cache policy rustc-web | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p')
		[ "${offered:-0}" -ge "$RUST_MINOR" ] || {
			say "apt offers Rust 1.${offered:-?} and 1.$RUST_MINOR is needed: add Debian's security updates to apt's sources"
			say '(deb http://deb.debian.org/debian-security SUITE-security main), or install Rust by rustup (https://rustup.rs)'
			exit 1
		}
		;;
	esac
	# shellcheck disable=SC2086 # Names of packages, one word each.
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null
}

# Whether there is a Rust that is new enough, with what the checks need.
rust_is_there() {
	command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
	minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
	[ "${minor:-0}" -ge "$RUST_MINOR" ]
}

# Debian's packages of Rust that are kept new for browsers, or a toolchain of rustup, if rustup is there.
need_rust() {
	if ! rust_is_there && command -v rustup >/dev/null; then
		say 'installing the stable toolchain with rustup'
		rustup toolchain install stable --profile minimal -c rustfmt -c clippy -c rust-src >/dev/null
		rust_is_there || rustup default stable >/dev/null
	fi
	rust_is_there || want rustc-web cargo-web
	need cc gcc libc6-dev
}

# What scripts/cross.sh takes: a Rust with the sources of its standard library, and Python for zig.
need_cross() {
	need_rust
	sources=
	if command -v rustup >/dev/null; then
		for toolchain in $(rustup toolchain list | cut -d ' ' -f 1); do
			sysroot=$(rustup run "$toolchain" rustc --print sysroot 2>/dev/null) || continue
			[ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] || sources=yes
		done
	fi
	[ -n "$sources" ] || [ -f /usr/lib/rustlib/src/rust/library/Cargo.lock ] || want rustc-web cargo-web rust-web-src
	command -v cargo-zigbuild >/dev/null || python3 -c 'import venv, ensurepip' 2>/dev/null || want python3 python3-venv
}

# want_for TASK
want_for() {
	case "$1" in
	build)
		need_rust
		;;
	demo)
		need_rust
		need python3 python3
		need openssl openssl
		;;
	test)
		need_cross
		cargo fmt --version >/dev/null 2>&1 || want rustfmt-web
		cargo clippy --version >/dev/null 2>&1 || want rust-web-clippy
		need make make
		need git git
		need python3 python3 python3-venv
		need curl curl
		# Signs and checks mail (DKIM).
		python3 -c 'import dkim' 2>/dev/null || /usr/bin/python3 -c 'import dkim' 2>/dev/null || want python3-dkim
		need openssl openssl
		[ -f /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates
		need swaks swaks
		need msmtp msmtp
		need shellcheck shellcheck
		need busybox busybox
		# The other shell and awk of tests/import.
		need dash dash
		need mawk mawk
		need gawk gawk
		# Runs the collector for prometheus-node-exporter-lua.
		need lua5.1 lua5.1
		# Small disks to fill.
		need mount mount
		need readelf binutils
		need file file
		# Packs the packages.
		need zopfli zopfli
		# Counts the instructions of a message.
		need valgrind valgrind
		need qemu-mips qemu-user
		# libuci's C sources in tests/libuci.
		need cmake cmake
		need clang clang
		[ -n "$(ls /usr/lib/llvm-*/lib/libclang.so* /usr/lib/*/libclang*.so* 2>/dev/null)" ] || want libclang-dev
		;;
	luci)
		need node nodejs
		need npm npm
		;;
	screenshots)
		need node nodejs
		need npm npm
		[ -n "${CHROMIUM:-}" ] || need chromium chromium
		# A sans-serif font with the widths of the one that LuCI's theme asks for.
		[ -n "$(ls /usr/share/fonts/truetype/liberation*/LiberationSans-Regular.ttf 2>/dev/null)" ] || want fonts-liberation
		;;
	powercut)
		need_cross
		need qemu-system-x86_64 qemu-system-x86
		need qemu-img qemu-utils
		# Commands that are not in everybody's PATH.
		[ -x /sbin/mkfs.ext4 ] || want e2fsprogs
		[ -x /sbin/mkfs.vfat ] || want dosfstools
		[ -x /sbin/mkfs.exfat ] || want exfatprogs
		[ -x /sbin/mkfs.f2fs ] || want f2fs-tools
		;;
	router)
		need_cross
		need qemu-system-mipsel qemu-system-mips
		need busybox busybox
		need zopfli zopfli
		[ -x /usr/sbin/ubinize ] || want mtd-utils
		[ -f /usr/share/keyrings/debian-archive-keyring.gpg ] || want debian-archive-keyring
		;;
	bench)
		need_rust
		need python3 python3
		need ip iproute2
		need unshare util-linux
		need valgrind valgrind
		need msmtp msmtp
		;;
	*)
		echo 'usage: scripts/need.sh build|demo|test|luci|screenshots|powercut|router|bench ...' >&2
		exit 2
		;;
	esac
}

[ $# -gt 0 ] || want_for ''
for task in "$@"; do
	want_for "$task"
done
install_missing
