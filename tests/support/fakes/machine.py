# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole fake machine for the operations: maps and pins of kernel.py, interfaces, filters, routes and a compiler.

The head of kernel.py describes its limits. The compiler turns any source into a program that uses
every map of the layout, and differs by its source. A source that contains `table` gets its own map, as BCC makes it.
"""

from __future__ import annotations

import base64
import errno
import json
import struct
import zlib

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused, MissingLibrary
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import (
    confused_rule,
    foreign_default_conflict,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import (
    ETH_P_ALL,
    Address,
    Filter,
    Link,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import System

from .kernel import Kernel, Killed
from .surroundings import (
    FakeConntrack,
    FakeIpsec,
    FakeNetworkd,
    FakeNftables,
    FakeProcesses,
    FakeSockets,
    FakeSysctl,
    FakeWireGuard,
    FakeWords,
)
from .system import (
    Adapter,
    FakeBackground,
    FakeBpf,
    FakeBpffs,
    FakeFiles,
    FakeJournal,
    FakeRequests,
    FakeServices,
    reads,
    writes,
)

INTERFACES = {"lo": 1, "lan0": 3, "lan1": 4}
ADDRESSES = {"lan0": ("10.1.0.1", "fe80::1"), "lan1": ("10.2.0.1",)}
TABLE_SLOT, TABLE_SHAPE = 5, (1, 4, 8, 64, 0)


class FakeNetlink(Adapter):
    """As client.Netlink."""

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        pass

    @reads
    def interfaces(self):
        return list(self.kernel.links.values())

    @reads
    def link(self, name):
        return self.kernel.links.get(name)

    @reads
    def addresses(self, ifindex=None):
        return [entry for entry in self.kernel.addresses if ifindex in (None, entry.ifindex)]

    @reads
    def filters(self, ifindex, direction):
        found = [
            Filter("bpf", priority, handle, ETH_P_ALL, 0, name, program.id, program.tag, True)
            for (priority, handle), (name, program) in self.kernel.filters.get((ifindex, direction), {}).items()
        ]
        return sorted(found + self.kernel.foreign_filters.get((ifindex, direction), []), key=lambda one: one[1:3])

    @reads
    def hook_qdisc(self, ifindex):
        return "clsact" if ifindex in self.kernel.clsact else self.kernel.qdiscs.get(ifindex, "")

    @reads
    def shared_block(self, ifindex, direction):
        return self.kernel.shared_blocks.get((ifindex, direction), 0)

    @writes
    def add_clsact(self, ifindex):
        added = ifindex not in self.kernel.clsact
        self.kernel.clsact.add(ifindex)
        return added

    @writes
    def delete_clsact(self, ifindex):
        was_there = ifindex in self.kernel.clsact
        self.kernel.clsact.discard(ifindex)
        for hook in [hook for hook in self.kernel.filters if hook[0] == ifindex]:
            del self.kernel.filters[hook]
        return was_there

    @writes
    def replace_filter(self, ifindex, direction, priority, handle, program_fd, name):
        if ifindex not in self.kernel.clsact and ifindex not in self.kernel.qdiscs:
            raise KernelRefused(errno.EINVAL, "attach", "filter without clsact")
        if (ifindex, direction) in self.kernel.shared_blocks:
            raise KernelRefused(errno.EOPNOTSUPP, "attach", "filter to a shared block")
        foreign = self.kernel.foreign_filters.get((ifindex, direction), [])
        if any((each.kind, each.protocol) != ("bpf", ETH_P_ALL) for each in foreign if each.priority == priority):
            raise KernelRefused(errno.EINVAL, "attach", "filter of another kind or protocol")
        foreign[:] = [each for each in foreign if (each.priority, each.handle) != (priority, handle)]
        slots = self.kernel.filters.setdefault((ifindex, direction), {})
        slots[(priority, handle)] = (name, self.kernel.get(program_fd))

    @writes
    def delete_filter(self, ifindex, direction, priority, handle):
        return self.kernel.filters.get((ifindex, direction), {}).pop((priority, handle), None) is not None

    @reads
    def rules(self, family):
        return [rule for rule in self.kernel.rules if rule.family == family]

    @writes
    def add_rule(self, rule):
        if rule in self.kernel.rules:
            return False
        if rule._replace(plain=False) in self.kernel.rules:
            raise confused_rule(rule)
        self.kernel.rules.append(rule)
        return True

    @writes
    def delete_rule(self, rule):
        if rule not in self.kernel.rules:
            return False
        if rule._replace(plain=False) in self.kernel.rules:
            raise confused_rule(rule)
        self.kernel.rules.remove(rule)
        return True

    @reads
    def route_to(self, destination, source, mark=0):
        return self.kernel.ways.get(destination)

    @reads
    def routes(self, table, family):
        return [route for route in self.kernel.routes if route.family == family]

    @reads
    def forwarding(self, ifindex):
        return self.kernel.forwarded.get(ifindex, [])

    @reads
    def local_default(self, table, family):
        return (table, family) in self.kernel.local_defaults

    @reads
    def foreign_default(self, table, family):
        return (table, family) in self.kernel.foreign_defaults

    @writes
    def add_local_default(self, table, family):
        if self.foreign_default(table, family):
            raise foreign_default_conflict(table)
        added = (table, family) not in self.kernel.local_defaults
        self.kernel.local_defaults.add((table, family))
        return added

    @writes
    def delete_local_default(self, table, family):
        was_there = (table, family) in self.kernel.local_defaults
        self.kernel.local_defaults.discard((table, family))
        return was_there


class FakeCompiler(Adapter):
    """As bcc.Compiler."""

    @reads
    def version(self):
        if not self.kernel.has_compiler:
            raise MissingLibrary("BCC's Python module", "install it")
        return "fake 1"

    @reads
    def compile(self, files, entry, function, defines, placeholders):
        text = json.dumps([files, entry, function, defines], sort_keys=True)
        maps = {TABLE_SLOT: ["table", list(TABLE_SHAPE)]} if "table" in files[entry] else placeholders
        loads = [struct.pack("=BBhiBBhi", 0x18, 0x11, 0, slot, 0, 0, 0, 0) for slot in sorted(maps)]
        code = b"".join(loads) + struct.pack("=BBhI", 0xB7, 0, 0, zlib.crc32(text.encode())) + b"\x95" + bytes(7)
        answer = {"instructions": base64.b64encode(code).decode(), "maps": maps, "compiler": self.version()}
        return json.loads(json.dumps(answer))


class FakeEvents(Adapter):
    """As monitor.Events. Each wait plays the next event of `to_come`. After the last one a wait ends the run."""

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        pass

    def wait(self, seconds):
        if seconds is not None and seconds < 1:
            return False
        if not self.kernel.to_come:
            if seconds is not None:
                raise Killed  # a caller that waits for a time would wait again
            return False
        event = self.kernel.to_come.pop(0)
        event()
        return event not in self.kernel.silent


class Machine(Kernel):
    """A router with two interfaces, and its state as other programs see it."""

    def __init__(self, has_tcx: bool = False):
        super().__init__()
        self.to_come: list = []
        self.silent: list = []  # events that the kernel does not announce
        self.has_tcx, self.tcx, self.revisions, self.qdiscs = has_tcx, {}, {}, {}
        self.links, self.addresses, self.has_compiler = {}, [], True
        self.clsact, self.filters, self.rules, self.local_defaults = set(), {}, [], set()
        self.foreign_filters, self.shared_blocks, self.foreign_defaults = {}, {}, set()
        self.sysctl, self.listeners, self.helper = FakeSysctl(), set(), None
        self.reached = ("connect", errno.ENOENT, -1)
        self.ways, self.routes, self.processes = {}, [], FakeProcesses()
        self.cookies, self.users, self.groups = {}, {}, set()
        self.units: set = set()
        self.starts: dict = {}
        self.forwarded, self.conntrack, self.wireguard, self.ipsec = {}, FakeConntrack(), FakeWireGuard(), FakeIpsec()
        self.nftables = FakeNftables()
        for name, ifindex in INTERFACES.items():
            self.plug(name, ifindex)

    def plug(self, name: str, ifindex: int, addresses: tuple | None = None) -> None:
        """Add an interface."""
        self.links[name] = Link(ifindex, name, True, 1, False, name == "lo", "", 0)
        for text in ADDRESSES.get(name, ()) if addresses is None else addresses:
            packed = parse_address(text)
            self.addresses.append(Address(ifindex, 2 if packed[:10] == bytes(10) else 10, packed, 24, 0, False, False))

    def unplug(self, name: str) -> None:
        """Remove an interface, with all that is bound to it."""
        ifindex = self.links.pop(name).ifindex
        self.addresses = [entry for entry in self.addresses if entry.ifindex != ifindex]
        self.tcx = {hook: chain for hook, chain in self.tcx.items() if hook[0] != ifindex}
        FakeNetlink(self).delete_clsact(ifindex)

    def reboot(self) -> None:
        """Lose all but the disk."""
        self.files, self.mounted, self.units, self.tcx = {}, True, set(), {}
        self.clsact, self.filters, self.rules, self.local_defaults = set(), {}, [], set()

    def replug(self) -> None:
        """Remove lan0, and make it anew."""
        self.unplug("lan0")
        self.plug("lan0", 9)

    def plug_later(self) -> None:
        """Add an interface that rules may have waited for."""
        self.plug("later0", 7, ("10.7.0.1",))

    def lose_filters(self) -> None:
        """Lose the objects that `tc qdisc del`, `bpftool net detach` and `ip rule flush` delete."""
        self.clsact, self.filters, self.rules = set(), {}, []
        for hook in list(self.tcx):
            self.set_tcx(*hook, [])

    def set_tcx(self, ifindex: int, direction: str, chain: list) -> None:
        """Change the TCX programs of a hook, which raises the revision of the list."""
        hook = ifindex, direction
        self.tcx[hook], self.revisions[hook] = chain, self.revisions.get(hook, 1) + 1

    def system(self) -> System:
        """Return the adapters of this machine."""
        return System(
            bpf=FakeBpf(self),
            bpffs=FakeBpffs(self),
            netlink=lambda: FakeNetlink(self),
            compiler=lambda: FakeCompiler(self),
            sysctl=self.sysctl,
            ifindex_of=lambda name: self.links[name].ifindex if name in self.links else None,
            sockets=FakeSockets(self),
            files=FakeFiles(self),
            events=lambda: FakeEvents(self),
            processes=self.processes,
            conntrack=self.conntrack,
            nftables=self.nftables,
            wireguard=self.wireguard,
            ipsec=self.ipsec,
            networkd=FakeNetworkd(),
            background=FakeBackground(self),
            journal=FakeJournal(self),
            words=FakeWords(),
            requests=FakeRequests(self),
            services=FakeServices(self),
        )

    def attached(self) -> list:
        """Return the programs that hooks hold."""
        filters = [program for slots in self.filters.values() for _name, program in slots.values()]
        return filters + [program for chain in self.tcx.values() for program in chain]

    def in_force(self) -> dict:
        """Return the state that packets meet: each program with the contents of its maps, and the routes to the proxy.

        Counters are left out, because a run may reset unused counters.
        """
        found = {}
        for hook, slots in self.filters.items():
            for slot, (name, program) in slots.items():
                found[hook + slot] = (name, program.tag, self._decisive(program.maps))
        for hook, chain in self.tcx.items():
            for place, program in enumerate(chain):
                found[(*hook, "tcx", place)] = (program.name, program.tag, self._decisive(program.maps))
        return {
            "filters": found,
            "clsact": set(self.clsact),
            "routes": (set(self.rules), set(self.local_defaults)),
        }

    @staticmethod
    def _decisive(maps: dict) -> dict:
        return {name: maps[name].bytes() for name in ("image", "policy", "ifindex_ip_map", "table") if name in maps}

    def everything(self) -> dict:
        """Return all there is, down to the numbers of pinned objects."""
        pins = {path: thing if isinstance(thing, str) else thing.id for path, thing in self.files.items()}
        maps = {path: thing.bytes() for path, thing in self.files.items() if hasattr(thing, "bytes")}
        return {
            **self.in_force(),
            "mounted": self.mounted,
            "pins": pins,
            "maps": maps,
            "disk": dict(self.disk),
            "units": set(self.units),
        }
