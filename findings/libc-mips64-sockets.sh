#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# libc 0.2.191 (crates.io): on 64-bit MIPS with musl, the constants for sockets are those of x86.
#
# MIPS has numbers of its own: SOL_SOCKET is 0xffff there and SO_REUSEADDR 4 (include/uapi/asm in Linux' arch/mips). Up to
# 0.2.189 the crate has them for 32 and 64 bits. In 0.2.190 and 0.2.191 only the 32-bit targets have; for mips64 the numbers
# of the generic header are compiled in, without a warning. socket2, and so tokio's TcpSocket, sets SO_REUSEADDR before it
# binds: such a program, for OpenWrt's mips64_octeonplus for instance, ends with "Protocol not available (os error 99)"
# at its first listener.
#
# Seen (version, target, SOL_SOCKET, SO_REUSEADDR):
#	0.2.189 mips-unknown-linux-musl 65535 4
#	0.2.189 mips64-unknown-linux-muslabi64 65535 4
#	0.2.191 mips-unknown-linux-musl 65535 4
#	0.2.191 mips64-unknown-linux-muslabi64 1 2
#
# Needs crates.io and a Rust compiler with the sources of its library (component rust-src, or Debian's rust-web-src): the
# crate is compiled for the target, and the compiler says what the constants are. Ends with 0 when the behaviour is as
# described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

# Taken: the active toolchain, else Debian's.
bin=
for sysroot in "$(rustc --print sysroot 2>/dev/null)" /usr; do
	[ -n "$bin" ] || [ ! -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] || bin=$sysroot/bin
done
[ -n "$bin" ] || {
	echo 'no Rust compiler with the sources of its library was found' >&2
	exit 2
}

# constants VERSION TARGET: prints a line as above.
constants() {
	mkdir -p "$folder/src"
	cat >"$folder/Cargo.toml" <<-EOF
		[package]
		name = "constants"
		version = "0.0.0"
		edition = "2021"

		[dependencies]
		libc = { version = "=$1", default-features = false }

		[workspace]
	EOF
	# A wrong length of an array is an error in which the compiler names the right one.
	cat >"$folder/src/lib.rs" <<-'EOF'
		#![no_std]
		pub const LEVEL: [u8; 0] = [0; libc::SOL_SOCKET as usize];
		pub const OPTION: [u8; 0] = [0; libc::SO_REUSEADDR as usize];
	EOF
	said=$(cd "$folder" && rm -f Cargo.lock && RUSTC=$bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$folder/target \
		timeout 600 "$bin/cargo" check --quiet --target "$2" -Zbuild-std=core 2>&1) && said=
	# shellcheck disable=SC2046 # two numbers
	echo "$1 $2" $(echo "$said" | sed -n 's/.*found one with a size of \([0-9]*\).*/\1/p')
}

seen=$(for version in 0.2.189 0.2.191; do
	constants "$version" mips-unknown-linux-musl
	constants "$version" mips64-unknown-linux-muslabi64
done)
echo "$seen"
[ "$seen" = "$(sed -n 's/^#	\(0\.2\.1[0-9]* .*\)/\1/p' "$0")" ] || {
	echo 'this is not what was seen before' >&2
	exit 1
}
