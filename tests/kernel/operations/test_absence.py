# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal leaves no trace: the whole machine is the same before the deployment and after the removal."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, eventually

LINKS = (LAN, "lan1")
RULE = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": 8443}
THEIRS = {**RULE, "ports": "80", "owner": "somebody"}
FILES = ("/etc/systemd", "/run/tproxy_splicer", "/var/lib/tproxy_splicer", "/usr/local/sbin", "/etc/sysctl.d")


def machine(router) -> dict:
    """Return all parts of the machine that the splicer could have changed, foreign parts included."""
    run = router.netns.run
    asked = [f"ip {way} {what}" for way in ("-4", "-6") for what in ("rule", "route show table all")]
    asked += [f"tc {what} dev {link}" for link in LINKS for what in ("qdisc show", "filter show")]
    asked += [f"tc filter show dev {LAN} {hook}" for hook in ("ingress", "egress")]
    found = {command: run(command) for command in asked}
    found["pins"] = sorted(str(path) for path in pathlib.Path(router.folder.path).rglob("*"))
    found["settings"] = settings()
    paths = [path for top in FILES for path in pathlib.Path(top).rglob("*") if path.suffix != ".lock"]  # these stay
    found["files"] = {str(path): path.stat().st_mtime_ns for path in paths}
    return found


def settings() -> dict:
    """Return every setting of the namespace that can be read."""
    found = {}
    for path in pathlib.Path("/proc/sys/net").rglob("*"):
        try:
            found[str(path)] = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
    return {name: value for name, value in found.items() if "random" not in name and "nf_conntrack_count" not in name}


def held(router) -> tuple:
    """Return the ids of the maps and programs that are pinned, and of those that they use."""
    programs, maps = set(), set()
    for path in router.pinned():
        if os.path.isdir(path):
            continue
        descriptor = bpf.open_pin(path)
        if bpf.is_map(descriptor):
            maps.add(bpf.map_info(descriptor).id)
        else:
            info = bpf.program_info(descriptor)
            programs.add(info.id)
            maps |= set(info.map_ids)
        os.close(descriptor)
    return programs, maps


def lives(opened, number: int) -> bool:
    try:
        os.close(opened(number))
    except KernelRefused:
        return False
    return True


@pytest.fixture
def crowded(bare_router):
    """Return a router on which other people have a rule, a route, a qdisc, a filter and a pin of their own."""
    router, netns = bare_router, bare_router.netns
    os.mkdir(f"{router.folder.path}/somebody")
    for number, link in enumerate(LINKS, 1):
        netns.veth(link, f"{link}-peer")
        for end in (link, f"{link}-peer"):
            netns.run(f"ip link set {end} addrgenmode none")
            netns.run(f"ip -6 address flush dev {end}")
        netns.run(f"ip address add 10.{number}.0.1/24 dev {link}")
    netns.run("ip rule add fwmark 0x7/0x7 lookup 1081 priority 900")
    netns.run("ip route add 203.0.113.0/24 dev lan1 table 1080")
    netns.run(f"tc qdisc add dev {LAN} clsact")
    netns.run(f"tc filter add dev {LAN} ingress prio 50 protocol ip u32 match ip dport 9 0xffff flowid 1:1")
    return router


def bring(router) -> None:
    """Run everything that changes something, for both interfaces."""
    router.rules(RULE, THEIRS)
    router.route(*LINKS)
    for link in LINKS:
        router.attach(link, policy={"default_action": "drop", "allow_echo": True})
    router.record()


def take_away(router) -> None:
    for link in LINKS:
        router.attach(link, state="absent")
    router.route(*LINKS, state="absent")


def test_nothing_is_left_and_nothing_of_anybody_elses_is_gone(crowded):
    before = machine(crowded)
    bring(crowded)
    programs, maps = held(crowded)
    assert machine(crowded) != before and programs and len(maps) >= 6
    take_away(crowded)
    after = machine(crowded)
    assert {name: after[name] for name in after if after[name] != before[name]} == {}
    eventually(lambda: not any(lives(bpf.program_by_id, number) for number in programs))
    eventually(lambda: not any(lives(bpf.map_by_id, number) for number in maps))
    assert OWN in crowded.netns.run(f"ip address show dev {LAN}")


def test_taking_away_twice_changes_nothing_more(crowded):
    before = machine(crowded)
    bring(crowded)
    take_away(crowded)
    for link in LINKS:
        assert not crowded.attach(link, state="absent")["changed"]
    assert not crowded.route(*LINKS, state="absent")["changed"]
    assert machine(crowded) == before


def test_what_drifted_goes_as_well(crowded):
    before = machine(crowded)
    bring(crowded)
    crowded.netns.run(f"tc filter delete dev {LAN} ingress prio 10")
    crowded.netns.run("ip -6 rule delete priority 1080")
    take_away(crowded)
    assert machine(crowded) == before
