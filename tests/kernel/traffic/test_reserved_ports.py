# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service of an OpenZiti router on the router's own address, with all ports: operators still get in."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import divert
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import parse
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reserved_ports import (
    ReservedPortsWatch,
    reserved_ports,
)
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, transparent

SSH, MANAGED, SERVICE, PROXY = 2022, 9443, 8080, 8444
CALL = f"-I -c {OWN} -m 32 -p tcp -l 1 -h 65535 -t {PROXY} -s all"
# The kernel shows a process by the name that it gives itself.
DAEMON = """
import socket, sys
open("/proc/self/comm", "w").write(sys.argv[1])
listening = socket.create_server(("", int(sys.argv[2])))
print(flush=True)
while True:
    listening.accept()[0].sendall(sys.argv[1].encode())
"""


@contextmanager
def daemon(name: str, port: int):
    """Run a daemon that tells its name to each client."""
    words = [sys.executable, "-c", DAEMON, name, str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def daemons():
    """Run an SSH daemon, a managed one and another one, and the proxy of a router."""
    with (
        daemon("sshd", SSH),
        daemon("metrics", MANAGED),
        daemon("web", SERVICE),
        transparent(socket.SOCK_STREAM, PROXY) as proxy,
    ):
        yield proxy


@pytest.fixture
def intercepting(router, daemons):
    """Return a router whose management entry for another client names a port, before the service comes."""
    router.route()
    entry = {"source": "198.51.100.9/32", "port": MANAGED}
    router.attach(policy={"allow_ssh": False, "management": [entry], "track": "none"})
    return router


def insert(router) -> tuple:
    """Return (status, line) of the call of a router without a helper."""
    options = {"request": parse(CALL.split()), "pin_dir": router.pin_dir}
    return 0, divert(options, router.system(), False).data["not_enforced_reason"]


def insert_by_helper(router) -> tuple:
    """Return (status, line) of the same call by the helper."""
    return Helper(router.pin_dir, router.system()).answer("\0".join(CALL.split()).encode(), 0)[:2]


def reserved(router) -> set:
    """Return the reserved ports of this namespace's daemons; systemd's are those of the machine."""
    system = router.system()
    with splicer_pins(system.bpf, system.bpffs, router.pin_dir) as pins:
        return reserved_ports(system.bpf, pins)


def hears(client, port: int) -> str:
    """Return the name of the daemon that serves a client at a port of the router's own address."""
    with client.socket(socket.SOCK_STREAM) as asking:
        asking.connect((OWN, port))
        return asking.recv(100).decode()


@pytest.mark.parametrize("call", [insert, insert_by_helper])
def test_the_service_takes_neither_ssh_nor_management(intercepting, client, daemons, call):
    assert reserved(intercepting) == {("tcp", SSH), ("tcp", MANAGED)}
    has_them = "SSH or a management entry of this router has it"
    assert call(intercepting) == (0, f"stored without tcp {SSH} of {OWN}, tcp {MANAGED} of {OWN}: {has_them}")
    assert (hears(client, SSH), hears(client, MANAGED)) == ("sshd", "metrics")
    with client.socket(socket.SOCK_STREAM) as asking:
        asking.connect((OWN, SERVICE))
        accepted, peer = daemons.accept()
        with accepted:
            assert (accepted.getsockname(), peer[0]) == ((OWN, SERVICE), CLIENT)
    said = intercepting.verdict(source=CLIENT, destination=OWN, protocol="tcp", port=SSH, interface=LAN)
    assert (said["verdict"], said["reason"]) == ("pass", "local")


def test_the_watcher_follows_a_daemon_that_moves(intercepting):
    def follow() -> None:
        ReservedPortsWatch(intercepting.system(), intercepting.pin_dir).follow()

    with daemon("dropbear", SSH + 1):
        follow()
        assert reserved(intercepting) == {("tcp", SSH), ("tcp", SSH + 1), ("tcp", MANAGED)}
    follow()
    assert reserved(intercepting) == {("tcp", SSH), ("tcp", MANAGED)}


def test_a_management_entry_that_goes_frees_its_port(intercepting):
    intercepting.attach(policy={"allow_ssh": False, "management": [], "track": "none"})
    assert reserved(intercepting) == {("tcp", SSH)}


def test_a_rule_of_an_operator_takes_them(intercepting, daemons, client):
    rule = {"destination": f"{OWN}/32", "protocol": "tcp", "ports": str(SSH), "tproxy_port": PROXY}
    intercepting.rules(rule, force=True)
    with client.socket(socket.SOCK_STREAM) as asking:
        asking.connect((OWN, SSH))
        accepted, _peer = daemons.accept()
        accepted.close()
