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

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import zipapp
from ansible_collections.netedge.tproxy.tests.support.router import transparent

SOURCES = Path(zipapp.__file__).parents[1]
NOBODY, GROUP = 65534, 54321
CALL = "-c 100.64.0.{host} -m 32 -p udp -o 0.0.0.0 -n 0 -l 80 -h 89"


def executable(client: str) -> bytes:
    """Return the executable of a machine on which this program is the client: perl, a shell and perl, or Python."""
    content = zipapp.executable(lambda module: (SOURCES / f"{module}.py").read_bytes(), lambda path: client == "perl")
    return content.replace(b"/usr/bin/perl", b"/usr/bin/none") if client == "python" else content


class Served:
    """A listening socket as systemd has it, and the helper that serves it."""

    def __init__(self, folder: Path, pin_dir: str, client: str = "perl"):
        self.path, self._pin_dir = folder / "helper.sock", pin_dir
        self.executable, self.journal = folder / "tproxy-splicer", folder / "journal"
        self.executable.write_bytes(executable(client))
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
        with self.journal.open("ab") as journal:
            self.serving = subprocess.Popen(words, stdin=self.listening, stdout=journal)

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
def opened(folder: Path, pin_dir: str, client: str):
    """Give a Served that ends with the test."""
    served = Served(folder, pin_dir, client)
    served.start()
    try:
        yield served
    finally:
        served.kill()
        served.listening.close()


@pytest.fixture(params=["perl", "shell", "python"])
def served(router, client, request):
    """Return a Served for a router whose lan0 has the program."""
    folder = Path("/tmp/tproxy_splicer_helper")  # other users reach no file in RUN_DIR
    folder.mkdir(mode=0o755, exist_ok=True)
    router.route()
    router.attach()
    # without a listener the rules would be garbage to a helper that starts
    with transparent(socket.SOCK_DGRAM, 4000), opened(folder, router.pin_dir, request.param) as one:
        yield one
    one.path.unlink()
    one.journal.unlink()


def destinations(router) -> set:
    """Return the destinations of the rules in force."""
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


@pytest.mark.parametrize("words", [["--version"], ["-I"], ["-X", "-I"], []])
def test_what_is_no_call_of_a_router_is_done_without_the_helper(router, served, words):
    served.kill()
    command = [str(served.executable), *words]
    where = {"TPROXY_SPLICER_HELPER": "" if words == ["-I"] else str(served.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=where)
    assert done.returncode == (0 if words == ["--version"] else 2)
    assert done.stdout or done.stderr


def test_fifty_silent_clients_hold_up_no_call(router, served):
    """Each in its turn would take longer than the call may."""
    silent = [socket.socket(socket.AF_UNIX) for _client in range(50)]
    for one in silent:
        one.connect(str(served.path))
        one.send(b"-I")
    assert served.call("-I", 1).returncode == 0
    for one in silent:
        one.close()
    assert destinations(router) == {"100.64.0.1/32"}


def test_the_journal_is_told_of_changes_and_refusals_and_of_nothing_else(router, served):
    for operation, host in (("-I", 1), ("-I", 1), ("-I", 999), ("-D", 1), ("-D", 1)):
        served.call(operation, host)
    served.kill()
    told = served.journal.read_text("utf-8").splitlines()
    assert [line[: line.index("-")] for line in told if "done" in line] == [f"<6>uid {NOBODY}: done: "] * 2
    assert [line[: line.index(": dest")] for line in told if "done" not in line] == [f"<4>uid {NOBODY}: refused"]


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
