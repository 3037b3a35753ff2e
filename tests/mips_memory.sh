#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Whether memcpy and memset of scripts/mips_memory.S do what they should, in both byte orders, emulated. With the zig of
# scripts/cross.sh, which has run before.
set -eu

cd "$(dirname "$0")/.."
if command -v zig >/dev/null; then
	ZIG=zig
else
	ZIG="$(scripts/target_dir.sh)/cross-venv/bin/python3 -m ziglang"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in mips mipsel; do
	# The object comes before the C library, whose functions have the same names.
	$ZIG cc -target "$arch-linux-musleabi" -mcpu=mips32r2+soft_float -O1 -fno-builtin -static \
		scripts/mips_memory.S tests/mips_memory.c -o "$work/$arch"
	"qemu-$arch" "$work/$arch"
done
