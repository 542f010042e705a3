# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start-up storm of an OpenZiti router: a diverter's call for each rule, serially, one process per call.

Services have addresses one after the other out of 100.64.0.0/10, as OpenZiti hands them out; each hundredth is a
network of its own. After the storm the rules in force are compared with the rules of the calls, by the rules that the
image carries and by lookups. A packet of every hundredth rule is judged by the program in the kernel.

The sockets that a router listens on are open in a process of their own: a process with thousands of them starts others
more slowly, which is a property of the router. The rest of this cost is printed as "nothing": /bin/true, called
in the same way.

iptables gets the same rules, one process per call. Its cost grows with each rule, so its whole storm is not run: the
table is filled by iptables-restore, and at each size a few calls are timed.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import multiprocessing
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.listeners import Listeners
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import parse
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import attach
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import rule_table
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.support.options import options

CHECKOUT = Path(__file__).resolve().parents[2]
DIVERTER = str(CHECKOUT / ".work/dist/tproxy-splicer")
BLOB = CHECKOUT / "roles/tproxy_splicer/files/tproxy_splicer.json"
SOCKET = "/run/netns/helper.sock"  # in_private_ns mounts a tmpfs there, which other users may enter
POINTS = (0, 1000, 10000, 20000)
SAMPLE = 100
IPTABLES = ("iptables-nft", "iptables-legacy")
RANGES_APART = 100
FIRST_PORT = 30000


def calls(services: int, ranges: int):
    """Yield the arguments of the router's calls, without the program's name."""
    first = int(ipaddress.IPv4Address("100.64.0.2"))
    for service in range(services):
        address, length = str(ipaddress.IPv4Address(first + service)), "32"
        if service % 100 == 99:
            address, length = f"10.{service // 100}.0.0", "16"
        for number in range(ranges):
            low = 1000 + RANGES_APART * number
            yield [
                *("-I", "-c", address, "-m", length, "-p", ("tcp", "udp")[service % 2], "-o", "0.0.0.0", "-n", "0"),
                *("-l", str(low), "-h", str(low + 9), "-t", str(FIRST_PORT + service), "-s", f"service{service}"),
            ]


class Cost(NamedTuple):
    """Of one call: seconds from start to end, and of a processor: its own, and the helper's up to now."""

    seconds: float
    processor: float
    helper: float = 0.0


def run(*words: str, helper: int = 0) -> Cost:
    """Run one process to its end. A failure ends the bench."""
    begun = time.perf_counter()
    child = os.posix_spawn(words[0], words, os.environ)
    _child, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(words)} failed: {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - begun
    return Cost(seconds, used.ru_utime + used.ru_stime, _processor_of(helper) if helper else 0.0)


def _processor_of(process: int) -> float:
    nanoseconds = Path(f"/proc/{process}/schedstat").read_text("ascii").split()[0]
    return int(nanoseconds) / 1e9


def figures(costs: list) -> dict:
    """Return median and 99th percentile in ms, and the processor time of a call."""
    seconds = [cost.seconds for cost in costs]
    helper = [1000 * (after.helper - before.helper) for before, after in zip(costs, costs[1:])]
    return {
        "calls": len(seconds),
        "processor_ms": round(1000 * statistics.median(cost.processor for cost in costs), 2),
        "helper_processor_ms": round(statistics.median(helper), 2) if helper else 0,
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "p99_ms": round(1000 * sorted(seconds)[int(0.99 * (len(seconds) - 1))], 2),
        "longest_ms": round(1000 * max(seconds), 1),
    }


def start_helper() -> subprocess.Popen:
    """Start the helper as systemd does: with the listening socket as descriptor 3."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(SOCKET)
    listening.listen(64)
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{DIVERTER}" helper 3<&0 </dev/null'
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=listening, stdout=subprocess.DEVNULL)


def storm(services: int, ranges: int, helper: int) -> dict:
    """Play the storm. Return its seconds, and the cost of a call at each size. `helper` is 0 if none runs."""
    costs = [run(DIVERTER, *words, helper=helper) for words in calls(services, ranges)]
    tests = [run(DIVERTER, "-V") for _number in range(SAMPLE)]
    at = {point: costs[point : point + SAMPLE] for point in POINTS if point < len(costs)}
    at[len(costs)] = costs[-SAMPLE:]
    return {
        "rules": len(costs),
        "total_s": round(sum(cost.seconds for cost in costs), 2),
        "processor_total_s": round(sum(cost.processor for cost in costs) + costs[-1].helper, 2),
        "load": os.getloadavg(),
        "all": figures(costs),
        "self_test": figures(tests),
        "nothing": figures([run("/bin/true") for _number in range(10 * SAMPLE)]),
        "at": {size: figures(sample) for size, sample in sorted(at.items())},
    }


def compare(services: int, ranges: int) -> dict:
    """Compare the rules in force with the rules of the calls and their listeners."""
    system = open_system()
    listeners = Listeners(system.sockets)
    asked = [rule for words in calls(services, ranges) for rule in parse(words).rules]
    wanted = {rule.identity: listeners.identify(rule) for rule in asked}
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        have = rule_table(system, pins).load().rules
    if have != wanted:
        sys.exit(f"{len(have)} rules are in force, {len(wanted)} were asked for")
    asked = list(wanted.values())[::100]
    result = ask_verdict(options("tproxy_verdict", flows=[_packet(rule) for rule in asked]), system, False)
    for rule, answer in zip(asked, result.data["flows"]):
        if (answer["rule"] or {}).get("owner") != rule.owner:
            sys.exit(f"{rule}: the program says {answer}")
    return {"rules_compared": len(have), "packets_judged": len(asked)}


def _packet(rule) -> dict:
    address = str(rule.destination).split("/", maxsplit=1)[0]
    flow = {"interface": "lan0", "source": "10.1.0.2", "destination": address}
    return {**flow, "protocol": rule.protocol, "port": str(rule.high)}


@contextmanager
def router(services: int):
    """Listen as the router does; without it, rules are garbage."""
    is_ready = multiprocessing.Event()
    listening = multiprocessing.Process(target=listen, args=(services, is_ready))
    listening.start()
    is_ready.wait()
    try:
        yield
    finally:
        listening.kill()
        listening.join()


def listen(services: int, is_ready) -> None:
    """Open the sockets of the router until the end of the process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * services + 100,) * 2)
    opened = []
    for service in range(services):
        one = socket.socket(socket.AF_INET, (socket.SOCK_STREAM, socket.SOCK_DGRAM)[service % 2])
        one.bind(("127.0.0.1", FIRST_PORT + service))
        if service % 2 == 0:
            one.listen(1)
        opened.append(one)
    is_ready.set()
    signal.pause()


def iptables(name: str, services: int, ranges: int) -> dict:
    """Time calls at each size; the table is filled between them."""
    program, rules = f"/usr/sbin/{name}", [_as_iptables(words) for words in calls(services, ranges)]
    sizes, at, size = [point for point in POINTS if point <= len(rules)], {}, 0
    for point in sizes:
        text = "*mangle\n" + "\n".join("-A PREROUTING " + " ".join(rule) for rule in rules[size:point]) + "\nCOMMIT\n"
        subprocess.run([f"{program}-restore", "--noflush"], input=text, text=True, check=True)
        size = point
        few = 50 if point < 5000 else 10
        at[point] = figures([run(program, "-t", "mangle", "-A", "PREROUTING", *rules[0]) for _number in range(few)])
        subprocess.run([program, "-t", "mangle", "-S"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run([program, "-t", "mangle", "-F"], check=True)
    pairs = list(zip(sizes, sizes[1:]))
    total = sum((b - a) * (at[a]["median_ms"] + at[b]["median_ms"]) / 2000 for a, b in pairs)
    return {"at": at, "extrapolated_total_s": round(total, 1), "to_rules": sizes[-1]}


def _as_iptables(words: list) -> list:
    given = dict(zip(words[1::2], words[2::2]))
    return [
        *("-d", f"{given['-c']}/{given['-m']}", "-p", given["-p"], "--dport", f"{given['-l']}:{given['-h']}"),
        *("-j", "TPROXY", "--on-port", given["-t"], "--on-ip", "127.0.0.1", "--tproxy-mark", "0x1/0x1"),
    ]


def main() -> None:
    """Run the parts that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--ranges", type=int, default=10)
    parser.add_argument("--without-helper", action="store_true", help="each call does the work itself, as root")
    parser.add_argument("--peers", action="store_true", help="beside iptables")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    os.environ["TPROXY_SPLICER_HELPER"] = "" if given.without_helper else SOCKET
    subprocess.run("ip link add lan0 type veth peer name far0 && ip link set lan0 up", shell=True, check=True)
    attach(options("tc_bpf_attach", interface="lan0", blob_content=BLOB.read_text("utf-8")), open_system(), False)
    helper = None if given.without_helper else start_helper()
    try:
        with router(given.services):
            played = storm(given.services, given.ranges, helper.pid if helper else 0)
            answer = {"storm": played, "compared": compare(given.services, given.ranges)}
            if given.peers:
                answer.update({name: iptables(name, given.services, given.ranges) for name in IPTABLES})
    finally:
        if helper:
            helper.terminate()
            helper.wait()
    text = json.dumps(answer, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
