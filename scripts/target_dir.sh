#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Prints the absolute path of the folder that cargo builds into: CARGO_TARGET_DIR, what cargo's configuration names, or
# target/ of this tree. Packages, fetched servers and the power-cut machine go there as well.
set -eu
cd "$(dirname "$0")/.."
case "${CARGO_TARGET_DIR:-}" in
/*) directory=$CARGO_TARGET_DIR ;;
?*) directory=$PWD/$CARGO_TARGET_DIR ;;
*)
	directory=
	if command -v cargo >/dev/null; then
		directory=$(cargo metadata --no-deps --format-version 1 2>/dev/null |
			sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
	fi
	;;
esac
echo "${directory:-$PWD/target}"
