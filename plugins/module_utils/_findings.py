# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Findings: what on this machine is, or will be, in the way. Each says how grave, what was found and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from ._doors import Doors, missing_rights

KERNEL_NEEDED = (5, 10)
KERNEL_REUSEPORT = (6, 6)


def findings(doors: Doors, pin_dir: str, attachments: list, routes: Mapping) -> list:
    """Return [{severity, interface, found, remedy}], errors first; interface None: the whole machine."""
    found = [*_machine(doors, pin_dir), *_hooks(doors, attachments), *_delivery(doors, attachments, routes)]
    return sorted(found, key=lambda finding: finding["severity"])


def _finding(severity: str, found: str, remedy: str, interface: str | None = None) -> dict:
    return {"severity": severity, "interface": interface, "found": found, "remedy": remedy}


def _machine(doors: Doors, pin_dir: str) -> list:
    found, release = [], doors.sysctl.kernel_release()
    version = _version(release)
    if version < KERNEL_NEEDED:
        found.append(_finding("error", f"kernel {release}", "the program needs Linux 5.10 or newer"))
    elif version < KERNEL_REUSEPORT:
        remedy = "run proxies without SO_REUSEPORT here, or Linux 6.6 and newer"
        found.append(_finding("note", f"kernel {release} cannot splice to SO_REUSEPORT sockets", remedy))
    for name in missing_rights(doors):
        found.append(_finding("error", f"{name} is missing", "run as root (become: true), or with that capability"))
    if not doors.bpffs.is_mounted(pin_dir):
        remedy = "nothing to do: tc_bpf_attach mounts one at /sys/fs/bpf"
        found.append(_finding("note", f"{pin_dir} lies in no bpffs yet", remedy))
    return found


def _version(release: str) -> tuple:
    numbers = release.split("-")[0].split(".")
    return tuple(int(number) for number in numbers[:2])


def _hooks(doors: Doors, attachments: list) -> list:
    found = []
    for entry in attachments:
        name = entry["interface"]
        if entry["drift"] == "no_filter":
            remedy = "run tc_bpf_attach again; until then the interface is unfiltered"
            found.append(_finding("error", f"{name} has a policy but no filter of ours", remedy, name))
        if entry["drift"] == "other_maps":
            remedy = "run tc_bpf_attach again: it loads the program on the maps that are pinned"
            found.append(_finding("error", f"the filter on {name} uses maps that are pinned no more", remedy, name))
        for other in entry["ahead"]:
            remedy = "let it pass packets with TC_ACT_UNSPEC (TCX: TCX_NEXT), or move it behind ours"
            found.append(_finding("warning", f"{other} on {name} runs before ours and may end the chain", remedy, name))
        if doors.sysctl.packet_sockets(entry["ifindex"]):
            remedy = "stop the program that opened it (often a DHCP client) or let it use ETH_P_ALL: see `ss -0p`"
            found.append(_finding("error", f"a packet socket for IPv4 on {name} defeats splicing", remedy, name))
    return found


def _delivery(doors: Doors, attachments: list, routes: Mapping) -> list:
    """Return what keeps spliced packets from the local stack."""
    routed, found = {key[2] for key in routes if key[0] == "rule"}, []
    for entry in attachments:
        name = entry["interface"]
        if name not in routed:
            remedy = f"run tproxy_route with interfaces={name}"
            found.append(_finding("warning", f"no policy route delivers what {name} splices", remedy, name))
        if doors.sysctl.interface_setting(name, "rp_filter") == 1:
            remedy = f"set net.ipv4.conf.{name}.rp_filter to 2 where paths are asymmetric"
            found.append(_finding("note", f"rp_filter of {name} is strict", remedy, name))
    return found
