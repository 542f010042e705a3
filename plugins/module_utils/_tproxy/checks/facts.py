# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What a preflight check goes by: plain facts about this machine, with no judgement in them (that is `_findings`)."""

from __future__ import annotations

from typing import NamedTuple

from ..model.policy import Mark

ETHERNET = 1  # ARPHRD_ETHER: include/uapi/linux/if_arp.h


class Delivery(NamedTuple):
    """What decides whether spliced packets reach the local stack; a setting is None where the kernel lacks it.

    `mark` is the Mark of the interface's policy, or the one that it would get.
    """

    mark: Mark = Mark()
    rp_filter: int | None = 0
    src_valid_mark: int | None = 0


class Interface(NamedTuple):
    """An interface that is looked at.

    `hardware` is its ARPHRD_ number, `layer3` says that its packets begin with their IP header, and `is_port` that it
    belongs to a bridge, bond or VRF.
    `networks` are the Prefixes that are connected to it, `addresses` its own, as mapped numbers. `exposed` are those of
    them that the program does not keep for this host: it runs there, and they are not recorded. `delivery` is None when
    nobody asked.
    """

    name: str
    packet_sockets: int = 0
    networks: tuple = ()
    addresses: tuple = ()
    exposed: tuple = ()
    delivery: Delivery | None = None
    hardware: int = ETHERNET
    layer3: bool = False
    is_port: bool = False


class Listener(NamedTuple):
    """Where rules send flows to. What the kernel does not tell is None.

    `there` says whether anybody listens, `transparent` whether it has IP_TRANSPARENT, `shared` whether SO_REUSEPORT.
    `routers` is how many of `rules` belong to OpenZiti routers, which remove them before they stop to listen.
    """

    where: str
    rules: tuple
    there: bool | None = None
    transparent: bool | None = None
    shared: bool | None = None
    routers: int = 0


class Facts(NamedTuple):
    """One machine. What was not looked at is empty.

    `policy_rules` holds a RouteRule for each of the machine's, `local_tables` the (table, family) that deliver all to
    this host. `intercepts` are the Rules with action tproxy, `listeners` where they lead. `drift` is [(interface or
    None, word, who)].
    """

    release: str
    missing_capabilities: tuple = ()
    pin_dir: str = ""
    mounted: bool = True
    networkd_prunes: bool = False
    interfaces: tuple = ()
    policy_rules: tuple = ()
    local_tables: frozenset = frozenset()
    intercepts: tuple = ()
    listeners: tuple = ()
    drift: tuple = ()
