#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# homeassistant 2025.4.4 (PyPI): while it starts, it accepts the webhook of an automation with 200, and discards it.
#
# The web server listens as soon as the front end is set up. Automations, and with them their webhooks, are only there
# when all integrations are set up, which takes as long as the slowest of them; here it is one that takes 6 s. Until then
# a request to a webhook of an automation in the settings gets the answer of one that was handled: 200 and no text. A
# sender that repeats what was refused, such as a mail gateway, takes it for delivered, and there is no other answer that
# it could go by. Only the log of Home Assistant tells. A sender that has to be sure needs a second way.
#
# Seen, where "early" is the first request that was answered, and "late" one after the start:
#	early 200 '' late 200 ''
#	the automation has run for: late
#
# Needs PyPI, Python 3.13 (also one of pyenv) and a C++ compiler; takes two to ten minutes. Ends with 0 when the behaviour is as
# described, with 1 when it has changed.
set -eu

python=
for found in python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python; do
	# A shim of pyenv may be there without the version.
	if [ -z "$python" ] && "$found" -c '' 2>/dev/null; then
		python=$found
	fi
done
if [ -z "$python" ]; then
	echo 'Python 3.13 is missing' >&2
	exit 2
fi
folder=$(mktemp -d)
server=
ended() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ -z "$server" ] || wait "$server" || true
	rm -rf "$folder"
}
trap ended EXIT
trap 'exit 1' INT TERM

"$python" -m venv "$folder/env"
timeout 1500 "$folder/env/bin/pip" install --quiet --prefer-binary homeassistant==2025.4.4 home-assistant-frontend==20250411.0
mkdir -p "$folder/home/custom_components/slow"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$folder/home/configuration.yaml" <<END_OF_SETTINGS
http:
  server_host: 127.0.0.1
  server_port: $port
logger:
  default: info
system_log:
webhook:
slow:
automation:
  - alias: alarm
    triggers:
      - trigger: webhook
        webhook_id: alarm
        local_only: true
    actions:
      - action: system_log.write
        data:
          message: "alarm {{ trigger.json.when }}"
END_OF_SETTINGS
cat >"$folder/home/custom_components/slow/manifest.json" <<'END_OF_MANIFEST'
{"domain": "slow", "name": "slow", "version": "1.0", "documentation": "", "codeowners": [], "requirements": [], "dependencies": []}
END_OF_MANIFEST
cat >"$folder/home/custom_components/slow/__init__.py" <<'END_OF_COMPONENT'
import asyncio


async def async_setup(hass, config):
    await asyncio.sleep(6)
    return True
END_OF_COMPONENT
PATH=$folder/env/bin:$PATH "$folder/env/bin/hass" -c "$folder/home" >"$folder/log" 2>&1 &
server=$!
cat >"$folder/ask.py" <<'END_OF_CLIENT'
import json, sys, time, urllib.request

port, log = sys.argv[1:]


def ask(when):
    url = f"http://127.0.0.1:{port}/api/webhook/alarm"
    asked = urllib.request.Request(url, json.dumps({"when": when}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return f"{when} {answer.status} {answer.read().decode()!r}"


def until(done, limit=300):
    end = time.monotonic() + limit
    while not done():
        if time.monotonic() > end:
            sys.exit("timeout:\n" + open(log).read()[-3000:])
        time.sleep(0.1)


seen = []


def early():
    try:
        seen.append(ask("early"))
    except OSError:
        return False
    return True


until(early)
until(lambda: "Home Assistant initialized" in open(log).read())
# The first one that the automation runs for is there a moment after the start.
until(lambda: (ask("late"), time.sleep(0.5), "alarm late" in open(log).read())[2])
seen.append(ask("late"))
print(*seen)
print("the automation has run for:", *[when for when in ("early", "late") if f"alarm {when}" in open(log).read()])
END_OF_CLIENT
printf '%s\n' "early 200 '' late 200 ''" 'the automation has run for: late' >"$folder/expected"
timeout 600 "$folder/env/bin/python" "$folder/ask.py" "$port" "$folder/log" | tee "$folder/seen"
if ! diff "$folder/expected" "$folder/seen"; then
	echo 'changed: homeassistant 2025.4.4 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
