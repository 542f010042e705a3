# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Findings: conditions on this machine that cause a fault, or will cause one. Pure: `collect` collects the facts.

A module refuses errors before it changes anything, unless the user sets `force`. It shows warnings, and no notes.
docs/reference/findings.md lists every code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypedDict

from ..constants import BOOT_UNIT, HELPER_SOCKET, HELPER_SOCKET_UNIT, WATCH_UNIT
from ..errors import Refused
from ..model.flow import Flow
from ..model.policy import Mark
from ..model.prefix import ADDRESS_BITS, Prefix, format_number
from ..resources.in_force import Waiting
from ..resources.routes import is_a_mark_route, is_ours
from ..system.netlink.messages import RouteRule
from .drift import DRIFT
from .facts import ETHERNET, Facts, Interface, Listener

SEVERITIES = ("error", "warning", "note")
KERNEL_NEEDED = (5, 10)
KERNEL_REUSEPORT = (6, 6)
KERNEL_TUNNELS = (5, 14)
LOOPBACK_HARDWARE = 772  # ARPHRD_: include/uapi/linux/if_arp.h
TUNNELS = (768, 769, 776, 778, 823)  # TUNNEL (ipip), TUNNEL6, SIT, IPGRE, IP6GRE
FULL = {
    "own": "look for a process of this router that asks many peers, or give the table more room (flow_tables)",
    "forwarded": "look for a host behind the router that scans, or give the table more room (flow_tables)",
    "outside": "narrow the rules that let these flows in, look for a flood, or give the table more room (flow_tables)",
}
STRICT = 1  # rp_filter: Documentation/networking/ip-sysctl.rst
LOOPBACK = "lo"
LISTED = 5


class Finding(TypedDict):
    """A finding as tproxy_info returns it. `interface` is None if it is about the whole machine."""

    severity: str
    code: str
    interface: str | None
    found: str
    remedy: str


def findings(facts: Facts) -> list[Finding]:
    """Return the findings for the facts, errors first."""
    checks = (
        _machine,
        _drift,
        _daemons,
        _links,
        _hooks,
        _trackers,
        _ssh,
        _delivery,
        _input_chains,
        _marks,
        _networkd,
        _own_networks,
        _waiting,
        _listeners,
        _unfound,
    )
    return by_severity(finding for check in checks for finding in check(facts))


def by_severity(found: Iterable[Finding]) -> list[Finding]:
    """Return the findings, errors first."""
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def objections(found: Iterable[Finding]) -> list[Finding]:
    """Return the findings that a module refuses."""
    return [finding for finding in found if finding["severity"] == "error"]


def format_finding(finding: Finding) -> str:
    """Return a finding as one sentence for the operator."""
    return f"{finding['found']}: {finding['remedy']} [{finding['code']}]"


def enforce(found: list[Finding], force: bool) -> list[str]:
    """Return the warnings of a module. Raise Refused with every error at once, unless `force` is set."""
    refused = objections(found)
    if refused and not force:
        raise Refused(found, [format_finding(each) for each in refused])
    return warnings_of(found)


def warnings_of(found: Iterable[Finding]) -> list[str]:
    """Return the sentences of all errors and warnings."""
    return [format_finding(finding) for finding in found if finding["severity"] != "note"]


def finding(severity: str, code: str, found: str, remedy: str, interface: str | None = None) -> Finding:
    """Return one finding."""
    return {"severity": severity, "code": code, "interface": interface, "found": found, "remedy": remedy}


# ---- the machine --------------------------------------------------------------------


def _machine(facts: Facts) -> Iterator[Finding]:
    version = kernel_version(facts.release)
    if version < KERNEL_NEEDED:
        remedy = "the program needs Linux 5.10 or newer"
        yield finding("error", "kernel_too_old", f"kernel {facts.release}", remedy)
    elif version < KERNEL_REUSEPORT:
        remedy = "run proxies without SO_REUSEPORT on this host, or use Linux 6.6 or newer"
        found = f"kernel {facts.release} cannot splice to SO_REUSEPORT sockets"
        yield finding("note", "kernel_without_reuseport", found, remedy)
    for name in facts.missing_capabilities:
        remedy = "run as root (become: true), or with that capability"
        yield finding("error", "missing_capability", f"{name} is missing", remedy)
    for sentence in facts.foreign_parts:
        found, _colon, remedy = sentence.partition(": ")
        yield finding("error", "pin_folder_foreign", found, remedy)
    if not facts.mounted:
        remedy = "nothing to do: tc_bpf_attach mounts a bpffs at /sys/fs/bpf"
        yield finding("note", "bpffs_not_mounted", f"{facts.pin_dir} is not in a bpffs yet", remedy)


def kernel_version(release: str) -> tuple[int, int]:
    """Return (major, minor) of a release as `uname -r` prints it. Raise ValueError."""
    major, minor, *_rest = re.split(r"\D", release, maxsplit=2)
    return int(major), int(minor)


def _drift(facts: Facts) -> Iterator[Finding]:
    for interface, code, detail in facts.drift:
        about = DRIFT[code]
        found = about.found.format(interface=interface, detail=detail)
        yield finding(about.severity, code, found, about.remedy.format(interface=interface), interface)


def _daemons(facts: Facts) -> Iterator[Finding]:
    daemons = facts.daemons
    if facts.attached and not (daemons.saved and daemons.boots is not False):
        found = "the state is not saved" if not daemons.saved else f"{BOOT_UNIT} is not enabled"
        remedy = f"set tproxy_splicer_persist: true in the role, or run tproxy_state and enable {BOOT_UNIT}"
        yield finding("warning", "not_persistent", f"{found}, so the next boot opens the router", remedy)
    if daemons.saved and daemons.watcher is False:
        found = "no watcher runs: a filter or an interface that is lost is not restored"
        remedy = f"see `journalctl -u {WATCH_UNIT}`, then `systemctl restart {WATCH_UNIT}`"
        yield finding("warning", "watcher_missing", found, remedy)
    if daemons.helper is False:
        found = f"no process listens at {HELPER_SOCKET}: calls of routers without the rights of root are refused"
        remedy = f"see `journalctl -u {HELPER_SOCKET_UNIT}`, then `systemctl restart {HELPER_SOCKET_UNIT}`"
        yield finding("warning", "helper_missing", found, remedy)


# ---- the interface ------------------------------------------------------------------


def _links(facts: Facts) -> Iterator[Finding]:
    for interface in facts.interfaces:
        name, hardware = interface.name, interface.hardware
        if not interface.layer3 and hardware not in (ETHERNET, LOOPBACK_HARDWARE):
            found = f"packets of {name} have a link header that the program cannot read (ARPHRD_ {hardware})"
            remedy = "attach it to an interface with an Ethernet header or none; it would drop all these as malformed"
            yield finding("error", "link_header_unknown", found, remedy, name)
        if hardware in TUNNELS and kernel_version(facts.release) < KERNEL_TUNNELS:
            found = f"on kernel {facts.release} the hook of the tunnel {name} gets the outer header of each packet"
            remedy = "use Linux 5.14 or newer, or a tunnel without such a header (tun, WireGuard)"
            yield finding("error", "tunnel_header", found, remedy, name)
        if interface.is_port:
            found = (
                f"{name} is a port of a bridge or bond. The kernel routes its packets as those of that device: none is"
                " spliced"
            )
            remedy = f"attach the program to that device (`ip link show {name}` shows it as master)"
            yield finding("warning", "port", found, remedy, name)
        if interface.vrf:
            yield vrf_unsupported(name)


def vrf_unsupported(interface: str) -> Finding:
    """Return the finding about a VRF device, and about an interface that belongs to one."""
    found = (
        f"{interface} is a VRF device or belongs to one. The hook of the device gets no packets, and the answers of a"
        " proxy do not find the VRF"
    )
    remedy = "a VRF is not supported: use interfaces outside of VRFs, or filter on another router"
    return finding("error", "vrf", found, remedy, interface)


# ---- the hook -----------------------------------------------------------------------


def _hooks(facts: Facts) -> Iterator[Finding]:
    for interface in facts.interfaces:
        name = interface.name
        if interface.packet_sockets:
            remedy = (
                "let the watcher run, which attaches a program for socket lookups (Linux 5.17), or stop the program"
                " that opened the socket (often a DHCP client): see `ss -0p`"
            )
            found = f"a packet socket for IPv4 on {name} prevents splicing"
            yield finding("warning", "packet_socket", found, remedy, name)


def _trackers(facts: Facts) -> Iterator[Finding]:
    for interface in facts.interfaces:
        if interface.untracked is not None:
            found = (
                f"{interface.name} does not track flows, and {interface.untracked.found}: answers to the router's own"
                " NTP and DNS get the default action"
            )
            remedy = f"{interface.untracked.remedy}; then attach again, or let these answers in by rules"
            yield finding("warning", "untracked", found, remedy, interface.name)
    for table in facts.flow_tables:
        if table.is_nearly_full:
            found = f"the table of tracked flows `{table.name}` has {table.flows} of {table.size} flows"
            remedy = f"a further flow pushes out the one that was not used for the longest time; {FULL[table.name]}"
            yield finding("warning", "flows_nearly_full", found, remedy)


def _ssh(facts: Facts) -> Iterator[Finding]:
    for interface in facts.interfaces:
        if interface.takes_ssh:
            found = f"{interface.name} is closed, and lets SSH (TCP port 22) to this router in from any source"
            remedy = "add the networks of your operators to `management` of its policy, then set allow_ssh: false"
            yield finding("note", "ssh_from_anywhere", found, remedy, interface.name)


# ---- delivery to the local stack -------------------------------------------------------


def _delivery(facts: Facts) -> Iterator[Finding]:
    looked_at = [(each.name, each.delivery) for each in facts.interfaces if each.delivery]
    for name, delivery in looked_at:
        if delivery.rp_filter == STRICT:
            remedy = f"if paths are asymmetric, set rp_filter of {name} and of `all` (net.ipv4.conf) to 0 or 2"
            found = f"rp_filter of {name} is strict (1): the kernel drops a packet if its answer uses another interface"
            yield finding("warning", "rp_filter_strict", found, remedy, name)
        martian = _martian_rule(facts, delivery.mark) if delivery.src_valid_mark == 1 else None
        if martian:
            found = (
                f"src_valid_mark of {name} is 1, and the policy rule at priority {martian.priority} leads our mark to a"
                " local table in the reverse lookup too: the kernel drops spliced packets as martians"
            )
            remedy = f"add an `iif` to that rule, or set src_valid_mark of {name} and of `all` (net.ipv4.conf) to 0"
            yield finding("warning", "src_valid_mark", found, remedy, name)


def _martian_rule(facts: Facts, mark: Mark) -> RouteRule | None:
    """Return the IPv4 rule that leads the reverse lookup of a spliced packet to a local table, or None.

    That lookup has the mark of the packet and lo as its interface: net/ipv4/fib_frontend.c:__fib_validate_source.
    """
    for rule in facts.policy_rules:
        matches = rule.iif in ("", LOOPBACK) and rule.plain and _matches(rule, mark)
        if matches and (rule.table, rule.family) in facts.local_tables:
            return rule
    return None


def _matches(rule: RouteRule, mark: Mark) -> bool:
    """Return whether a policy rule matches a packet that has this mark and no other bits."""
    return bool(rule.mask) and bool(rule.mark) and mark.value & rule.mask == rule.mark


def _input_chains(facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each chain that drops packets to this host and knows nothing of spliced ones."""
    marks = [each.delivery.mark for each in facts.interfaces if each.delivery]
    for chain in facts.input_chains if marks else ():
        if chain.drops and not chain.reads_marks:
            mark = marks[0]
            found = (
                f"the nftables chain {chain} drops by default, and no rule of its table reads the mark: it can drop"
                " spliced packets before the proxy gets them"
            )
            remedy = f"nft insert rule {chain} meta mark and {mark.mask:#x} == {mark.value:#x} accept"
            yield finding("warning", "input_drops", found, remedy)


def _marks(facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each foreign policy rule that matches our mark, or that sets bits of it."""
    names = {each.name for each in facts.interfaces}
    for mark in dict.fromkeys(each.delivery.mark for each in facts.interfaces if each.delivery):
        for rule in dict.fromkeys(rule._replace(family=0, plain=True) for rule in facts.policy_rules):
            if is_ours(rule) or (rule.iif and rule.iif not in names):
                continue
            if _matches(rule, mark) or (rule.mask & mark.mask == mark.mask and rule.mark & mark.mask == mark.value):
                theirs = Mark(rule.mark, rule.mask)
                found = f"the policy rule at priority {rule.priority} has the mark {theirs}, which overlaps our {mark}"
                remedy = "set another mark with tproxy_route (mark=), or make the other program use other bits"
                yield finding("warning", "mark_shared", found, remedy)


def _networkd(facts: Facts) -> Iterator[Finding]:
    marks = [each.delivery.mark for each in facts.interfaces if each.delivery]
    if not facts.networkd_prunes:
        return
    for rule in facts.policy_rules:
        if is_a_mark_route(rule) and not is_ours(rule) and any(_matches(rule, mark) for mark in marks):
            found = (
                f"systemd-networkd deletes the policy rule at priority {rule.priority} of {rule.iif} when it restarts:"
                " the rule is not proto kernel, and ManageForeignRoutingPolicyRules is not off"
            )
            remedy = f"run tproxy_route with interfaces={rule.iif}, and delete the other rule"
            yield finding("warning", "networkd_prunes", found, remedy, rule.iif)


# ---- connections that would be cut off ----------------------------------------------------


def ssh_cut(interface: str, flow: Flow, carries: str, why: str) -> Finding:
    """Return the finding that a packet of the operator's SSH would not pass. `carries` is the tunnel that it is of."""
    client, address = format_number(flow.source), format_number(flow.destination)
    port = f" port {flow.port}" if flow.port else ""
    if carries:
        found = f"{interface} would not pass {flow.protocol} from {client} to {address}{port} ({why})"
        found += f", the outer packets of {carries}, by which the SSH session of this run comes"
    else:
        found = f"a new SSH connection from {client} to {address}{port} would not reach sshd by {interface} ({why})"
    protocol = "" if flow.protocol == "tcp" else f", protocol: {flow.protocol}"
    entry = f"{{source: {client}{protocol}" + (f", port: {flow.port}}}" if flow.port else "}")
    remedy = f"add {entry} to `management` of the policy of {interface}"
    remedy += f"; if {address} is on lo, record it there (ifindex_ip, interfaces=lo, addresses={address})"
    return finding("error", "cuts_ssh", found, remedy, interface)


def path_unknown(interface: str, tunnel: str, kind: str) -> Finding:
    """Return the finding that the outer packets of the operator's SSH are not known."""
    found = (
        f"the SSH session of this run comes by {tunnel} ({kind}), and the outer packets of that tunnel are not known"
    )
    remedy = (
        f"if they arrive by {interface}, add them to `management` of its policy; if the change cuts them off, the"
        " router undoes it, unless `confirm_timeout` is 0"
    )
    return finding("warning", "path_unknown", found, remedy, interface)


def management_cut(interface: str, entry: str, why: str) -> Finding:
    """Return the finding that the program would not pass a management entry."""
    remedy = "correct the program: it must check management entries first"
    found = f"{interface} would not pass {entry} of `management` ({why})"
    return finding("error", "cuts_management", found, remedy, interface)


# ---- rules ----------------------------------------------------------------------------


def _own_networks(facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each rule that takes an own address, and one for all rules that only cover own ranges."""
    covers: list[tuple[str, str]] = []
    for rule in facts.intercepts:
        for interface in facts.interfaces:
            name = interface.name
            if rule.interfaces and name not in rule.interfaces:
                continue
            exposed, covered = _overlap(rule.destination, interface)
            if exposed:
                found = f"{rule.identity} would give packets to the own {exposed} of {name} to the proxy"
                remedy = (
                    "give the service another address, list only the interfaces of the clients in `interfaces`,"
                    " or set `force`"
                )
                yield finding("error", "intercepts_own", found, remedy, name)
            elif covered:
                covers.append((f"{rule.identity} covers {covered} of {name}", name))
    if covers:
        yield _covers_own(covers)


def _covers_own(covers: Sequence[tuple[str, str]]) -> Finding:
    """Return the finding about rules that cover own ranges, each with its sentence and its interface."""
    sentences, names = [sentence for sentence, _name in covers], {name for _sentence, name in covers}
    found = sentences[0] if len(covers) == 1 else f"{len(covers)} overlaps with own subnets: {listed(sentences, '; ')}"
    remedy = (
        "packets to the addresses of this host stay here; to keep those to the rest of the subnet, list only the"
        " interfaces of the clients in `interfaces`"
    )
    return finding("warning", "covers_own", found, remedy, names.pop() if len(names) == 1 else None)


class _Overlap(NamedTuple):
    """The own address that a destination takes from this host, and the own range that it covers. Each may be ""."""

    exposed: str
    covered: str


def _overlap(destination: Prefix, interface: Interface) -> _Overlap:
    """Return the overlap of a destination with the addresses and subnets of an interface.

    A rule for one address takes an own address. A wider prefix only covers the subnet. A rule for all destinations is
    intended to cover it, so there is no overlap.
    """
    within = [
        net for net in interface.networks if net.contains(destination.network) and net.length <= destination.length
    ]
    if destination.length == ADDRESS_BITS and destination.network in interface.exposed:
        return _Overlap(f"address {format_number(destination.network)}", "")
    if within and any(map(destination.contains, interface.addresses)):
        is_subnet = destination in interface.networks and destination.length < ADDRESS_BITS
        return _Overlap("", f"the subnet {destination}" if is_subnet else "an own address")
    wider = [net for net in interface.networks if destination.bits and destination.contains(net.network)]
    return _Overlap("", f"the subnet {wider[0]}" if wider and not within else "")


def _waiting(facts: Facts) -> Iterator[Finding]:
    for waiting in facts.waiting:
        yield not_in_force(waiting)


def not_in_force(waiting: Waiting) -> Finding:
    """Return the finding about rules that no packet meets."""
    names, name = waiting.rules, waiting.interface
    word, verb = ("rule", "is") if len(names) == 1 else ("rules", "are")
    found = f"{word} {listed(names)} {verb} stored, not in force until {name or 'an interface'} has the program"
    remedy = f"run tc_bpf_attach for {name}" if name else "run tc_bpf_attach, or tproxy_router with its interfaces"
    return finding("warning", "rule_not_in_force", found, remedy, name)


def _unfound(facts: Facts) -> Iterator[Finding]:
    if facts.unfound:
        found = f"datagrams in fragments for {listed(facts.unfound)} are dropped: no program looks for their socket"
        remedy = f"start {WATCH_UNIT}, which needs Linux 5.17 for it; if it runs, its journal has the reason"
        yield finding("warning", "fragments_not_spliced", found, remedy)


def _listeners(facts: Facts) -> Iterator[Finding]:
    old = kernel_version(facts.release) < KERNEL_REUSEPORT
    gone = [each for each in facts.listeners if each.there is False]
    missing = [each for each in gone if len(each.rules) > each.routers]
    left_behind = [each for each in facts.listeners if each.lost]
    opaque = [each for each in facts.listeners if each.there and each.transparent is False]
    shared = [each for each in facts.listeners if old and each.there and each.shared]
    strangers = [
        f"{_listed([each])} is of user {user} and gets no packets: its rule names user {named}"
        for each in facts.listeners
        for user, named in each.strangers
    ]
    if missing:
        remedy = "start the proxy; until then `on_missing` of these rules applies"
        yield finding("note", "listener_missing", f"no socket listens on {_listed(missing)}", remedy)
    if left_behind:
        count = sum(each.lost for each in left_behind)
        found = (
            f"an OpenZiti router left rules behind, {count} in all: their listeners are gone from"
            f" {_listed(left_behind)}"
        )
        remedy = "remove them with `tproxy-splicer gc`; the helper does so when it is idle"
        yield finding("warning", "left_behind", found, remedy)
    if opaque:
        remedy = "make the proxy set IP_TRANSPARENT (HAProxy `transparent`, Squid `tproxy`): clients get no answer"
        yield finding("warning", "listener_not_transparent", f"{_listed(opaque)} is not transparent", remedy)
    if strangers:
        remedy = "start the proxy as that user; if root or a socket unit opens its socket, set tproxy_user to 0"
        yield finding("warning", "listener_of_another_user", listed(strangers), remedy)
    if shared:
        remedy = "run the proxy without SO_REUSEPORT, or use Linux 6.6 or newer: this kernel refuses to splice to it"
        yield finding("warning", "listener_reuseport", f"{_listed(shared)} has SO_REUSEPORT", remedy)


def _listed(listeners: Sequence[Listener]) -> str:
    return listed([f"{each.where} (rule {each.rules[0]})" for each in listeners])


def listed(texts: Sequence[str], separator: str = ", ") -> str:
    """Return the first texts in one, and the number of the others."""
    more = len(texts) - LISTED
    return separator.join(texts[:LISTED]) + (f" and {more} more" if more > 0 else "")
