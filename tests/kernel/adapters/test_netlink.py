# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rtnetlink adapter: its socket, interfaces and addresses, compared with iproute2."""

from __future__ import annotations

import errno
import importlib.machinery
import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused, MissingLibrary
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink import client, library
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import (
    RTM_GETLINK,
    Request,
    read_link,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.wire import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    split,
)
from ansible_collections.netedge.tproxy.tests.support import collection
from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl

FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
SCOPES = {"global": 0, "link": 253, "host": 254}
NOBODY = 65534


@pytest.fixture
def netlink(netns):
    with Netlink() as opened:
        yield opened


def mapped(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


# ---- the socket -----------------------------------------------------------------------


def test_the_adapter_is_imported_without_the_library():
    register = f"runpy.run_path({collection.__file__!r})['register']()"
    code = f"import runpy, sys; {register}; import {client.__name__}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert client.__name__ in done.stdout
    assert "pyroute2" not in done.stdout


def has_its_own_modules() -> bool:
    """Return whether pyroute2 holds its modules itself. Release 0.6 has them in other packages."""
    spec = importlib.machinery.PathFinder.find_spec("pyroute2")
    return any(Path(folder, "netlink").is_dir() for folder in spec.submodule_search_locations)


@pytest.mark.skipif(not has_its_own_modules(), reason="pyroute2 0.6 is loaded as a whole")
def test_the_adapter_loads_the_classes_in_use_and_leaves_the_library_to_others():
    register = f"runpy.run_path({collection.__file__!r})['register']()"
    code = f"""
import runpy, sys; {register}
from {client.__name__} import Netlink
names = lambda: {{name.rpartition(".")[2] for name in sys.modules if name.startswith("pyroute2.netlink.rtnl.")}}
with Netlink() as netlink:
    netlink.interfaces()
    first = names()
    netlink.rules(2)
assert "ifinfmsg" in first and not {{"fibmsg", "tcmsg", "iprsocket"}} & first, first
assert "fibmsg" in names() and "pyroute2" not in sys.modules
import pyroute2
with pyroute2.IPRoute() as library:
    print([link.get_attr("IFLA_IFNAME") for link in library.get_links()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'lo'" in done.stdout


def test_without_the_library_the_error_names_its_package(monkeypatch):
    library._class.cache_clear()
    for name in ("pyroute2", *(name for name in sys.modules if name.startswith("pyroute2."))):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingLibrary, match=r"pyroute2 0\.5\.14 or later is not installed: install python3-pyroute2"
    ) as raised:
        Netlink()
    assert "ImportError" in raised.value.details["traceback"] or "ModuleNotFound" in raised.value.details["traceback"]


def test_the_adapter_closes_its_socket(netns):
    before = set(os.listdir("/proc/self/fd"))
    with Netlink() as opened:
        opened.interfaces()
    assert set(os.listdir("/proc/self/fd")) == before


class Disturbed:
    """A socket that marks the first listings as changed while the kernel wrote them."""

    def __init__(self, netlink: Netlink, listings: int) -> None:
        self.inner, self.listings = netlink._socket._socket, listings
        self.send, self.close = self.inner.send, self.inner.close
        netlink._socket._socket = self

    def recv(self, size: int) -> bytes:
        data = bytearray(self.inner.recv(size))
        kinds = [message.type for message in split(bytes(data))]
        if self.listings > 0:
            data[6] |= NLM_F_DUMP_INTR  # the flags of the first message
            self.listings -= NLMSG_DONE in kinds
        return bytes(data)


def test_a_listing_that_changed_is_read_again(netns, netlink):
    netns.veth()
    Disturbed(netlink, 1)
    assert {link.name for link in netlink.interfaces()} == {"lo", "lan0", "lan0-peer"}


def test_a_listing_that_changes_each_time_is_refused(netlink):
    Disturbed(netlink, 10)
    with pytest.raises(KernelRefused, match=r"list interfaces \(it changed 10 times") as refusal:
        netlink.interfaces()
    assert refusal.value.errno == errno.EINTR
    assert [link.name for link in netlink.interfaces()] == ["lo"]


def test_a_listing_is_received_before_it_is_decoded(netns, netlink, monkeypatch):
    """The kernel writes it while it is received, and a starting router adds addresses all the time."""
    netns.batch("ip", [f"address add 10.3.{number // 250}.{number % 250 + 1}/32 dev lo" for number in range(1000)])
    messages = netlink._socket
    steps: list[str] = []
    receive, decode = messages._socket.recv, messages._decoded

    class Socket:
        send, close = messages._socket.send, messages._socket.close

        def recv(self, size: int) -> bytes:
            steps.append("receive")
            return receive(size)

    monkeypatch.setattr(messages, "_socket", Socket())
    monkeypatch.setattr(messages, "_decoded", lambda message: (steps.append("decode"), decode(message))[1])
    assert len(netlink.addresses()) > 1000
    assert steps.count("receive") > 1
    assert steps == sorted(steps, reverse=True)


def test_answers_to_an_earlier_request_are_skipped(netlink):
    """A request that is left before its end leaves answers behind."""
    socket_of_requests = netlink._socket
    left = socket_of_requests._encoded(Request(RTM_GETLINK, "list", "interfaces", {}, flags=NLM_F_DUMP))
    next(socket_of_requests._answers(left))
    assert netlink.link("lo").ifindex == 1
    assert netlink.link("lan0") is None


def test_a_message_without_a_length_ends_a_datagram():
    whole = HEADER.pack(20, 16, 2, 7, 0) + b"\1\0\0\0"
    assert list(split(whole + bytes(20))) == [(16, 2, 7, b"\1\0\0\0", whole)]


def test_a_refusal_names_errno_operation_and_object(netns, netlink):
    ifindex = netns.veth()
    os.seteuid(NOBODY)
    try:
        with pytest.raises(KernelRefused, match="refused to add clsact of lan0: EPERM") as refusal:
            netlink.add_clsact(ifindex)
    finally:
        os.seteuid(0)
    assert (refusal.value.errno, refusal.value.operation) == (errno.EPERM, "add")


# ---- interfaces -------------------------------------------------------------------------


def test_interfaces_are_those_of_ip_link(netns, netlink):
    netns.veth()
    for command in ("add br0 type bridge", "add ifb7 type ifb", "add mac0 link lan0 type macvlan"):
        netns.run(f"ip link {command}")
    netns.run("ip tuntap add tun0 mode tun")
    netns.run("ip tuntap add tap0 mode tap")
    found = {(link.ifindex, link.name, link.up, link.loopback, link.kind): link.layer3 for link in netlink.interfaces()}
    expected = {
        (
            link["ifindex"],
            link["ifname"],
            "UP" in link["flags"],
            "LOOPBACK" in link["flags"],
            link.get("linkinfo", {}).get("info_kind", ""),
        ): link["link_type"] not in ("ether", "loopback")
        for link in netns.judge("ip -d link show")
    }
    assert found == expected
    assert sum(found.values()) == 1  # tun0 alone has no Ethernet header


def test_one_interface_is_found_by_name(netns, netlink):
    ifindex = netns.veth("fifteen-bytes-0", "peer0")
    assert netlink.link("fifteen-bytes-0").ifindex == ifindex
    assert netlink.link("fifteen-bytes-0") in netlink.interfaces()
    assert netlink.link("peer1") is None
    assert netlink.link("sixteen-bytes-00") is None
    assert netlink.link("") is None


def test_an_interface_of_any_index_is_found(netns, netlink):
    assert netns.veth(options="index 70000") == 70000
    assert netlink.link("lan0").ifindex == 70000
    assert {address.ifindex for address in netlink.addresses(70000)} <= {70000}


def test_a_vlan_sub_interface_names_the_one_below(netns, netlink):
    ifindex = netns.veth()
    if not netns.can("ip link add lan0.7 link lan0 type vlan id 7"):
        pytest.skip("this kernel has no VLAN interfaces")
    assert netlink.link("lan0.7").vlan_parent == ifindex
    assert netlink.link("lan0").vlan_parent == 0


class Decoded(dict):
    """A message as pyroute2 decodes it, for interfaces that this kernel may lack."""

    def __init__(self, attributes: dict, nested: dict) -> None:
        super().__init__(index=9, flags=1, ifi_type=1, header={"length": 0})
        self.data, self.offset = b"", 0
        self.get_attr = attributes.get
        self.get_nested = lambda *path: nested.get(path)


@pytest.mark.parametrize(("elsewhere", "parent"), [(None, 3), (0, 0)])
def test_an_interface_below_in_another_namespace_has_no_index_here(elsewhere, parent):
    attributes = {"IFLA_IFNAME": "lan0.7", "IFLA_LINK": 3, "IFLA_LINK_NETNSID": elsewhere}
    message = Decoded(attributes, {("IFLA_LINKINFO", "IFLA_INFO_KIND"): "vlan"})
    assert read_link(message).vlan_parent == parent


def test_a_macvlan_or_veth_is_no_vlan(netns, netlink):
    netns.veth()
    netns.run("ip link add mac0 link lan0 type macvlan")
    assert {link.vlan_parent for link in netlink.interfaces()} == {0}


# ---- addresses --------------------------------------------------------------------------


def addresses_of_ip(netns, command: str) -> set:
    return {
        (
            link["ifindex"],
            FAMILIES[address["family"]],
            mapped(address["local"]),
            address["prefixlen"],
            SCOPES[address["scope"]],
            bool(address.get("secondary") or address.get("temporary")),
            bool(address.get("tentative")),
        )
        for link in netns.judge(command)
        for address in link["addr_info"]
    }


def test_addresses_are_those_of_ip_address(netns, netlink):
    # no address of the kernel's own: it would turn from tentative to good between the two listings
    set_sysctl("ipv6.conf.default.addr_gen_mode", 1)
    ifindex = netns.veth()
    for address in ("10.1.0.1/24", "10.1.0.2/24", "10.9.0.1 peer 10.9.0.2/32", "169.254.3.3/16 scope link"):
        netns.run(f"ip address add {address} dev lan0")
    netns.address("fd00::1/64", "lan0")
    # an interface that is down cannot end duplicate address detection, so the address stays tentative
    netns.run("ip link set lan0-peer down")
    netns.run("ip address add fd00::2/64 dev lan0-peer")

    assert {tuple(address) for address in netlink.addresses()} == addresses_of_ip(netns, "ip address show")
    own = {tuple(address) for address in netlink.addresses(ifindex)}
    assert own == addresses_of_ip(netns, "ip address show dev lan0")
    assert [address.secondary for address in netlink.addresses() if address.address == mapped("10.1.0.2")] == [True]
    assert [address.tentative for address in netlink.addresses() if address.address == mapped("fd00::2")] == [True]
    assert [address.scope for address in netlink.addresses() if address.address == mapped("127.0.0.1")] == [254]


def test_an_interface_without_addresses_has_none(netns, netlink):
    netns.run("ip link add br0 type bridge")
    assert netlink.addresses(netlink.link("br0").ifindex) == []


def test_long_listings_are_whole(netns, netlink):
    ifindex = netns.veth()
    netns.batch("ip", [f"link add ifb{number} type ifb" for number in range(220)])
    netns.batch("ip", [f"address add 10.2.{number // 200}.{number % 200 + 1}/24 dev lan0" for number in range(300)])
    netns.batch("ip", [f"address add fd01::{number:x}/128 dev lan0 nodad" for number in range(1, 301)])
    assert len(netlink.interfaces()) == len(netns.judge("ip link show")) == 223
    for command, found in (
        ("ip address show", netlink.addresses()),
        ("ip address show dev lan0", netlink.addresses(ifindex)),
    ):
        assert len(found) >= 600
        assert len(found) == len(addresses_of_ip(netns, command))
