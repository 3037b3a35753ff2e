#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the static, stripped binary for one OpenWrt architecture, without the OpenWrt SDK.
#
#	scripts/cross.sh ARCH		→ target/cross/ARCH/smtprelay
#					  target/cross/ARCH/smtprelay.symbols, the same program with its symbols
#
# What it needs and where it takes it from:
#
# - A Rust compiler with the sources of its standard library: Rust offers no ready-made standard library for the
#   MIPS targets, so it is built here, for every architecture alike and for size. Taken: the first rustup
#   toolchain that has the component rust-src, else Debian's packages rustc-web, cargo-web and rust-web-src
#   (installed with apt-get when run as root).
# - A C compiler, linker and musl for the target (the crate ring holds C): zig, driven by cargo-zigbuild. Taken:
#   cargo-zigbuild and zig if both are installed, else the packages cargo-zigbuild and ziglang from PyPI, in a
#   Python environment of their own in target/cross-venv.
# - Python 3, readelf and c++filt (binutils), for the order of the functions.
#
# The same sources give the same bytes: SOURCE_DATE_EPOCH is passed on, no path of this machine gets in.
set -eu

# The versions that this script was tried with. Others may do.
CARGO_ZIGBUILD_VERSION=0.24.0
ZIGLANG_VERSION=0.17.1

die() {
	echo "cross.sh: $*" >&2
	exit 1
}

say() {
	echo "cross.sh: $*" >&2
}

# target_of ARCH: sets $target (Rust's name), $flags (for rustc), $cflags (for the C of ring), $qemu (runs the binary here).
target_of() {
	cflags='-fno-unwind-tables -fno-asynchronous-unwind-tables'
	# The C library's start files come from zig, not from the Rust toolchain. Where not said otherwise, a binary is
	# position-independent, to be loaded at a random address.
	own_start='-Clink-self-contained=no'
	flags="$own_start -Clink-arg=-pie"
	case "$1" in
	mips_24kc | mipsel_24kc)
		target=${1%_24kc}-unknown-linux-musl
		# The 24Kc has no floating point unit; the Rust target is soft-float already.
		# A position-independent static MIPS binary calls weak symbols at its load address and crashes.
		flags="$own_start -Ctarget-cpu=mips32r2 -Crelocation-model=static -Clink-arg=-Wl,-T,scripts/discard.ld"
		# What makes the code more alike, so that the package's compression finds more: values are calculated where
		# they are needed, and instructions stay in the order of the source. It is 75 KB of the program, compressed.
		# docs/performance.md has the figure of each. The C code of ring gets them as well: with two hyphens, since
		# cargo-zigbuild takes -e… for an option of the linker.
		for option in disable-machine-licm disable-machine-cse disable-lsr enable-misched=false \
			pre-RA-sched=source disable-block-placement enable-shrink-wrap=false mno-check-zero-division \
			disable-phi-elim-edge-splitting join-splitedges=1 min-jump-table-entries=8; do
			flags="$flags -Cllvm-args=-$option"
			cflags="$cflags -Xclang -mllvm -Xclang --$option"
		done
		qemu=qemu-${1%_24kc}
		;;
	arm_cortex-a7_neon-vfpv4)
		target=armv7-unknown-linux-musleabihf
		flags="$flags -Ctarget-cpu=cortex-a7"
		qemu='qemu-arm'
		;;
	arm_cortex-a5_vfpv4 | arm_cortex-a8_vfpv3 | arm_cortex-a9_vfpv3-d16 | arm_cortex-a9_neon | arm_cortex-a15_neon-vfpv4)
		# What they have in common.
		target=armv7-unknown-linux-musleabihf
		qemu='qemu-arm'
		;;
	arm_cortex-a7 | arm_cortex-a9)
		# Without a floating point unit, as OpenWrt uses them.
		target=armv7-unknown-linux-musleabi
		qemu='qemu-arm'
		;;
	arm_arm1176jzf-s_vfp)
		target=arm-unknown-linux-musleabihf
		qemu='qemu-arm'
		;;
	arm_arm926ej-s | arm_xscale)
		target=armv5te-unknown-linux-musleabi
		qemu='qemu-arm'
		;;
	aarch64_cortex-a53)
		# Not -Ctarget-cpu=cortex-a53: for the compiler that includes the AES and SHA instructions, which
		# some of these chips (Raspberry Pi 3) do not have. ring finds out for itself when it runs.
		target=aarch64-unknown-linux-musl
		# An erratum of this chip that the linker has to work around.
		flags="$flags -Clink-arg=-Wl,--fix-cortex-a53-843419"
		qemu='qemu-aarch64'
		;;
	aarch64_generic | aarch64_cortex-a72 | aarch64_cortex-a76)
		target=aarch64-unknown-linux-musl
		qemu='qemu-aarch64'
		;;
	riscv64_generic | riscv64_riscv64)
		target=riscv64gc-unknown-linux-musl
		qemu='qemu-riscv64'
		;;
	i386_pentium4)
		target=i686-unknown-linux-musl
		qemu='qemu-i386'
		;;
	x86_64)
		target=x86_64-unknown-linux-musl
		qemu='qemu-x86_64'
		;;
	*)
		die "unknown architecture '$1'; one of: $(sed -n '/^target_of()/,/^}/s/^\t\([a-z0-9_| -]*\))$/\1/p' "$0" | tr -d '|' | xargs)"
		;;
	esac
}

# apt_install PACKAGE...
apt_install() {
	command -v apt-get >/dev/null || die "missing: $* (names of Debian's packages)"
	[ "$(id -u)" = 0 ] || die "missing: run as root 'apt-get install $*'"
	say "installing $*"
	apt-get update >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2
}

# has_std_sources SYSROOT
has_std_sources() {
	[ -f "$1/lib/rustlib/src/rust/library/Cargo.lock" ]
}

# find_rust: sets $sysroot.
find_rust() {
	if command -v rustup >/dev/null; then
		for toolchain in $(rustup show active-toolchain 2>/dev/null | cut -d ' ' -f 1) \
			$(rustup toolchain list | cut -d ' ' -f 1); do
			sysroot=$(rustup run "$toolchain" rustc --print sysroot 2>/dev/null) || continue
			has_std_sources "$sysroot" && return
		done
	fi
	sysroot=/usr
	[ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && has_std_sources /usr && return
	say "no Rust toolchain has the sources of its standard library ('rustup component add rust-src' adds them)"
	apt_install rustc-web cargo-web rust-web-src
	has_std_sources /usr || die "the packages are installed, but /usr/lib/rustlib/src/rust/library is missing"
}

# find_zigbuild: puts cargo-zigbuild, and zig or Python's ziglang, on the PATH.
find_zigbuild() {
	if command -v cargo-zigbuild >/dev/null &&
		{ command -v zig >/dev/null || python3 -m ziglang version >/dev/null 2>&1; }; then
		return
	fi
	venv=$target_dir/cross-venv
	if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
		python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
		say "installing cargo-zigbuild and ziglang in $venv"
		python3 -m venv "$venv" >&2
		"$venv/bin/pip" install --quiet --disable-pip-version-check \
			"cargo-zigbuild==$CARGO_ZIGBUILD_VERSION" "ziglang==$ZIGLANG_VERSION" >&2 ||
			die "pip could not install cargo-zigbuild and ziglang in $venv"
	fi
	PATH=$venv/bin:$PATH
	export PATH
}

zig_version() {
	$ZIG version
}

[ $# -eq 1 ] || die "usage: scripts/cross.sh ARCH"
arch=$1
root=$(cd "$(dirname "$0")/.." && pwd -P)
target_dir=$("$root/scripts/target_dir.sh")
# One for each architecture, so that two can be built at the same time.
build=$target_dir/cross-build/$arch
out=$target_dir/cross/$arch
target_of "$arch"
cd "$root"
mkdir -p "$build" "$out"

find_rust
find_zigbuild
# For scripts/linker-cc.sh.
if command -v zig >/dev/null; then ZIG=zig; else ZIG='python3 -m ziglang'; fi
export ZIG
case "$root$target_dir" in
*[[:space:]]*) die "a path with a blank: $root, $target_dir; zig prints the command of its linker without quotes" ;;
esac
CARGO=$sysroot/bin/cargo
RUSTC=$sysroot/bin/rustc
export CARGO RUSTC
say "Rust: $("$RUSTC" --version) in $sysroot"
say "C and linker: $(cargo-zigbuild --version), zig $(zig_version), $(command -v cargo-zigbuild)"

: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}"
export SOURCE_DATE_EPOCH
export CARGO_TARGET_DIR="$build"
# -Zbuild-std in a released compiler.
export RUSTC_BOOTSTRAP=1
# Whatever the caller has set for his own builds has no place here: RUSTFLAGS would even hide the flags below.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CFLAGS

# Sources first, then it is known where they lie and the paths can be cut off. The last rule that fits wins.
"$CARGO" fetch --quiet --locked --target "$target"
sources=$(cd "$sysroot/lib/rustlib/src/rust" && pwd -P)
remap="--remap-path-prefix=$HOME=~ --remap-path-prefix=$root=."
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
	remap="$remap --remap-path-prefix=$registry=crates"
done
# A folder elsewhere is named in the program as the one that lies in the tree.
case "$build" in
"$root"/*) ;;
*) remap="$remap --remap-path-prefix=$build=./target/cross-build/$arch" ;;
esac
remap="$remap --remap-path-prefix=$sysroot/lib/rustlib/src/rust=rust --remap-path-prefix=$sources=rust"

# Unwind tables are of no use when a panic aborts. -Oz at the end is for the C library, which zig builds when it links.
env_target=$(echo "$target" | tr '[:lower:]-' '[:upper:]_')
export "CARGO_TARGET_${env_target}_RUSTFLAGS=$flags -Clinker=scripts/linker-cc.sh -Clinker-flavor=gcc -Clink-arg=-Oz -Cforce-unwind-tables=no -Csymbol-mangling-version=v0 $remap"
export "CFLAGS_$(echo "$target" | tr - _)=$cflags -Oz -ffile-prefix-map=$HOME=~"
export CARGO_PROFILE_RELEASE_OPT_LEVEL=z
export CARGO_PROFILE_RELEASE_LTO=fat
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
# A panic is one instruction that ends the program; src/system/crash.rs says where it was.
export CARGO_PROFILE_RELEASE_PANIC=immediate-abort
export CARGO_PROFILE_RELEASE_STRIP=true
export CARGO_PROFILE_RELEASE_DEBUG=false

# For scripts/linker-cc.sh.
export SMTPRELAY_SYMBOLS="$out/smtprelay.symbols"
case "$arch" in
# Their flash is smaller than their memory: the package would be 38 KB larger.
mips*)
	export SMTPRELAY_RESEMBLANCE=1
	export SMTPRELAY_MEMORY="$build/mips_memory.o"
	$ZIG cc -target "${arch%_24kc}-linux-musleabi" -mcpu=mips32r2+soft_float -g0 -c scripts/mips_memory.S -o "$SMTPRELAY_MEMORY"
	;;
*) export SMTPRELAY_HOT=scripts/hot.txt ;;
esac
# cargo does not know what the linker reads.
program=$build/$target/release/smtprelay
if [ -f "$program" ] && [ -n "$(find scripts/linker-cc.sh scripts/*.py scripts/*.S scripts/hot.txt scripts/*.ld -newer "$program")" ]; then
	rm "$program" "$build/$target/release/deps"/smtprelay-????????????????
fi
# compiler-builtins-mem: memcpy and the like a word at a time. Those that zig builds for size copy byte by byte, which was
# two fifths of all instructions for a message. MIPS has its own of both kinds, in scripts/mips_memory.S.
cargo-zigbuild build --locked --release --bin smtprelay --target "$target" \
	-Zpanic-immediate-abort -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size,compiler-builtins-mem

cp "$program" "$out/smtprelay.new"
mv "$out/smtprelay.new" "$out/smtprelay"
printf '%s: %s bytes, %s gzipped\n' "$out/smtprelay" \
	"$(wc -c <"$out/smtprelay")" "$(gzip -9n <"$out/smtprelay" | wc -c)"
if command -v "$qemu" >/dev/null; then
	"$qemu" "$out/smtprelay" --version
else
	say "$qemu is not installed (Debian: qemu-user): the binary was not tried"
fi
