# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Findings: what on this machine is, or will be, in the way. Pure: `findings` judges facts, others gather them.

An error is refused before anything changes, unless the user forces it; a warning is told; a note is there to be read.
docs/reference/findings.md lists every code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import Refused
from ..model.policy import Mark
from ..model.prefix import ADDRESS_BITS, Prefix, format_number
from ..resources.routes import is_a_mark_route, is_ours
from .drift import DRIFT
from .facts import ETHERNET, Facts, Interface, Listener

SEVERITIES = ("error", "warning", "note")
KERNEL_NEEDED = (5, 10)
KERNEL_REUSEPORT = (6, 6)
KERNEL_TUNNELS = (5, 14)
LOOPBACK_HARDWARE = 772  # ARPHRD_: include/uapi/linux/if_arp.h
TUNNELS = (768, 769, 776, 778, 823)  # TUNNEL (ipip), TUNNEL6, SIT, IPGRE, IP6GRE
STRICT = 1  # rp_filter: Documentation/networking/ip-sysctl.rst
LOOPBACK = "lo"
LISTED = 5


def findings(facts: Facts) -> list:
    """Return [{severity, code, interface, found, remedy}], the gravest first; interface None: the whole machine."""
    judges = (_machine, _drift, _links, _hooks, _delivery, _marks, _networkd, _own_networks, _listeners)
    found = [finding for judge in judges for finding in judge(facts)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def objections(found: list) -> list:
    """Return the findings that are refused."""
    return [finding for finding in found if finding["severity"] == "error"]


def format_finding(finding: dict) -> str:
    """Return a finding as one sentence for a person."""
    return f"{finding['found']}: {finding['remedy']} [{finding['code']}]"


def enforce(found: list, force: bool) -> list:
    """Return the sentences that a module warns of. Raises Refused with every error at once, unless it is forced."""
    refused = objections(found)
    if refused and not force:
        raise Refused(found, [format_finding(each) for each in refused])
    return warnings_of(found)


def warnings_of(found: list) -> list:
    """Return the lines of those findings that a module warns of."""
    return [format_finding(finding) for finding in found if finding["severity"] != "note"]


def finding(severity: str, code: str, found: str, remedy: str, interface: str | None = None) -> dict:
    """Return one finding."""
    return {"severity": severity, "code": code, "interface": interface, "found": found, "remedy": remedy}


# ---- the machine --------------------------------------------------------------------


def _machine(facts: Facts) -> Iterator[dict]:
    version = kernel_version(facts.release)
    if version < KERNEL_NEEDED:
        remedy = "the program needs Linux 5.10 or newer"
        yield finding("error", "kernel_too_old", f"kernel {facts.release}", remedy)
    elif version < KERNEL_REUSEPORT:
        remedy = "run proxies without SO_REUSEPORT here, or Linux 6.6 and newer"
        found = f"kernel {facts.release} cannot splice to SO_REUSEPORT sockets"
        yield finding("note", "kernel_without_reuseport", found, remedy)
    for name in facts.missing_capabilities:
        remedy = "run as root (become: true), or with that capability"
        yield finding("error", "missing_capability", f"{name} is missing", remedy)
    if not facts.mounted:
        remedy = "nothing to do: tc_bpf_attach mounts one at /sys/fs/bpf"
        yield finding("note", "bpffs_not_mounted", f"{facts.pin_dir} lies in no bpffs yet", remedy)


def kernel_version(release: str) -> tuple:
    """Return (major, minor) of what `uname -r` says."""
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", release).groups()))


def _drift(facts: Facts) -> Iterator[dict]:
    for interface, word, who in facts.drift:
        about = DRIFT[word]
        found = about.found.format(interface=interface, who=who)
        yield finding(about.severity, word, found, about.remedy.format(interface=interface), interface)


# ---- the interface ------------------------------------------------------------------


def _links(facts: Facts) -> Iterator[dict]:
    for interface in facts.interfaces:
        name, hardware = interface.name, interface.hardware
        if not interface.layer3 and hardware not in (ETHERNET, LOOPBACK_HARDWARE):
            found = f"packets of {name} have a link header that the program cannot read (ARPHRD_ {hardware})"
            remedy = "attach it where packets have an Ethernet header or none; here all of them are malformed to it"
            yield finding("error", "link_header_unknown", found, remedy, name)
        if hardware in TUNNELS and kernel_version(facts.release) < KERNEL_TUNNELS:
            found = f"on kernel {facts.release} the hook of the tunnel {name} is shown the outer header for its own"
            remedy = "run Linux 5.14 and newer, or a tunnel that has no such header (tun, WireGuard)"
            yield finding("error", "tunnel_header", found, remedy, name)
        if interface.is_port:
            found = f"{name} is a port of a bridge, bond or VRF, by whose name its packets are routed: none is spliced"
            remedy = f"attach it there (`ip link show {name}` says where: master)"
            yield finding("warning", "port", found, remedy, name)


# ---- the hook -----------------------------------------------------------------------


def _hooks(facts: Facts) -> Iterator[dict]:
    for interface in facts.interfaces:
        name = interface.name
        if interface.packet_sockets:
            remedy = "stop the program that opened it (often a DHCP client) or let it use ETH_P_ALL: see `ss -0p`"
            found = f"a packet socket for IPv4 on {name} defeats splicing"
            yield finding("warning", "packet_socket", found, remedy, name)


# ---- the way to the local stack --------------------------------------------------------


def _delivery(facts: Facts) -> Iterator[dict]:
    looked_at = [(each.name, each.delivery) for each in facts.interfaces if each.delivery]
    for name, delivery in looked_at:
        if delivery.rp_filter == STRICT:
            remedy = f"set net.ipv4.conf.{name}.rp_filter and that of `all` to 0 or 2 where paths are asymmetric"
            found = f"rp_filter of {name} is strict (1): a packet whose way back is by another interface is dropped"
            yield finding("warning", "rp_filter_strict", found, remedy, name)
        martian = _martian_rule(facts, delivery.mark) if delivery.src_valid_mark == 1 else None
        if martian:
            found = (
                f"src_valid_mark of {name} is 1 and the policy rule at priority {martian.priority} takes our mark to a"
                " local table on the way back too: spliced packets are dropped as martians"
            )
            remedy = f"give that rule an `iif`, or set net.ipv4.conf.{name}.src_valid_mark and that of `all` to 0"
            yield finding("warning", "src_valid_mark", found, remedy, name)


def _martian_rule(facts: Facts, mark: Mark):
    """Return the IPv4 rule by which the reverse look-up of a spliced packet ends in a local table, or None.

    That look-up has the packet's mark and comes in by lo: net/ipv4/fib_frontend.c:__fib_validate_source.
    """
    for rule in facts.policy_rules:
        is_met = rule.iif in ("", LOOPBACK) and rule.plain and _takes(rule, mark)
        if is_met and (rule.table, rule.family) in facts.local_tables:
            return rule
    return None


def _takes(rule, mark: Mark) -> bool:
    """Whether a policy rule matches a packet that bears this mark and no other."""
    return bool(rule.mask) and bool(rule.mark) and mark.value & rule.mask == rule.mark


def _marks(facts: Facts) -> Iterator[dict]:
    """Tell of policy rules of others that our mark meets, or whose mark meets ours."""
    names = {each.name for each in facts.interfaces}
    for mark in dict.fromkeys(each.delivery.mark for each in facts.interfaces if each.delivery):
        for rule in dict.fromkeys(rule._replace(family=0, plain=True) for rule in facts.policy_rules):
            if is_ours(rule) or (rule.iif and rule.iif not in names):
                continue
            if _takes(rule, mark) or (rule.mask & mark.mask == mark.mask and rule.mark & mark.mask == mark.value):
                theirs = Mark(rule.mark, rule.mask)
                found = f"the policy rule at priority {rule.priority} goes by the mark {theirs}: it meets ours, {mark}"
                remedy = "choose another mark with tproxy_route (mark=), or let the other program use other bits"
                yield finding("warning", "mark_shared", found, remedy)


def _networkd(facts: Facts) -> Iterator[dict]:
    marks = [each.delivery.mark for each in facts.interfaces if each.delivery]
    if not facts.networkd_prunes:
        return
    for rule in facts.policy_rules:
        if is_a_mark_route(rule) and not is_ours(rule) and any(_takes(rule, mark) for mark in marks):
            found = (
                f"systemd-networkd deletes the policy rule at priority {rule.priority} of {rule.iif} when it restarts:"
                " it is not proto kernel, and ManageForeignRoutingPolicyRules is not off"
            )
            remedy = f"run tproxy_route with interfaces={rule.iif}, and delete the other rule"
            yield finding("warning", "networkd_prunes", found, remedy, rule.iif)


# ---- who would be cut off ----------------------------------------------------------------


def ssh_cut(interface: str, client: str, address: str, port: str, why: str) -> dict:
    """Return the finding that a new SSH connection of whoever runs this would not get to sshd."""
    remedy = f"add {{source: {client}, port: {port}}} to `management` of the policy of {interface}"
    found = f"a new SSH connection from {client} to {address} port {port} would not reach sshd by {interface} ({why})"
    return finding("error", "cuts_ssh", found, remedy, interface)


def management_cut(interface: str, entry: str, why: str) -> dict:
    """Return the finding that a management entry would not be let in."""
    remedy = "correct the program: management comes before everything else"
    found = f"{entry} of `management` would not be let in by {interface} ({why})"
    return finding("error", "cuts_management", found, remedy, interface)


# ---- rules ----------------------------------------------------------------------------


def _own_networks(facts: Facts) -> Iterator[dict]:
    for rule in facts.intercepts:
        for interface in facts.interfaces:
            name = interface.name
            if rule.interfaces and name not in rule.interfaces:
                continue
            exposed, covered = _own(rule.destination, interface)
            if exposed:
                found = f"{rule.identity} takes from this host what is sent to its own {exposed} on {name}"
                remedy = (
                    "record the addresses (ifindex_ip), name in `interfaces` only those that its clients come in by,"
                    " narrow it, or force it"
                )
                yield finding("error", "intercepts_own", found, remedy, name)
            elif covered:
                remedy = (
                    "what goes to addresses that ifindex_ip has recorded stays here; if more shall, name the clients'"
                    " interfaces"
                )
                yield finding("warning", "covers_own", f"{rule.identity} covers {covered} of {name}", remedy, name)


def _own(destination: Prefix, interface: Interface) -> tuple:
    """Return (the own address that a destination takes away, what of the interface's own it covers), in words or "".

    Whoever names the subnet, or what lies in it, means it. A wider prefix covers the subnet by the way, and one that
    covers everything is meant so.
    """
    within = [
        net for net in interface.networks if net.contains(destination.network) and net.length <= destination.length
    ]
    for address in filter(destination.contains, interface.exposed if within else ()):
        return f"address {format_number(address)}", ""
    if within and any(map(destination.contains, interface.addresses)):
        is_subnet = destination in interface.networks and destination.length < ADDRESS_BITS
        return "", f"the subnet {destination}" if is_subnet else "an own address"
    wider = [net for net in interface.networks if destination.bits and destination.contains(net.network)]
    return "", f"the subnet {wider[0]}" if wider and not within else ""


def _listeners(facts: Facts) -> Iterator[dict]:
    old = kernel_version(facts.release) < KERNEL_REUSEPORT
    gone = [each for each in facts.listeners if each.there is False]
    missing = [each for each in gone if len(each.rules) > each.routers]
    left_behind = [each for each in gone if each.routers]
    opaque = [each for each in facts.listeners if each.there and each.transparent is False]
    shared = [each for each in facts.listeners if old and each.there and each.shared]
    if missing:
        remedy = "start the proxy; until then `on_missing` of these rules decides"
        yield finding("note", "listener_missing", f"nobody listens on {_listed(missing)}", remedy)
    if left_behind:
        count = sum(each.routers for each in left_behind)
        found = f"rules of an OpenZiti router were left behind, {count} in all: nobody listens on"
        remedy = "remove them by `tproxy-splicer gc`; the helper, where it runs, does so when it is idle"
        yield finding("warning", "left_behind", f"{found} {_listed(left_behind)}", remedy)
    if opaque:
        remedy = "let the proxy set IP_TRANSPARENT (HAProxy `transparent`, Squid `tproxy`), or no client is answered"
        yield finding("warning", "listener_not_transparent", f"{_listed(opaque)} is not transparent", remedy)
    if shared:
        remedy = "run the proxy without SO_REUSEPORT, or Linux 6.6 and newer: this kernel refuses every splice to it"
        yield finding("warning", "listener_reuseport", f"{_listed(shared)} has SO_REUSEPORT", remedy)


def _listed(listeners: list[Listener]) -> str:
    shown = [f"{each.where} (rule {each.rules[0]})" for each in listeners[:LISTED]]
    more = len(listeners) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
