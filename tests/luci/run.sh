#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks the LuCI app without a router: style, types, logic against a stand-in for LuCI, translations.
#
#	tests/luci/run.sh [lint|test|packages]	lint: style and types; test: the rest; packages: only fetches the npm packages;
#						without an argument everything
#
# Needs node 20 or newer and npm, which fetches the packages of package-lock.json.
set -eu

cd "$(dirname "$0")"

for tool in node npm; do
	command -v "$tool" >/dev/null || {
		echo "tests/luci/run.sh: $tool is missing; Debian has it in the package $tool" >&2
		exit 2
	}
done

# Debian has had 20 since its release 13; an older one can't even read the tests.
major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
if [ "$major" -lt 20 ]; then
	echo "tests/luci/run.sh: skipped: node 20 or newer is needed, this is $(node --version)"
	exit 0
fi

# The packages are fetched again only when the list of them has changed.
if ! cmp -s package-lock.json node_modules/.package-lock.copy; then
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	cp package-lock.json node_modules/.package-lock.copy
fi

lint() {
	(cd ../.. && tests/luci/node_modules/.bin/eslint -c tests/luci/eslint.config.mjs --max-warnings 0 \
		openwrt/luci-app-smtprelay tests/luci tests/openwrt)
	node typecheck.mjs
	echo 'LuCI: style and type checks passed.'
}

logic() {
	node --test --test-reporter=dot ./*.test.mjs
	# Without LUCI_URL this only says so.
	node ../openwrt/luci.mjs
}

case "${1:-all}" in
lint) lint ;;
test) logic ;;
packages) ;;
all)
	# Not with &&: that would have lint go on after an error.
	lint
	logic
	;;
*)
	echo 'usage: tests/luci/run.sh [lint|test|packages]' >&2
	exit 2
	;;
esac
