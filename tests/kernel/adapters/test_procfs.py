# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapters to sock_diag, to processes and to networkd's settings, with real sockets and processes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.units import WATCH
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import procfs, sock_diag
from ansible_collections.netedge.tproxy.tests.support import collection
from ansible_collections.netedge.tproxy.tests.support.router import eventually

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS = {TCP: "tcp", UDP: "udp"}
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
NOBODY = 65534


def opened(kind: int, address: str = "127.0.0.1", port: int = 8443, *options: tuple) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    for option in options:
        made.setsockopt(*option, 1)
    made.bind((address, port))
    if kind == TCP:
        made.listen()
    return made


def inode(made: socket.socket) -> int:
    return os.fstat(made.fileno()).st_ino


@pytest.mark.parametrize("kind", KINDS)
def test_listening_sockets_are_listed_with_their_options(netns, kind):
    transparent = (socket.SOL_IP, IP_TRANSPARENT)
    with opened(kind) as plain, opened(kind, "127.0.0.1", 8444, transparent) as one, opened(kind, "::1", 8445) as six:
        found = {entry.inode: entry for entry in sock_diag.listeners(KINDS[kind])}
        assert set(found) == {inode(plain), inode(one), inode(six)}
        assert found[inode(plain)][:2] == (parse_address("127.0.0.1"), 8443)
        assert found[inode(six)][:2] == (parse_address("::1"), 8445)
        assert [found[inode(each)].transparent for each in (plain, one, six)] == [False, True, False]


def test_a_parent_that_this_process_may_not_read_is_no_parent(monkeypatch):
    """As in a profile of AppArmor."""
    child = subprocess.Popen(["sleep", "60"])
    assert procfs.parent_of(child.pid).pid == os.getpid()

    def refuse(pid):
        raise PermissionError(f"/proc/{pid}/stat")

    monkeypatch.setattr(procfs, "started", refuse)
    assert procfs.parent_of(child.pid) is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_a_connected_socket_is_not_listed(netns, kind):
    with opened(kind) as waiting, opened(kind, "127.0.0.1", 8446) as other:
        peer = socket.socket(socket.AF_INET, kind)
        peer.connect(("127.0.0.1", 8443))
        assert {entry.inode for entry in sock_diag.listeners(KINDS[kind])} == {inode(waiting), inode(other)}
        peer.close()


def test_a_socket_for_both_families_is_distinguished_from_one_for_ipv6(netns):
    for only, dual in ((1, False), (0, True)):
        with socket.socket(socket.AF_INET6, TCP) as made:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            made.bind(("::", 8443))
            made.listen()
            assert [entry.dual for entry in sock_diag.listeners("tcp")] == [dual]


def test_sockets_of_another_namespace_are_not_listed(netns):
    with opened(TCP):
        assert netns.elsewhere(lambda: sock_diag.listeners("tcp")) == []


def test_so_reuseport_is_read_from_the_socket_itself(netns):
    with opened(TCP, "127.0.0.1", 8443, (socket.SOL_SOCKET, socket.SO_REUSEPORT)) as shared, opened(UDP) as alone:
        assert sock_diag.has_reuseport(inode(shared)) is True
        assert sock_diag.has_reuseport(inode(alone)) is False
        gone = inode(alone)
    assert sock_diag.has_reuseport(gone) is None


CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
PR_CAPBSET_DROP, CAP_LAST = 24, 40  # linux/prctl.h, linux/capability.h
LISTEN = "import socket; made = socket.create_server(('127.0.0.1', 8443)); print(flush=True); input()"
DUPLICATE = f"""
import runpy, sys; runpy.run_path({collection.__file__!r})["register"]()
from {sock_diag.__name__} import duplicates
with duplicates([int(sys.argv[1])]) as found:
    print(len(found))
"""


def as_the_watcher() -> None:
    """Let the program that follows have the capabilities of the watcher's unit, and no others."""
    kept = {
        CAPABILITIES[name] for line in re.findall("(?m)^CapabilityBoundingSet=(.*)$", WATCH) for name in line.split()
    }
    for number in set(range(CAP_LAST + 1)) - kept:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def test_the_watcher_can_take_the_socket_of_a_proxy_of_another_user(netns):
    """Datagrams in fragments reach their proxy by that socket only."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LISTEN], user=NOBODY, group=NOBODY, **pipes) as proxy:
        proxy.stdout.readline()
        (listening,) = sock_diag.listeners("tcp")
        command = [sys.executable, "-c", DUPLICATE, str(listening.inode)]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=as_the_watcher, check=True)
        proxy.communicate(b"\n")
    assert done.stdout == "1\n"


# ---- processes ------------------------------------------------------------------------------------


PRINT_SESSION = f"""
import runpy; runpy.run_path({collection.__file__!r})["register"]()
from {procfs.__name__} import ssh_connection
print(*(ssh_connection() or ["none"]))
"""


def session_of_grandchild(session: str) -> str:
    """Return the session that a child of a child finds. Like sudo, the child in between hides the environment."""
    command = ["sh", "-c", 'env -i /usr/bin/python3 -c "$1"; :', "sh", PRINT_SESSION]
    done = subprocess.run(command, capture_output=True, text=True, env={"SSH_CONNECTION": session}, check=True)
    return done.stdout.strip()


def test_the_ssh_session_is_found_behind_a_child_that_hides_it():
    assert session_of_grandchild("192.0.2.7 40000 10.1.0.1 22") == "192.0.2.7 40000 10.1.0.1 22"


def test_a_variable_with_too_few_fields_is_no_ssh_session():
    assert session_of_grandchild("192.0.2.7 40000") not in ("", "192.0.2.7 40000")


def test_a_process_is_found_by_the_first_bytes_of_its_name(tmp_path):
    daemon = tmp_path / "tp-a-daemon-with-a-long-name"
    shutil.copy(shutil.which("sleep"), daemon)
    assert not procfs.is_running(daemon.name)
    with subprocess.Popen([daemon, "60"]) as running:
        eventually(lambda: procfs.is_running(daemon.name))
        running.kill()
    assert not procfs.is_running(daemon.name)


# ---- networkd -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "keeps"),
    [
        ({}, False),
        ({"etc/networkd.conf": "[Network]\n#ManageForeignRoutingPolicyRules=no\n"}, False),
        ({"etc/networkd.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n"}, True),
        ({"etc/networkd.conf.d/x.conf": "[Network]\nManageForeignRoutingPolicyRules = False\n"}, True),
        ({"lib/networkd.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n", "etc/networkd.conf": ""}, False),
        (
            {
                "lib/networkd.conf.d/20.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
                "etc/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
            },
            True,
        ),
        (
            {
                "lib/networkd.conf.d/20.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
                "etc/networkd.conf.d/20.conf": "",
            },
            False,
        ),
        ({"etc/networkd.conf": "no section\n"}, False),
    ],
)
def test_the_setting_is_found_in_the_file_that_networkd_uses(tmp_path, files, keeps):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert procfs.keeps_foreign_rules((f"{tmp_path}/etc", f"{tmp_path}/lib")) is keeps
