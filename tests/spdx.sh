#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Each source file says in its first three lines under which licence it is (https://spdx.dev/ids/).
set -eu
cd "$(dirname "$0")/.."

# lacking FILE...: those that do not say so.
lacking() {
	for file; do
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' || echo "$file"
	done
}

# A check that finds nothing must be able to find something.
sample=$(mktemp)
trap 'rm -f "$sample"' EXIT
echo '//! No licence here.' >"$sample"
[ "$(lacking "$sample")" = "$sample" ] || {
	echo 'spdx.sh: a file without the line was not found' >&2
	exit 1
}

files=$(find src tests scripts findings files openwrt \
	\( -name target -o -name node_modules \) -prune -o -type f \
	\( -name '*.rs' -o -name '*.py' -o -name '*.sh' -o -name '*.js' -o -name '*.mjs' -o -name '*.awk' -o -name Makefile -o -path 'files/etc/init.d/*' -o -path 'files/usr/libexec/*' \) -print)
# shellcheck disable=SC2086 # names of this tree have no spaces
found=$(lacking Makefile .ci/run $files)
if [ -n "$found" ]; then
	echo "spdx.sh: without 'SPDX-License-Identifier: Apache-2.0' in the first three lines:" >&2
	echo "$found" >&2
	exit 1
fi
