#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes what a release consists of, from the commit that is checked out:
#
#	scripts/dist.sh [DIRECTORY]	→ target/dist/smtprelay-VERSION.tar.gz, its sources
#					  target/dist/smtprelay-VERSION.md, its notes: the section of CHANGELOG.md
#
# and prints the lines that a Makefile of a feed needs. The same commit gives the same bytes.
set -eu
cd "$(dirname "$0")/.."

die() {
	echo "dist.sh: $*" >&2
	exit 1
}

folder=${1:-$(scripts/target_dir.sh)/dist}
version=$(git show HEAD:Cargo.toml | sed -n 's/^version *= *"\(.*\)"/\1/p' | head -n 1)
[ -n "$version" ] || die 'Cargo.toml of this commit names no version'
git diff --quiet HEAD -- || echo 'dist.sh: what is not committed is not in the archive' >&2
mkdir -p "$folder"
name=smtprelay-$version

# The modes in the archive do not depend on the umask of whoever makes it; neither does anything else.
git -c tar.umask=0022 archive --format=tar --prefix="$name/" HEAD | gzip -9n >"$folder/$name.tar.gz"
git show HEAD:CHANGELOG.md | awk -v heading="## $version" '
	index($0, heading) == 1 { inside = 1; print; next }
	/^## / { inside = 0 }
	inside' >"$folder/$name.md"
[ -s "$folder/$name.md" ] || die "CHANGELOG.md has no section '## $version'"

echo "PKG_VERSION:=$version"
echo "PKG_SOURCE:=$name.tar.gz"
echo "PKG_HASH:=$(sha256sum <"$folder/$name.tar.gz" | cut -d ' ' -f 1)"
echo "dist.sh: $folder/$name.tar.gz and $name.md; tag the commit v$version" >&2
