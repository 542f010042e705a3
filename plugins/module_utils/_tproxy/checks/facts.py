# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Facts about this machine. `collect` fills them in; `findings` compares them with the requirements."""

from __future__ import annotations

from typing import NamedTuple

from ..model.policy import Mark
from ..model.prefix import Prefix
from ..model.rule import Rule
from ..resources.attachments import Obstacle
from ..resources.in_force import Waiting
from ..system.netlink.messages import RouteRule
from ..system.netlink.path import InputChain

ETHERNET = 1  # ARPHRD_ETHER: include/uapi/linux/if_arp.h
NEARLY_FULL = 0.9  # of a table of flows


class Delivery(NamedTuple):
    """Settings that decide whether the kernel delivers spliced packets to the local stack.

    `mark` is the mark of the interface's policy, or the default mark. A setting is None if the kernel lacks it.
    """

    mark: Mark = Mark()
    rp_filter: int | None = 0
    src_valid_mark: int | None = 0


class Interface(NamedTuple):
    """Facts about one interface.

    `packet_sockets` counts the packet sockets for IPv4 on it. `networks` are the prefixes that are connected to it.
    `addresses` are its own addresses as mapped 128-bit numbers. `exposed` are those of them that a rule for one
    address takes, because the program runs there. `delivery` is None if it was not collected.
    `hardware` is its ARPHRD_ number. `layer3` means that its packets begin with their IP header. `is_port` means that
    it belongs to a bridge or bond, `vrf` that it is a VRF device or belongs to one. `untracked` is the reason why a
    closed interface can have no tracker. `takes_ssh` means that it is closed, and its policy has `allow_ssh`.
    """

    name: str
    packet_sockets: int = 0
    networks: tuple[Prefix, ...] = ()
    addresses: tuple[int, ...] = ()
    exposed: tuple[int, ...] = ()
    delivery: Delivery | None = None
    hardware: int = ETHERNET
    layer3: bool = False
    is_port: bool = False
    vrf: bool = False
    untracked: Obstacle | None = None
    takes_ssh: bool = False


class Listener(NamedTuple):
    """The proxy address of rules, and the socket that listens there. A value is None if the kernel does not report it.

    `rules` are the names of the rules, and `routers` counts those that belong to OpenZiti routers. A router removes its
    rules before it stops listening. `lost` counts the rules of routers that have lost their listener: no socket is
    there, or another one. `there` means that a socket listens, `transparent` that it has IP_TRANSPARENT, `shared` that
    it has SO_REUSEPORT. `strangers` has each pair (user of a socket, user that a rule names) of different users.
    """

    where: str
    rules: tuple[str, ...]
    there: bool | None = None
    transparent: bool | None = None
    shared: bool | None = None
    routers: int = 0
    lost: int = 0
    strangers: tuple[tuple[int, int], ...] = ()


class DriftFact(NamedTuple):
    """A code of drift.py about one interface, or about the whole machine if `interface` is None."""

    interface: str | None
    code: str
    detail: str


class Daemons(NamedTuple):
    """The saved state and the processes of this machine: whether they exist. None means that none is configured.

    `boots`: the unit that restores the saved state at boot is enabled. `watcher` and `helper` run, or are listened for.
    """

    saved: bool = True
    boots: bool | None = None
    watcher: bool | None = None
    helper: bool | None = None


class FlowTable(NamedTuple):
    """One table. `flows` counts those that have not expired: expired ones stay until another flow needs their place."""

    name: str
    flows: int
    size: int

    @property
    def is_nearly_full(self) -> bool:
        """Return whether live flows soon push each other out."""
        return self.flows >= NEARLY_FULL * self.size


class Facts(NamedTuple):
    """Facts about one machine. A member that was not collected is empty.

    `release` is that of the kernel. `foreign_parts` has a sentence for each part of the way to the pin folder that
    another user could replace. `policy_rules` holds every policy rule of the machine, `local_tables` each (table,
    address family) that delivers all packets to this host. `input_chains` are the chains of nftables that see them.
    `networkd_prunes` means that systemd-networkd deletes foreign policy rules. `intercepts` are the rules with action
    tproxy, `listeners` their proxy addresses. `attached` means that an interface has the program. `waiting` are the
    rules that are not in force yet. `flow_tables` are the tables of tracked flows. `unfound` are the proxy addresses
    that datagrams in fragments cannot reach, because the program for socket lookups is not attached.
    """

    release: str
    missing_capabilities: tuple[str, ...] = ()
    pin_dir: str = ""
    mounted: bool = True
    foreign_parts: tuple[str, ...] = ()
    networkd_prunes: bool = False
    interfaces: tuple[Interface, ...] = ()
    policy_rules: tuple[RouteRule, ...] = ()
    local_tables: frozenset[tuple[int, int]] = frozenset()
    input_chains: tuple[InputChain, ...] = ()
    intercepts: tuple[Rule, ...] = ()
    listeners: tuple[Listener, ...] = ()
    drift: tuple[DriftFact, ...] = ()
    attached: bool = False
    daemons: Daemons = Daemons()
    waiting: tuple[Waiting, ...] = ()
    flow_tables: tuple[FlowTable, ...] = ()
    unfound: tuple[str, ...] = ()
