# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who takes part in bench_live, and how each is set up on a stage. All say the same: UDP rules for single hosts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from namespace import command
from original import fill_original, fill_original_address
from ours import fill_image, fill_interface
from programs import UNCACHED, Bench
from rules import PROXY_IP, PROXY_PORT

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.sock_diag import listener_at

INTERFACE = "bench0"
PIN = "/sys/fs/bpf/bench_peer"
MARK = "0x10000000"


class Peer(NamedTuple):
    """`set_up(bench, blobs, slotted)` returns the descriptor of the program it attached, or None."""

    name: str
    splices: bool
    set_up: Callable
    rules_max: int = 1_000_000


def attach(program: int) -> int:
    """Attach a program to the ingress hook."""
    bpf.pin(program, PIN)
    try:
        command(f"tc qdisc add dev {INTERFACE} clsact")
        command(f"tc filter add dev {INTERFACE} ingress prio 10 handle 1 bpf direct-action object-pinned {PIN}")
    finally:
        os.unlink(PIN)
    return program


def attach_tcx(program: int) -> int:
    """Attach a program to the ingress hook by TCX."""
    bpf.attach_tcx(socket.if_nametoindex(INTERFACE), "ingress", program, 0)
    return program


def _nothing(_bench: Bench, _blobs: dict, _slotted: list) -> None:
    return None


def _empty(attach_program: Callable, function: str = "floor_empty") -> Callable:
    return lambda bench, blobs, _slotted: attach_program(bench.load(blobs[function]))


def _ours(attach_program: Callable, of_blob: object = "tproxy_splicer") -> Callable:
    def set_up(bench: Bench, blobs: dict, slotted: list) -> int:
        fill_image(bench, slotted)
        fill_interface(bench, socket.if_nametoindex(INTERFACE), INTERFACE)
        return attach_program(bench.load(blobs[of_blob]))

    return set_up


def _ours_with_listener(bench: Bench, blobs: dict, slotted: list) -> int:
    """Let each rule name its listener, as the rules of an OpenZiti router do."""
    found = listener_at("udp", parse_address(PROXY_IP), PROXY_PORT)
    return _ours(attach)(bench, blobs, [(rule._replace(listener=found.cookie), slot) for rule, slot in slotted])


def _original(bench: Bench, blobs: dict, slotted: list) -> int:
    fill_original(bench, slotted, answer_is_slot=False)
    fill_original_address(bench, socket.if_nametoindex(INTERFACE), INTERFACE)
    return attach(bench.load(blobs["original_splicer"]))


def _nftables(_bench: Bench, _blobs: dict, slotted: list) -> None:
    """One rule and a set of address and port interval, behind the packets of local sockets; the rest is dropped."""
    protocol = slotted[0].rule.protocol
    elements = ", ".join(f"{_host(rule)} . {_ports(rule, '-')}" for rule, _slot in slotted)
    command(
        "nft -f -",
        f"""table ip bench {{
            set intercepts {{ type ipv4_addr . inet_service; flags interval; elements = {{ {elements} }} }}
            chain judge {{
                meta l4proto {{ tcp, udp }} socket wildcard 0 meta mark set {MARK} accept
                ip daddr . {protocol} dport @intercepts meta mark set {MARK} tproxy to {PROXY_IP}:{PROXY_PORT} accept
                drop
            }}
            chain prerouting {{
                type filter hook prerouting priority mangle; policy accept;
                iifname {INTERFACE} jump judge
            }}
        }}""",
    )


def _iptables(kind: str) -> Callable:
    """One rule after the other; `kind` is nft or legacy, whichever the kernel has, and Debian has the tools of both."""

    def set_up(_bench: Bench, _blobs: dict, slotted: list) -> None:
        target = f"-j TPROXY --on-ip {PROXY_IP} --on-port {PROXY_PORT} --tproxy-mark {MARK}/{MARK}"
        lines = [f"-A PREROUTING -i {INTERFACE} -j BENCH"]
        lines += [f"-A BENCH -p {protocol} -m socket -j DIVERT" for protocol in ("tcp", "udp")]
        lines += [f"-A DIVERT -j MARK --set-mark {MARK}", "-A DIVERT -j ACCEPT"]
        lines += [
            f"-A BENCH -p {rule.protocol} -d {_host(rule)} --dport {_ports(rule, ':')} {target}"
            for rule, _slot in slotted
        ]
        rules = "\n".join([":BENCH - [0:0]", ":DIVERT - [0:0]", *lines, "-A BENCH -j DROP"])
        command(f"iptables-{kind}-restore", f"*mangle\n{rules}\nCOMMIT\n")

    return set_up


def _host(rule) -> str:
    return str(rule.destination).partition("/")[0]


def _ports(rule, between: str) -> str:
    return str(rule.low) if rule.low == rule.high else f"{rule.low}{between}{rule.high}"


NOTHING, EMPTY, OURS, OURS_OF_ROUTERS = "nothing attached", "empty program", "ours", "ours, rules name a listener"
KERNELS_OWN = (
    Peer("nftables set", True, _nftables),
    Peer("iptables-legacy", True, _iptables("legacy")),
    # Each rule is an nf_tables rule with two of xtables' modules in it: 20 us a packet at 1000 rules.
    Peer("iptables-nft", True, _iptables("nft"), 1000),
)
PEERS = (
    Peer(NOTHING, False, _nothing),
    Peer(EMPTY, False, _empty(attach)),
    Peer(OURS, True, _ours(attach)),
    Peer(OURS_OF_ROUTERS, True, _ours_with_listener),
    Peer("original", True, _original),
    *KERNELS_OWN,
)
SESSION_PEERS = (
    Peer(NOTHING, False, _nothing),
    Peer("empty program, clsact", False, _empty(attach)),
    Peer("empty program, TCX", False, _empty(attach_tcx)),
    Peer("ours, clsact", True, _ours(attach)),
    Peer("ours, TCX", True, _ours(attach_tcx)),
    Peer("ours without the session cache, clsact", True, _ours(attach, UNCACHED)),
    Peer("ours without the session cache, TCX", True, _ours(attach_tcx, UNCACHED)),
    Peer("original", True, _original),
    *KERNELS_OWN,
)
DROPPING_PEERS = (
    Peer("drop at once, clsact", True, _empty(attach, "floor_drop")),
    Peer("drop at once, TCX", True, _empty(attach_tcx, "floor_drop")),
)
