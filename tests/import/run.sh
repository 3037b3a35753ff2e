#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: what it prints for each configuration in this folder, in the shell and the awk of busybox and in dash
# with mawk and gawk, and what it does and does not do with passwords and with files that are not what they seem.
#
#	PROGRAM=target/debug/smtprelay [UCI=target/uci/uci] tests/import/run.sh
#
# Each folder has root, the files of another system, and said, what is printed: first the commands, then the rest.
# IMPORT_GOLDEN=write writes said. Without UCI nothing is applied. Needs busybox, dash, mawk and gawk.
set -eu

cd "$(dirname "$0")/../.."
top=$PWD
: "${PROGRAM:?names the program smtprelay}"
PROGRAM=$(realpath "$PROGRAM")
# uci writes each file to the disk at once, hundreds of times.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0

fail() {
	failures=$((failures + 1))
	printf 'FAILED: %s\n' "$*" >&2
}

# equal WHAT EXPECTED FOUND
equal() {
	[ "$2" = "$3" ] || fail "$(printf '%s\n--- expected\n%s\n--- found\n%s\n---' "$1" "$2" "$3")"
}

for tool in busybox dash mawk gawk; do
	command -v "$tool" >/dev/null || {
		echo "tests/import/run.sh: $tool is missing" >&2
		exit 2
	}
done

# Programs that come first, in three kinds: those of busybox, and mawk or gawk with those of the system.
mkdir "$work/busybox" "$work/mawk" "$work/gawk" "$work/uci"
for tool in awk wc sed cat cp mktemp mkdir rm; do
	ln -s "$(command -v busybox)" "$work/busybox/$tool"
done
ln -s "$(command -v mawk)" "$work/mawk/awk"
ln -s "$(command -v gawk)" "$work/gawk/awk"
# A program is never run because a foreign file names it.
for tool in gpg openssl; do
	printf '#!/bin/sh\ntouch "%s/ran"\n' "$work" >"$work/busybox/$tool"
	chmod +x "$work/busybox/$tool"
	cp "$work/busybox/$tool" "$work/mawk/$tool"
	cp "$work/busybox/$tool" "$work/gawk/$tool"
done
# Changes that are not committed are kept here, and not where another run would find them.
if [ -n "${UCI:-}" ]; then
	printf '#!/bin/sh\nexec "%s" -t "%s/delta" "$@"\n' "$(realpath "$UCI")" "$work" >"$work/uci/uci"
	chmod +x "$work/uci/uci"
fi
kinds='busybox mawk gawk'

# import KIND ARGUMENT…
import() {
	kind=$1
	shift
	shell=dash
	[ "$kind" != busybox ] || shell='busybox ash'
	# shellcheck disable=SC2086 # two words
	PATH=$work/$kind:$with_uci$PATH SMTPRELAY_PROGRAM=$PROGRAM SMTPRELAY_SHARE=$top/files/usr/share/smtprelay/import \
		$shell "$top/files/usr/libexec/smtprelay/import" "$@"
}
with_uci=

# main_file CASE: the file that is named.
main_file() {
	for name in postfix/main.cf msmtprc ssmtp/ssmtp.conf config/emailrelay dma/dma.conf nullmailer/remotes; do
		[ ! -f "tests/import/$1/root/etc/$name" ] || echo "tests/import/$1/root/etc/$name"
	done
}

# The passwords of a configuration, which must not be seen.
# shellcheck disable=SC2016 # as they are
secrets='abcd efgh
$ecret
Pa:ss:word
tiger{7}
q9w8e7
static pass
p4ss#word
other$
abcdefghijklmnop
p=a9s
cD1hOXMr
pass|with:signs
"phrase"
second$
pass+word
pass+2B
ac'\''e'

# --- The same words everywhere

for folder in tests/import/*/; do
	name=$(basename "$folder")
	for kind in $kinds; do
		code=0
		import "$kind" --root "$folder/root" "$(main_file "$name")" >"$work/commands" 2>"$work/notes" || code=$?
		equal "$name in $kind: exit code" 0 "$code"
		{ cat "$work/commands" && echo --- && cat "$work/notes"; } | sed "s,$top/,,g" >"$work/said"
		if [ "${IMPORT_GOLDEN:-}" = write ] && [ "$kind" = busybox ]; then
			cp "$work/said" "$folder/said"
		fi
		equal "$name in $kind" "$(cat "$folder/said" 2>/dev/null)" "$(cat "$work/said")"
		! printf '%s\n' "$secrets" | grep -F -f - "$work/said" >/dev/null || fail "$name in $kind prints a password"
		# What is printed can be pasted: each line is a command of a shell.
		$shell -n "$work/commands" || fail "$name in $kind: what is printed is not shell"
	done
done
for mark in "$work/ran" /tmp/smtprelay-import-ran; do
	[ ! -e "$mark" ] || fail 'a program of a foreign file was run'
done

# --- Passwords

for kind in $kinds; do
	equal "--password in $kind" "it's a \$ecret" \
		"$(import "$kind" --root tests/import/gmail/root --password provider "$(main_file gmail)" 2>/dev/null)"
	# The umlaut comes from base64.
	equal "--password in $kind, emailrelay" 'p=a9s+s2 wörd' \
		"$(import "$kind" --root tests/import/emailrelay/root --password provider "$(main_file emailrelay)" 2>/dev/null)"
	equal "--password in $kind, old emailrelay" 'pass+word' \
		"$(import "$kind" --root tests/import/cmdline/root --password provider /etc/config/emailrelay 2>/dev/null)"
	equal "--password in $kind, second account" other \
		"$(import "$kind" --root tests/import/msmtp/root --password second "$(main_file msmtp)" 2>/dev/null)"
	equal "--show-secrets in $kind" "printf '%s\\n' 'it'\\''s a \$ecret' | smtprelay password provider" \
		"$(import "$kind" --root tests/import/gmail/root --show-secrets "$(main_file gmail)" 2>/dev/null | grep password)"
	code=0
	import "$kind" --root tests/import/gmail/root --password nobody "$(main_file gmail)" >/dev/null 2>&1 || code=$?
	equal "--password of no account in $kind" 65 "$code"
done

# --- Files that lie together, without a root

mkdir "$work/copied files"
cp tests/import/controllino/root/etc/postfix/main.cf "$work/copied files/main.cf"
said=$(cd "$work" && import busybox 'copied files/main.cf' 2>&1)
case "$said" in
*'smtp_sasl_password_maps names /etc/postfix/sasl_passwd, which is not there'*'smtprelay password provider'*) ;;
*) fail "a missing file of passwords: $said" ;;
esac
cp tests/import/controllino/root/etc/postfix/sasl_passwd "$work/logins"
mkdir "$work/elsewhere"
mv "$work/logins" "$work/elsewhere/sasl_passwd"
equal 'a further FILE' 'abcd efgh ijkl mnop' "$(import busybox --password provider "$work/copied files/main.cf" "$work/elsewhere/sasl_passwd" 2>/dev/null)"
cp "$work/elsewhere/sasl_passwd" "$work/copied files/sasl_passwd"
equal 'a file next to it' 'abcd efgh ijkl mnop' "$(import busybox --password provider "$work/copied files/main.cf" 2>/dev/null)"
# With a root, paths are meant below it, also those of the command line.
equal 'a path below the root' "it's a \$ecret" \
	"$(import busybox --root tests/import/gmail/root --password provider /etc/postfix/main.cf 2>/dev/null)"
# Of a table in a database, the text is needed.
cp -R tests/import/gmail/root "$work/old"
mv "$work/old/etc/postfix/sasl/sasl_passwd" "$work/old/etc/postfix/sasl/sasl_passwd.db"
said=$(import busybox --root "$work/old" /etc/postfix/main.cf 2>&1)
case "$said" in
*'only its database is there'*) ;;
*) fail "a database without its text: $said" ;;
esac
# By content, whatever the name.
for name in $(basename -a tests/import/*/); do
	cp "$(main_file "$name")" "$work/unnamed"
	code=0
	import busybox "$work/unnamed" >"$work/commands" 2>&1 || code=$?
	equal "$name, recognised by its content" 0 "$code"
done

# --- What is not there, or not what it seems

# refused CODE ARGUMENT…
refused() {
	wanted=$1
	shift
	for kind in $kinds; do
		code=0
		import "$kind" "$@" >"$work/commands" 2>"$work/notes" || code=$?
		equal "$* in $kind: exit code" "$wanted" "$code"
		equal "$* in $kind: commands" '' "$(cat "$work/commands")"
		grep -q '^smtprelay: ' "$work/notes" || fail "$* in $kind: does not say why"
	done
}
refused 64
refused 64 --perhaps main.cf
refused 64 --config
refused 64 --apply --show-secrets main.cf
refused 64 --config /etc/smtprelay.conf tests/import/gmail/root/etc/postfix/main.cf
refused 66 "$work/nothing"
refused 66 --root "$work/nothing" tests/import/gmail/root/etc/postfix/main.cf
command -v uci >/dev/null || refused 69 --apply tests/import/gmail/root/etc/postfix/main.cf
echo 'a shopping list' >"$work/list"
refused 65 "$work/list"
: >"$work/main.cf"
refused 65 "$work/main.cf"
head -c 2000000 /dev/zero >"$work/large"
refused 65 "$work/large"

# Values that are commands elsewhere stay values.
mkdir -p "$work/evil"
cat >"$work/evil/main.cf" <<'END'
relayhost = [mail.example.com]:587
smtp_tls_security_level = secure
myhostname = $(touch ran)`touch ran`
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:user';touch${IFS}ran;':$(touch${IFS}ran)
loop = $loop$loop$loop
inet_interfaces = $loop
END
{
	printf 'mynetworks = 10.0.0.0/8\033]0;title\007\n'
	head -c 900000 /dev/zero | tr '\0' ,
	echo
} >>"$work/evil/main.cf"
for kind in $kinds; do
	(cd "$work/evil" && import "$kind" --show-secrets main.cf >../commands 2>../notes) || fail "commands as values in $kind"
	printf '#!/bin/sh\n:\n' >"$work/evil/uci"
	cp "$work/evil/uci" "$work/evil/smtprelay"
	cp "$work/evil/uci" "$work/evil/service"
	chmod +x "$work/evil/uci" "$work/evil/smtprelay" "$work/evil/service"
	(cd "$work/evil" && PATH=$PWD:$PATH $shell ../commands) || fail "pasting commands as values in $kind"
	[ ! -e "$work/evil/ran" ] || fail "a value was run in $kind"
	! grep -q "$(printf '\033')" "$work/commands" "$work/notes" || fail "a control character in $kind"
done

# --- Variables of Postfix, as its own postconf has them

postfix=$(scripts/target_dir.sh)/servers/root
if [ -x "$postfix/usr/sbin/postconf" ]; then
	mkdir "$work/variables"
	cp tests/import/variables.cf "$work/variables/main.cf"
	names='home_mailbox smtpd_banner mail_name mail_version mydestination mynetworks relay_domains relayhost inet_interfaces
relocated_maps notify_classes myorigin'
	readers=files/usr/share/smtprelay/import
	cat >"$work/show.awk" <<'END'
function set_alias(where, name, to, count) {}
BEGIN {
	postfix_parameters(ARGV[1])
	for (i = 2; i < ARGC; i++)
		print ARGV[i] " = " pf(ARGV[i])
}
END
	for name in $names; do
		value=$(LD_LIBRARY_PATH=$(echo "$postfix"/usr/lib/postfix "$postfix"/usr/lib/*-linux-gnu "$postfix"/lib/*-linux-gnu | tr ' ' :) \
			"$postfix/usr/sbin/postconf" -c "$work/variables" -x -h "$name" 2>/dev/null) || fail "postconf $name"
		printf '%s = %s\n' "$name" "$value"
	done | tr -s ' ' >"$work/real"
	for kind in $kinds; do
		# shellcheck disable=SC2086 # words
		PATH=$work/$kind:$PATH awk -f "$readers/tools.awk" -f "$readers/postfix_files.awk" -f "$work/show.awk" -- \
			"$work/variables/main.cf" $names </dev/null | tr -s ' ' >"$work/ours"
		equal "variables in $kind" "$(cat "$work/real")" "$(cat "$work/ours")"
	done
else
	echo 'skipped: variables of Postfix were not compared with postconf, for want of target/servers (scripts/servers.sh)'
fi

# --- Writing, by the real uci

# settings FOLDER [LINE]: the settings as they are shipped, with directories for a test.
settings() {
	rm -rf "$1"
	mkdir "$1"
	sed "/^config relay/a\\	option user 'root'\\n	option spool '$1/spool'\\n	option secrets '$1/secrets'" \
		files/etc/config/smtprelay >"$1/smtprelay"
	chmod 0600 "$1/smtprelay"
}

if [ -n "${UCI:-}" ]; then
	with_uci=$work/uci:
	for kind in $kinds; do
		for folder in tests/import/*/; do
			name=$(basename "$folder")
			settings "$work/set"
			import "$kind" --root "$folder/root" --config "$work/set/smtprelay" --apply "$(main_file "$name")" \
				>"$work/said" 2>&1 || fail "$name: --apply in $kind: $(cat "$work/said")"
			code=0
			"$PROGRAM" check --config "$work/set/smtprelay" >"$work/said" 2>&1 || code=$?
			case "$code" in
			0 | 75) ;;
			*) fail "$name: check says $code: $(cat "$work/said")" ;;
			esac
			! grep -q 'not configured yet' "$work/said" || fail "$name: an account that is not used: $(cat "$work/said")"
			equal "$name: mode of the settings" 600 "$(stat -c %a "$work/set/smtprelay")"
			! printf '%s\n' "$secrets" | grep -F -f - "$work/set/smtprelay" >/dev/null || fail "$name: a password in the settings"
			# The same again changes nothing.
			cp "$work/set/smtprelay" "$work/once"
			import "$kind" --root "$folder/root" --config "$work/set/smtprelay" --apply "$(main_file "$name")" >/dev/null 2>&1 ||
				fail "$name: --apply again in $kind"
			cmp -s "$work/once" "$work/set/smtprelay" || fail "$name: --apply again changes something"
		done
		# Pasted commands give the same settings.
		settings "$work/set"
		import "$kind" --root tests/import/wrapper/root --config "$work/set/smtprelay" "$(main_file wrapper)" 2>/dev/null |
			grep '^uci' >"$work/commands"
		# shellcheck disable=SC2086 # two words
		env PATH="$work/uci:$PATH" $shell "$work/commands" || true
		cp "$work/set/smtprelay" "$work/pasted"
		settings "$work/set"
		import "$kind" --root tests/import/wrapper/root --config "$work/set/smtprelay" --apply "$(main_file wrapper)" >/dev/null 2>&1
		equal "pasted in $kind" "$(cat "$work/set/smtprelay")" "$(cat "$work/pasted")"
	done

	# An account of the same name with another login stays.
	settings "$work/set"
	PATH=$work/uci:$PATH
	uci -c "$work/set" set smtprelay.provider.host=mail.example.org
	uci -c "$work/set" set smtprelay.provider.username=somebody@example.org
	uci -c "$work/set" set smtprelay.provider.from=somebody@example.org
	# What is not committed is the owner's, and neither committed nor lost.
	code=0
	import busybox --root tests/import/gmail/root --config "$work/set/smtprelay" --apply "$(main_file gmail)" >/dev/null 2>&1 || code=$?
	equal 'uncommitted changes: exit code' 75 "$code"
	uci -c "$work/set" commit smtprelay
	import busybox --root tests/import/gmail/root --config "$work/set/smtprelay" --apply "$(main_file gmail)" >/dev/null 2>&1
	equal 'the other account' somebody@example.org "$(uci -c "$work/set" get smtprelay.provider.username)"
	equal 'the new account' office@example.com "$(uci -c "$work/set" get smtprelay.provider_2.username)"
	# Where nothing can be written.
	code=0
	import busybox --root tests/import/gmail/root --config /proc/none/smtprelay --apply "$(main_file gmail)" >/dev/null 2>&1 || code=$?
	equal 'a directory that cannot be written: exit code' 73 "$code"
	# What the program would not accept changes nothing.
	settings "$work/set"
	sed -i "s/option user .*/option user 'no-such-user'/" "$work/set/smtprelay"
	cp "$work/set/smtprelay" "$work/once"
	code=0
	import busybox --root tests/import/gmail/root --config "$work/set/smtprelay" --apply "$(main_file gmail)" >"$work/said" 2>&1 || code=$?
	equal 'settings that are not accepted: exit code' 78 "$code"
	cmp -s "$work/once" "$work/set/smtprelay" || fail 'settings that are not accepted were written'
else
	echo 'skipped: nothing was applied, for want of UCI=target/uci/uci (scripts/uci.sh)'
fi

[ "$failures" -eq 0 ] || {
	echo "smtprelay import: $failures checks failed" >&2
	exit 1
}
echo "smtprelay import: all checks passed, $(find tests/import/*/root -prune | wc -l) configurations, in: $kinds"
