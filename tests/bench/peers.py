# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who takes part in the live bench, and how each is set up. All say the same: rules for single hosts, else drop.

The peers do the same job: they let packets of local sockets through, mark them, and drop packets that no rule names.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from namespace import command
from original import fill_original, fill_original_address
from ours import fill_image, fill_interface
from programs import UNCACHED, Bench
from rows import DROP, NOTHING, SET_UP, SPLICED_UDP, Row
from rules import PROXY_IPS, PROXY_PORT

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.sock_diag import listener_at

PIN = "/sys/fs/bpf/bench_peer"
MARK = "0x10000000"
RULES_OF_ALL = 1_000_000


class Site(NamedTuple):
    """Where a peer is set up; the thread is in the namespace of the interface."""

    bench: Bench
    blobs: dict
    slotted: list
    row: Row
    family: int
    interface: str


class Peer(NamedTuple):
    """`set_up(site)` returns the descriptor of the program it attached, or None."""

    name: str
    splices: bool
    set_up: Callable
    rules_max: int = RULES_OF_ALL


def attach_clsact(program: int, interface: str, direction: str) -> int:
    """Attach a program to a hook of clsact."""
    bpf.pin(program, PIN)
    try:
        command(f"tc qdisc replace dev {interface} clsact")
        command(f"tc filter add dev {interface} {direction} prio 10 handle 1 bpf direct-action object-pinned {PIN}")
    finally:
        os.unlink(PIN)
    return program


def attach_tcx(program: int, interface: str, direction: str) -> int:
    """Attach a program to a hook by TCX."""
    bpf.attach_tcx(socket.if_nametoindex(interface), direction, program, 0)
    return program


HOOKS = {"clsact": attach_clsact, "TCX": attach_tcx}


def peers_of(row: Row, family: int, short: bool = False) -> tuple:
    """Return the peers that can do the job of a row."""
    names = {"ours": "tproxy_tracker" if row.egress else "tproxy_splicer"}
    floors = {"drop at once": "floor_drop"} if row.receiver == "none" else {"empty program": "floor_empty"}
    if row.protocol == "tcp" and row != SET_UP and not short:
        names["ours, no cache"] = UNCACHED
    found = [] if row.base == DROP else [Peer(NOTHING, False, _nothing)]
    # The base of the rows that drop is the last of the floors.
    found += [
        Peer(f"{name}, {hook}", row.receiver == "none", _alone(hook, blob))
        for name, blob in floors.items()
        for hook in HOOKS
    ]
    found += [Peer(f"{name}, {hook}", True, _ours(hook, blob)) for name, blob in names.items() for hook in HOOKS]
    if row == SPLICED_UDP:
        found.append(Peer("ours, named listener, clsact", True, _ours_of_routers))
    if not row.egress:
        # It knows IPv4 alone, and no rule that lets packets pass.
        found += [Peer("original", True, _original)] if row.action == "tproxy" and family == 4 else []
        # Each rule of iptables-nft is an nf_tables rule with two modules of xtables: 20 us a packet at 1,000 rules.
        found += [
            Peer("nftables set", True, _nftables),
            Peer("iptables-legacy", True, _iptables("legacy")),
            *([] if short else [Peer("iptables-nft", True, _iptables("nft"), 1000)]),
        ]
    return tuple(found)


# ---- programs ----------------------------------------------------------------------------


def _nothing(_site: Site) -> None:
    return None


def _alone(hook: str, function: str) -> Callable:
    """Attach a program without maps."""

    def set_up(site: Site) -> int:
        direction = "egress" if site.row.egress else "ingress"
        return HOOKS[hook](site.bench.load(site.blobs[function]), site.interface, direction)

    return set_up


def _ours(hook: str, blob: object) -> Callable:
    def set_up(site: Site) -> int:
        fill_image(site.bench, site.slotted)
        fill_interface(site.bench, socket.if_nametoindex(site.interface), site.interface, site.row.track)
        if site.row.track == "own":
            # It records the flows whose answers the row plays.
            HOOKS[hook](site.bench.load(site.blobs["tproxy_tracker"]), site.interface, "egress")
        return _alone(hook, blob)(site)

    return set_up


def _ours_of_routers(site: Site) -> int:
    """Let each rule name its listener, as the rules of an OpenZiti router do."""
    found = listener_at("udp", parse_address(PROXY_IPS[site.family]), PROXY_PORT)
    named = [(rule._replace(listener=found.cookie), slot) for rule, slot in site.slotted]
    return _ours("clsact", "tproxy_splicer")(site._replace(slotted=named))


def _original(site: Site) -> int:
    fill_original(site.bench, site.slotted, answer_is_slot=False)
    fill_original_address(site.bench, socket.if_nametoindex(site.interface), site.interface)
    return attach_clsact(site.bench.load(site.blobs["original_splicer"]), site.interface, "ingress")


# ---- the kernel's own firewalls ----------------------------------------------------------


def _nftables(site: Site) -> None:
    """One rule and a set of address and port interval, behind the packets of local sockets; the rest is dropped."""
    table, addresses = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}[site.family]
    protocol = site.row.protocol
    elements = ", ".join(f"{_host(rule)} . {_ports(rule, '-')}" for rule, _slot in site.slotted)
    splice = f"meta mark set {MARK} tproxy to {_proxy(site.family)}"
    command(
        "nft -f -",
        f"""table {table} bench {{
            set intercepts {{ type {addresses} . inet_service; flags interval; elements = {{ {elements} }} }}
            chain judge {{
                meta l4proto {{ tcp, udp }} socket wildcard 0 meta mark set {MARK} accept
                {table} daddr . {protocol} dport @intercepts {splice if site.row.action == "tproxy" else ""} accept
                drop
            }}
            chain prerouting {{
                type filter hook prerouting priority mangle; policy accept;
                iifname {site.interface} jump judge
            }}
        }}""",
    )


def _iptables(kind: str) -> Callable:
    """One rule after the other; `kind` is nft or legacy, whichever the kernel has, and Debian has the tools of both."""

    def set_up(site: Site) -> None:
        tool = {4: "iptables", 6: "ip6tables"}[site.family]
        target = "ACCEPT"
        if site.row.action == "tproxy":
            proxy = f"--on-ip {PROXY_IPS[site.family]} --on-port {PROXY_PORT}"
            target = f"TPROXY {proxy} --tproxy-mark {MARK}/{MARK}"
        lines = [f"-A PREROUTING -i {site.interface} -j BENCH"]
        lines += [f"-A BENCH -p {protocol} -m socket -j DIVERT" for protocol in ("tcp", "udp")]
        lines += [f"-A DIVERT -j MARK --set-mark {MARK}", "-A DIVERT -j ACCEPT"]
        lines += [
            f"-A BENCH -p {rule.protocol} -d {_host(rule)} --dport {_ports(rule, ':')} -j {target}"
            for rule, _slot in site.slotted
        ]
        rules = "\n".join([":BENCH - [0:0]", ":DIVERT - [0:0]", *lines, "-A BENCH -j DROP"])
        command(f"{tool}-{kind}-restore", f"*mangle\n{rules}\nCOMMIT\n")

    return set_up


def _proxy(family: int) -> str:
    return f"{PROXY_IPS[4]}:{PROXY_PORT}" if family == 4 else f"[{PROXY_IPS[6]}]:{PROXY_PORT}"


def _host(rule) -> str:
    return str(rule.destination).partition("/")[0]


def _ports(rule, between: str) -> str:
    return str(rule.low) if rule.low == rule.high else f"{rule.low}{between}{rule.high}"
