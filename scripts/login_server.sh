#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Fills a folder with a login server of somebody else (the npm package oidc-provider) for the tests of OAuth 2.0.
#
# usage: scripts/login_server.sh [folder]
#
# The folder is the argument, else $SMTPRELAY_LOGIN_SERVER, else target/login-server. What is there already is not fetched
# again. Without npm nothing is done, and the test against it says that it was skipped.
set -eu

folder=${1:-${SMTPRELAY_LOGIN_SERVER:-$("$(dirname "$0")/target_dir.sh")/login-server}}
version=9.13.3

if ! command -v npm >/dev/null; then
	echo "login_server.sh: npm is missing, so the test against oidc-provider will be skipped" >&2
	exit 0
fi
if grep -qs "\"version\": \"$version\"" "$folder/node_modules/oidc-provider/package.json"; then
	exit 0
fi
mkdir -p "$folder"
npm install --prefix "$folder" --no-save --no-audit --no-fund --ignore-scripts "oidc-provider@$version" >/dev/null
