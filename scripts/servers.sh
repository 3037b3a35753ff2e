#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Fills a folder with real mail servers (Postfix, Exim) for the tests that relay to them.
#
# usage: scripts/servers.sh [folder [bench]]
#
# The folder is the argument, else $SMTPRELAY_SERVERS, else target/servers. For the benchmarks (bench) there are also
# OpenSMTPD and msmtpd, which no test uses. The servers come from the Debian
# packages, unpacked and not installed: as packages they exclude each other and start by themselves. Libraries
# that the machine lacks are unpacked beside them. What is there already is not fetched again.
#
# Postfix and Exim want to be started by root and change to users of their own; as root this script adds these
# users when they are missing. Nothing else on the machine is changed.
set -eu

folder=${1:-${SMTPRELAY_SERVERS:-$("$(dirname "$0")/target_dir.sh")/servers}}
servers="postfix exim4-base exim4-daemon-light sasl2-bin libsasl2-2 libsasl2-modules libsasl2-modules-db"
if [ "${2:-}" = bench ]; then
	servers="$servers opensmtpd msmtp-mta"
fi

for tool in apt-get apt-cache dpkg; do
	command -v "$tool" >/dev/null || {
		echo "servers.sh: $tool is missing; this needs Debian or one of its children" >&2
		exit 1
	}
done

mkdir -p "$folder/packages"
folder=$(cd "$folder" && pwd)

# The libraries that a package depends on directly.
libraries() {
	apt-cache depends --important "$1" | sed -n 's/^ *|\{0,1\}Depends: \(lib[^ <>]*\)$/\1/p'
}

installed() {
	dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

fetch() {
	if [ -e "$folder/packages/$1" ]; then
		return 0
	fi
	echo "fetching $1"
	new=$(mktemp -d "$folder/new.XXXXXX")
	(cd "$new" && apt-get -qq -o APT::Sandbox::User=root download "$1")
	for file in "$new"/*.deb; do
		dpkg -x "$file" "$folder/root"
	done
	rm -rf "$new"
	: >"$folder/packages/$1"
}

mkdir -p "$folder/root"
for package in $servers; do
	fetch "$package"
done

# Libraries of the servers, and libraries of these libraries, as far as the machine lacks them.
waiting=$servers
seen=" $servers "
while [ -n "$waiting" ]; do
	next=
	for package in $waiting; do
		for library in $(libraries "$package"); do
			case $seen in
			*" $library "*) continue ;;
			esac
			seen="$seen$library "
			if ! installed "$library"; then
				fetch "$library"
				next="$next $library"
			fi
		done
	done
	waiting=$next
done

# A user that runs a server: no shell, no home, no password.
user() {
	if ! getent passwd "$1" >/dev/null; then
		useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
	fi
}

if [ "$(id -u)" = 0 ]; then
	user postfix
	user Debian-exim
	getent group postdrop >/dev/null || groupadd --system postdrop
	if [ "${2:-}" = bench ]; then
		user opensmtpd
		user opensmtpq
	fi
else
	echo "servers.sh: not root: no users added; the tests with real servers will be skipped" >&2
fi

echo "mail servers are in $folder"
