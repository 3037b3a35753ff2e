# SPDX-License-Identifier: Apache-2.0
"""What a relay takes, with all processes that it starts: memory, processor time; and its end, each process by its id.

Exim and Postfix start processes whose parent ends first. This program is their "subreaper": such a process becomes a
child of it. So everything below this program that is not one of its own tools belongs to the relay that runs.
"""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
TICK = os.sysconf("SC_CLK_TCK")

# Ids of what this program has started for itself; not measured, and not ended together with a relay.
tools = set()
# Processor seconds of processes that were left to this program and have ended.
_inherited = 0.0


def become_subreaper():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tool(command, **more):
    """Starts a tool of the benchmark."""
    process = subprocess.Popen([str(word) for word in command], text=True, **more)
    tools.add(process.pid)
    return process


def _stat(pid):
    """State, parent and processor ticks of a process; ticks include those of children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), sum(int(ticks) for ticks in fields[11:15])


def _all():
    """The processes of the relay: id, state, parent, ticks."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(name)):
            stats[int(name)] = stat
    ours, found = {os.getpid()}, {}
    grown = True
    while grown:
        grown = False
        for pid, stat in stats.items():
            if stat[1] in ours and pid not in ours and pid not in tools:
                ours.add(pid)
                found[pid] = stat
                grown = True
    return found


def _reap(keep):
    """Waits for processes that were left to this program and have ended. `keep` is waited for elsewhere."""
    global _inherited
    for pid, (state, parent, _) in _all().items():
        if parent == os.getpid() and state == "Z" and pid != keep:
            try:
                _, _, usage = os.wait4(pid, os.WNOHANG)
                _inherited += usage.ru_utime + usage.ru_stime
            except ChildProcessError:
                pass


class Relay:
    """A relay that runs: its first process and all that come from it."""

    def __init__(self, command, log, **more):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more
        )

    def pids(self):
        return [pid for pid, (state, *_) in _all().items() if state != "Z"]

    def cpu(self):
        """Processor seconds so far, of all processes."""
        _reap(self.process.pid)
        return _inherited + sum(ticks for _, _, ticks in _all().values()) / TICK

    def pss(self):
        """Memory in kB: proportional set size of all processes, so that what they share is counted once."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
            except (OSError, TypeError):
                # It has ended in the meantime.
                pass
        return total

    def data(self):
        """The part of it that is not program code, in kB: private and anonymous."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += int(re.search(r"^Pss_Anon:\s+(\d+)", file.read(), re.M)[1])
            except (OSError, TypeError):
                pass
        return total

    def alive(self):
        return self.process.poll() is None

    def stop(self, patient=10):
        """Asks the first process to end, then ends each that is left."""
        if patient and self.alive():
            self.process.terminate()
            try:
                self.process.wait(patient)
            except subprocess.TimeoutExpired:
                pass
        end = time.monotonic() + 10
        while (left := self.pids()) and time.monotonic() < end:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.poll()
            _reap(self.process.pid)
            time.sleep(0.01)
        self.process.wait()
        _reap(None)


class Peak:
    """Measures the memory of a relay all the while, in a `with` block; `kb` is the most that was seen."""

    def __init__(self, relay, pause=0.03):
        self.relay, self.pause, self.kb = relay, pause, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(self.pause):
            self.kb = max(self.kb, self.relay.pss())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.kb = max(self.kb, self.relay.pss())


def settled(relay, most=8.0, quiet=1.0):
    """Waits until the memory has not changed for a while."""
    end = time.monotonic() + most
    last, since = relay.pss(), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < quiet:
        time.sleep(0.1)
        if (now := relay.pss()) != last:
            last, since = now, time.monotonic()
    return last
