# SPDX-License-Identifier: Apache-2.0
#
# shellcheck shell=sh disable=SC2154
# What the checks of packages have in common; they read this file. They set work, a folder of their own, and failures, and
# have a function subject, which says what is being looked at.

# equal WHAT EXPECTED FOUND
equal() {
	[ "$2" = "$3" ] && return
	failures=$((failures + 1))
	printf 'FAILED %s: %s\n--- expected\n%s\n--- found\n%s\n---\n' "$(subject)" "$1" "$2" "$3" >&2
}

# succeeds WHAT COMMAND...
succeeds() {
	what=$1
	shift
	"$@" >"$work/output" 2>&1 && return
	failures=$((failures + 1))
	printf 'FAILED %s: %s\n' "$(subject)" "$what" >&2
	cat "$work/output" >&2
}
