#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the screenshots of the README, docs/images/overview.png and docs/images/settings.png, from sample data.
#
#	LUCI_SOURCE=../luci scripts/screenshots.sh			without a router, with a checkout of LuCI
#	LUCI_URL=http://192.168.1.1 LUCI_PASSWORD=... scripts/screenshots.sh	with the LuCI of a router, which is not changed
#
# tests/luci/screenshots.mjs describes the variables.
set -eu

# A relative path is meant from where the command is called.
if [ -n "${LUCI_SOURCE:-}" ]; then
	LUCI_SOURCE=$(cd "$LUCI_SOURCE" && pwd)
	export LUCI_SOURCE
fi

cd "$(dirname "$0")/.."
scripts/need.sh screenshots
tests/luci/run.sh packages
exec node tests/luci/screenshots.mjs
