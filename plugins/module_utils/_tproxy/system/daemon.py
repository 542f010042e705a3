# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to processes: a daemon that outlives its caller, its clock, and the name of the calling user."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import subprocess
import syslog
import time
from typing import Callable, NamedTuple, NoReturn

from ..errors import Unsupported

READY = "ready "
WAKE = signal.SIGUSR1
STARTED_FIELD = 22 - 3  # of /proc/PID/stat, behind the name in parentheses (proc(5))
BUSCTL_SECONDS = 10


class Process(NamedTuple):
    """A process: its number, and its start in clock ticks since boot. The start tells it from a later one."""

    pid: int
    start: int


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC in ns, as bpf_ktime_get_ns() gives it to programs. Setting the clock does not move it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def realtime_ns() -> int:
    """Return the time of day, CLOCK_REALTIME in ns since 1970."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def boot_id() -> str:
    """Return the kernel's identifier of this boot. Times of monotonic_ns() are comparable within one boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def new_token() -> str:
    """Return an unpredictable token of 16 hexadecimal digits."""
    return secrets.token_hex(8)


def who() -> str:
    """Return the calling user, for people: the user before sudo, and the address of the SSH client."""
    name = os.environ.get("SUDO_USER") or _user()
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return f"{name} from {connection[0]}" if connection else name


def _user() -> str:
    """Return the name of this user, or the number while the directory service does not answer."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def started(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot, or None without a process of this number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[STARTED_FIELD])
    except (FileNotFoundError, ProcessLookupError):
        return None


def wake(pid: int, start: int) -> bool:
    """End the sleep of a process of spawn(). Return False if it has ended: another process may have its number."""
    if started(pid) != start:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, WAKE)
        return True
    return False


def sleep_until(deadline: int) -> None:
    """Sleep until a time of monotonic_ns(), or until another process calls wake()."""
    remaining = deadline - monotonic_ns()
    if remaining > 0:
        signal.sigtimedwait({WAKE}, remaining / 1e9)


def log(text: str) -> None:
    """Write one line to the journal. A daemon has no other output."""
    syslog.openlog("tproxy-splicer", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, text)


def spawn(prepare: Callable[[], Callable[[], None]]) -> Process:
    """Start a process that outlives this one, its session and its connection.

    The process calls `prepare`, which opens all that its work needs and returns the work. spawn() returns after that.
    Raises Unsupported, with the reason, if the process fails before.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _run(prepare, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        message = pipe.read()
    if not message.startswith(READY):
        raise Unsupported(f"no process could be started to watch over the change ({message or 'it died'})")
    pid = int(message[len(READY) :])
    return Process(pid, started(pid) or 0)


def _run(prepare: Callable[[], Callable[[], None]], writing: int) -> NoReturn:
    """Become the daemon: report to the pipe, work, and exit."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _close_descriptors(writing)
        _detach_from_session()
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


def _close_descriptors(kept: int) -> None:
    """Close the caller's descriptors but one. An open one would keep the connection waiting, and a lock held.

    AnsibleModule has logged by then. The C library keeps the number of that socket, and would write the lines of the
    daemon to whatever gets this number next, a netlink socket for example.
    """
    syslog.closelog()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor != kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.chdir("/")


def _detach_from_session() -> None:
    """Protect the daemon from the OOM killer, from the end of its terminal, and from logind."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
    for path, text in (("/proc/self/oom_score_adj", "-1000"), ("/proc/self/comm", "tproxy-guard")):
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(text)
    _move_to_scope()


def _move_to_scope() -> None:
    """Move into an own scope under systemd. Without systemd nothing kills processes by session."""
    pid = str(os.getpid())
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    scope = ("ssa(sv)a(sa(sv))", f"tproxy-splicer-guard-{pid}.scope", "fail", "1", "PIDs", "au", "1", pid, "0")
    if os.path.isdir("/run/systemd/system"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["busctl", "--quiet", "call", *manager, "StartTransientUnit", *scope]
            # The background process outlives AnsibleModule and its run_command.
            subprocess.run(  # pylint: disable=ansible-bad-function
                command, check=False, timeout=BUSCTL_SECONDS, stderr=subprocess.DEVNULL
            )
