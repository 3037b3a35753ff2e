#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds OpenWrt's program uci from the sources that the crate libuci-sys carries, for tests that let it write settings.
#
#	scripts/uci.sh [DIRECTORY]	→ target/uci/uci
#
# The version is the one in tests/libuci/Cargo.lock. Needs a C compiler.
set -eu
cd "$(dirname "$0")/.."

folder=${1:-$(scripts/target_dir.sh)/uci}
[ ! -x "$folder/uci" ] || exit 0
sources=$(cd tests/libuci && cargo metadata --locked --format-version 1 | python3 -c '
import json, pathlib, sys
found = [p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "libuci-sys"]
print(pathlib.Path(found[0]).parent)')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# The sources are not written to; and the headers of libubox are included by its name.
cp -R "$sources/uci" "$sources/libubox" "$work"
sed 's/^#cmakedefine.*//' "$work/uci/uci_config.h.in" >"$work/uci/uci_config.h"
(
	cd "$work/uci"
	cc -O1 -std=gnu99 -w -DUCI_PREFIX='""' -I. -I.. -o "$work/program" cli.c libuci.c file.c util.c delta.c parse.c blob.c \
		../libubox/blob.c ../libubox/blobmsg.c ../libubox/utils.c ../libubox/avl.c ../libubox/avl-cmp.c ../libubox/vlist.c \
		../libubox/md5.c
)
mkdir -p "$folder"
mv "$work/program" "$folder/uci"
echo "scripts/uci.sh: $folder/uci"
