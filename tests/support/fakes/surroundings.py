# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fake adapters that only read: settings, sockets and processes of a machine without faults."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import (
    ListeningSocket,
    SocketOwner,
)

LOOPBACK = parse_address("127.0.0.1")


class FakeSysctl:
    """As the settings of procfs, on a machine without faults."""

    def __init__(self):
        self.settings = {}

    def kernel_release(self):
        return "6.12.0-fake"

    def has_capability(self, _number):
        return True

    def interface_setting(self, interface, name):
        return self.settings.get((interface, name), 0)

    def packet_sockets(self, _ifindex):
        return []


class FakeSockets:
    """As sock_diag. The machine's `listeners` are the (protocol, port) of listening sockets on the loopback.

    Each has a cookie in `cookies`, or else one of its port. Those in `groups` are two sockets. `users` has
    the user of each, root without an entry.
    """

    def __init__(self, machine):
        self._machine = machine

    def listener_at(self, protocol, address, port):
        assert len(address) == 16
        return self._owner(protocol, port) if (protocol, port) in self._machine.listeners else None

    def listeners(self, protocol, port=0):
        ports = [each for kind, each in self._machine.listeners if kind == protocol and port in (0, each)]
        return [
            ListeningSocket(LOOPBACK, each, 0, False, True, owner.cookie + member, owner.user)
            for each in ports
            for owner in [self._owner(protocol, each)]
            for member in range(2 if (protocol, each) in self._machine.groups else 1)
        ]

    def _owner(self, protocol, port):
        key = protocol, port
        return SocketOwner(self._machine.cookies.get(key, 100 * port), self._machine.users.get(key, 0))

    def has_reuseport(self, inode):
        return False


class FakeProcesses:
    """As the processes of procfs.

    `ssh` is the SSH session of the calling process, None without one. `sockets` are the unix sockets that listen.
    `ssh_sockets` are the inodes of SSH daemons. `no_groups` are the groups that do not exist.
    `users` has the number of each user by name.
    """

    def __init__(self):
        self.ssh = None
        self.sockets = set()
        self.no_groups = set()
        self.users = {"proxy": 13}
        self.ssh_sockets = set()  # inodes; None: they cannot be read
        self.owner, self.parent = None, None  # of every socket, and of every process

    def owners_of(self, inodes):
        return {inode: self.owner for inode in inodes if self.owner}

    def sockets_of(self, names):
        return self.ssh_sockets

    def parent_of(self, pid):
        return self.parent

    def user_number(self, name):
        return self.users.get(name)

    def has_group(self, name):
        return name not in self.no_groups

    def ssh_connection(self, process="self"):
        return self.ssh

    def is_running(self, name):
        return False

    def listens(self, path):
        return path in self.sockets


class FakeConntrack:
    """As connection tracking. `originals` has the ends before a redirect, by the ends that the socket has."""

    def __init__(self):
        self.originals = {}

    def original_of(self, connection):
        return self.originals.get(connection)


class FakeWireGuard:
    """As WireGuard. `devices` has each device by its ifindex."""

    def __init__(self):
        self.devices = {}

    def device(self, ifindex):
        return self.devices.get(ifindex)


class FakeNftables:
    """As nftables. `chains` are the chains on the input hook."""

    def __init__(self):
        self.chains = []

    def input_chains(self):
        return self.chains


class FakeIpsec:
    """As IPsec. `policies` are those of inbound packets."""

    def __init__(self):
        self.policies = []

    def inbound_policies(self):
        return self.policies


class FakeNetworkd:
    """As the networkd part of procfs, without any setting."""

    PROCESS = "systemd-networkd"

    def keeps_foreign_rules(self, folders=()):
        return False


class FakeWords:
    """As mapped_array, on a bytearray."""

    def store(self, memory, begin, fresh, flips):
        self._store_in_order(memory, begin)
        for at, content in fresh:
            memory[4 * at : 4 * (at + len(content))] = content.tobytes()
        self._store_in_order(memory, flips)

    @staticmethod
    def _store_in_order(memory, stores):
        for at, value in stores:
            memory[4 * at : 4 * at + 4] = value.to_bytes(4, "little")
