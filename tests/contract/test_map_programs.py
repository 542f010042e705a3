# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""map_update and map_delete_elem: the examples of the article that introduced them, with real packets."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import (
    OWN,
    eventually,
    original_destination,
    transparent,
)

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
FARM = ("172.16.1.0", "28", "30000", "40000", "33401", "6")
TELEMETRY = ("100.64.0.2", "32", "5000", "10000", "39250", "17")
VOICE = ("172.16.240.0", "24", "5060", "5060", "58997", "17")


def test_a_connection_is_spliced(attached_router, command, client):
    assert command("map_update", *FARM).returncode == 0
    with transparent(TCP, 33401) as proxy, client.socket(TCP) as asking:
        asking.connect(("172.16.1.5", 30022))
        answering, _peer = proxy.accept()
        with answering:
            assert answering.getsockname() == ("172.16.1.5", 30022)


@pytest.mark.parametrize(
    ("words", "address", "port"), [(TELEMETRY, "100.64.0.2", 10000), (VOICE, "172.16.240.9", 5060)]
)
def test_a_datagram_is_spliced_until_the_rule_is_deleted(attached_router, command, client, words, address, port):
    assert command("map_update", *words).returncode == 0
    with transparent(UDP, int(words[4])) as proxy, client.socket(UDP) as asking:
        asking.sendto(b"ping", (address, port))
        data, ancillary, _flags, _peer = proxy.recvmsg(99, 99)
        assert (data, original_destination(ancillary)) == (b"ping", (address, port))
        done = command("map_delete_elem", words[0], words[1], words[2], words[5])
        assert (done.returncode, done.stderr) == (0, "")
        asking.sendto(b"ping", (address, port))
        eventually(lambda: ("default", "dropped") in attached_router.reasons())
    assert attached_router.info()["rules"] == []


def test_port_0_passes_a_flow_to_the_host(attached_router, command, client):
    assert command("map_update", OWN, "32", "8080", "8080", "0", "17").returncode == 0
    with socket.socket(socket.AF_INET, UDP) as service, client.socket(UDP) as asking:
        service.bind((OWN, 8080))
        service.settimeout(5)
        asking.sendto(b"ping", (OWN, 8080))
        assert service.recv(9) == b"ping"


@pytest.mark.parametrize("call", [("map_update", *VOICE), ("map_delete_elem", "172.16.240.0", "24", "5060", "17")])
def test_both_fill_ifindex_ip_map(attached_router, command, call):
    assert attached_router.info()["attachments"][0]["addresses"] == []
    assert command(*call).returncode == 0
    assert OWN in attached_router.info()["attachments"][0]["addresses"]


def test_ssh_passes_to_the_recorded_address_only(attached_router, command, client):
    """Without a recorded address SSH to any address passes, so that a new router can be reached."""
    command("map_update", *VOICE)
    with client.socket(TCP) as asking, pytest.raises(ConnectionRefusedError):
        asking.connect((OWN, 22))
    with client.socket(TCP) as asking:
        asking.setblocking(False)
        asking.connect_ex(("172.16.240.1", 22))
        eventually(lambda: ("default", "dropped") in attached_router.reasons())


@pytest.mark.parametrize(("name", "given"), [("map_update", FARM[:5]), ("map_delete_elem", ())])
def test_missing_arguments_print_the_usage(command, name, given):
    done = command(name, *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Usage: {name} <ip dest address or prefix> <prefix len")


def test_a_wrong_argument_is_an_error_and_changes_nothing(command, bare_router):
    done = command("map_update", "172.16.1.0", "33", "1", "2", "3", "6")
    assert (done.returncode, done.stdout) == (1, "")
    assert "map_update: destination: '172.16.1.0/33' has no valid prefix length" in done.stderr
    assert bare_router.pinned() == {}
