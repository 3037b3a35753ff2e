# SPDX-License-Identifier: Apache-2.0
"""The router as it was: what the checks change is kept on its flash, and comes back however they end.

A copy in RAM would be gone with the router's restart, which is one of the checks. The copy counts once it is whole (`whole` in
it); it goes when everything is back. A run that finds one was interrupted before, and puts that back first.
"""

INIT = '/etc/init.d/smtprelay'
KEPT = '/etc/smtprelay-test-kept'
# Settings that the checks change.
FILES = ('/etc/config/smtprelay', '/etc/config/network')

KEEP = f'''umask 077; rm -rf {KEPT}; mkdir {KEPT} || exit 1
    for file in {' '.join(FILES)}; do
        [ ! -e "$file" ] || cp -p "$file" {KEPT}/ || exit 1
    done
    if [ -x {INIT} ]; then
        ! {INIT} enabled || touch {KEPT}/enabled
        ! {INIT} running || touch {KEPT}/running
        {INIT} stop
    fi
    sync; touch {KEPT}/whole && sync'''

# A file that was not there goes only if the copy is whole: then it is known that it was not. Each comes back whole or not at
# all, and the copy goes last.
RESTORE = f'''[ -e {KEPT}/whole ] || {{ rm -rf {KEPT}; exit 0; }}
    [ ! -x {INIT} ] || {INIT} stop
    failed=0
    for file in {' '.join(FILES)}; do
        kept="{KEPT}/${{file##*/}}"
        if [ -e "$kept" ]; then
            cp -p "$kept" "$file.new" && sync && mv "$file.new" "$file" || failed=1
        else
            rm -f "$file" || failed=1
        fi
    done
    ubus call network reload
    if [ -x {INIT} ]; then
        if [ -e {KEPT}/enabled ]; then {INIT} enable; else {INIT} disable; fi
        [ ! -e {KEPT}/running ] || {INIT} start
    fi
    sync
    [ "$failed" -eq 0 ] || exit 1
    rm -rf {KEPT}; sync'''


def keep(router):
    """Keeps the settings, and stops the gateway. What an interrupted run has left is put back before."""
    if router.run(f'[ -e {KEPT}/whole ]')[0] == 0:
        print(f'an earlier run was interrupted: its copy in {KEPT} on the router is put back first', flush=True)
        router.sh(RESTORE)
    router.sh(KEEP)


def restore(router):
    """Puts everything back: whether that went well. If not, the copy stays, and the next run puts it back."""
    try:
        code, said = router.run(RESTORE)
    except Exception as error:  # pylint: disable=broad-exception-caught # whatever it is, somebody has to be told
        code, said = 1, str(error)
    if code != 0:
        print(f'FAIL    the router is not as it was: its settings are in {KEPT} there; the next run puts them back: {said.strip()}', flush=True)
    return code == 0
