# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to processes: one that outlives its caller, the clock that it sleeps by, and who asks.

It knows nothing of what such a process does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import subprocess
import syslog
import time
from typing import Callable

from ..errors import Unsupported

READY = "ready "
WAKE = signal.SIGUSR1
STARTED_FIELD = 22 - 3  # of /proc/PID/stat, behind the name in parentheses (proc(5))


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC in ns, as bpf_ktime_get_ns() gives it to programs. No clock that is set moves it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Return what tells this boot, and so this clock, from any other."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def new_token() -> str:
    """Return a word that nobody guesses."""
    return secrets.token_hex(8)


def who() -> str:
    """Return who runs this, for people: the user before sudo, and the host that he came from by SSH."""
    name = os.environ.get("SUDO_USER") or _user()
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return f"{name} from {connection[0]}" if connection else name


def _user() -> str:
    """Return this user's name; a directory service that is not there has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None while there is none of this number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[STARTED_FIELD])
    except (FileNotFoundError, ProcessLookupError):
        return None


def wake(pid: int, start: int) -> bool:
    """End the sleep of a process that spawn() made; False when it lives no more. The number may be somebody else's."""
    if started(pid) != start:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, WAKE)
        return True
    return False


def sleep_until(deadline: int) -> None:
    """Sleep up to a time of monotonic_ns(), or until somebody says wake()."""
    left = deadline - monotonic_ns()
    if left > 0:
        signal.sigtimedwait({WAKE}, left / 1e9)


def log(text: str) -> None:
    """Write one line to the journal: nobody else hears such a process."""
    syslog.openlog("tproxy-splicer", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, text)


def spawn(prepare: Callable[[], Callable[[], None]]) -> tuple:
    """Start a process that outlives this one, its session and its connection; return its (pid, start).

    It calls `prepare`, which opens all that will be needed, and only then does this return; what `prepare` returned is
    its work. Raises Unsupported, with the reason, when it did not come that far.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _live(prepare, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    if not said.startswith(READY):
        raise Unsupported(f"no process could be started to watch over the change ({said or 'it died'})")
    pid = int(said[len(READY) :])
    return pid, started(pid)


def _live(prepare: Callable, writing: int) -> None:
    """Be the new process, from its birth to its end."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _let_go(writing)
        _settle_down()
        work = prepare()
        os.write(writing, f"{READY}{os.getpid()}".encode())
    except BaseException as fault:
        os.write(writing, f"{type(fault).__name__}: {fault}".encode())
        os._exit(1)
    os.close(writing)
    try:
        work()
    except BaseException as fault:
        log(f"{type(fault).__name__}: {fault}")
    os._exit(0)


def _let_go(kept: int) -> None:
    """Keep none of the caller's descriptors: the connection would wait for them, and a lock would stay held."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor != kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.chdir("/")


def _settle_down() -> None:
    """Be the last that a machine without memory kills, and no part of the session that logind may kill."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
    for path, text in (("/proc/self/oom_score_adj", "-1000"), ("/proc/self/comm", "tproxy-guard")):
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(text)
    _leave_the_session()


def _leave_the_session() -> None:
    """Move into a scope of its own, where systemd runs; elsewhere nobody kills by session."""
    pid = str(os.getpid())
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    scope = ("ssa(sv)a(sa(sv))", f"tproxy-splicer-guard-{pid}.scope", "fail", "1", "PIDs", "au", "1", pid, "0")
    if os.path.isdir("/run/systemd/system"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["busctl", "--quiet", "call", *manager, "StartTransientUnit", *scope]
            subprocess.run(command, check=False, timeout=10, stderr=subprocess.DEVNULL)
