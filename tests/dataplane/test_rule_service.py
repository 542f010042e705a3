# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The executable as its own client: a router's user with no rights asks the helper, which may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils import _zipapp
from ansible_collections.netedge.tproxy.tests.dataplane.router import transparent

ROOMS = Path(_zipapp.__file__).parent
NOBODY, GROUP = 65534, 54321
CALL = "-c 100.64.0.{host} -m 32 -p udp -o 0.0.0.0 -n 0 -l 80 -h 89"


class Served:
    """A listening socket as systemd has it, and whoever serves it."""

    def __init__(self, folder: Path, pin_dir: str):
        self.path, self._pin_dir = folder / "helper.sock", pin_dir
        self.executable = folder / "tproxy-splicer"
        self.executable.write_bytes(_zipapp.executable(lambda room: (ROOMS / f"{room}.py").read_bytes()))
        self.executable.chmod(0o755)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.path))
        os.chown(self.path, 0, GROUP)
        self.path.chmod(0o660)
        self.listening.listen(64)
        self.serving = None

    def start(self) -> None:
        """Start the helper as systemd does."""
        script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" helper --pin-dir "$1" 3<&0 </dev/null'
        words = ["/bin/sh", "-c", script, str(self.executable), self._pin_dir]
        self.serving = subprocess.Popen(words, stdin=self.listening)

    def kill(self) -> None:
        """End it without warning."""
        self.serving.send_signal(signal.SIGKILL)
        self.serving.wait()

    def call(self, operation: str, host: int, group: int = GROUP) -> subprocess.CompletedProcess:
        """Call the executable as a router's user does."""
        more = " -t 4000 -s svc" if operation == "-I" else ""
        words = [str(self.executable), operation, *(CALL.format(host=host) + more).split()]
        rights = {"user": NOBODY, "group": group, "extra_groups": []}
        where = {"env": {"TPROXY_SPLICER_HELPER": str(self.path)}, "cwd": "/"}
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **rights, **where)


@contextmanager
def opened(folder: Path, pin_dir: str):
    """Give a Served that ends with the test."""
    served = Served(folder, pin_dir)
    served.start()
    try:
        yield served
    finally:
        served.kill()
        served.listening.close()


@pytest.fixture
def served(router, client):
    """Return a Served for a router whose lan0 has the program."""
    folder = Path("/run/tproxy_splicer/test")
    folder.mkdir(mode=0o755, exist_ok=True)
    router.route()
    router.attach()
    # without a listener the rules would be garbage to a helper that starts
    with transparent(socket.SOCK_DGRAM, 4000), opened(folder, router.pin_dir) as one:
        yield one
    one.path.unlink()


def destinations(router) -> set:
    """Return what the rules in force are for."""
    return {rule["destination"] for rule in router.info()["rules"]}


def test_a_member_of_the_group_adds_and_removes_and_others_may_not(router, served):
    done = served.call("-I", 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert destinations(router) == {"100.64.0.1/32"}
    assert served.call("-I", 2, group=NOBODY).returncode != 0
    assert destinations(router) == {"100.64.0.1/32"}
    assert served.call("-D", 1).returncode == 0
    assert served.call("-D", 1).returncode == 0
    assert destinations(router) == set()


def test_a_refusal_is_one_line_and_its_status(router, served):
    refused = served.call("-I", 999)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "100.64.0.999" in refused.stderr


def test_calls_outlast_helpers_that_are_killed(router, served):
    for host in range(1, 13):
        if host % 4 == 0:
            served.kill()
            served.start()
        assert served.call("-I", host).returncode == 0
    assert destinations(router) == {f"100.64.0.{host}/32" for host in range(1, 13)}


def test_a_call_that_met_a_killed_helper_is_asked_again(router, served):
    answers = []
    served.kill()
    child = os.fork()
    if not child:
        connection, _address = served.listening.accept()
        connection.close()  # as a helper that is killed before it answers
        os._exit(0)
    asking = threading.Thread(target=lambda: answers.append(served.call("-I", 1)))
    asking.start()
    os.waitpid(child, 0)
    served.start()
    asking.join()
    assert answers[0].returncode == 0
    assert destinations(router) == {"100.64.0.1/32"}
