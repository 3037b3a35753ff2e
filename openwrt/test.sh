#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Run by the feed's tests on a router root where the package is installed: $1 is the package, $2 its version.

[ "$1" = smtprelay ] || exit 0

smtprelay --version | grep -F "$2" || exit 1
# What is shipped must be accepted as it is.
# 75: the settings are right, but devices cannot connect, because the tests have no network.
smtprelay check || [ $? -eq 75 ] || exit 1
# And what is wrong must not be.
printf "config relay 'main'\n\toption enabled 'perhaps\n" >/tmp/smtprelay-wrong
if smtprelay check --config /tmp/smtprelay-wrong; then
	echo 'smtprelay check accepts a file that ends inside quotes'
	exit 1
fi
rm -f /tmp/smtprelay-wrong
