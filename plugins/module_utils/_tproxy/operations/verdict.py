# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_verdict: the verdict of the loaded program for a flow, without a packet on the network.

The program runs on the flow's first packet by BPF_PROG_TEST_RUN, in this network namespace and with the maps and
sockets in use. See checks/test_run.py for the limits of a test run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..abi.structs import REASON_NAMES, VERDICT_NAMES
from ..checks.listeners import Listeners
from ..checks.test_run import Trace, ask_program
from ..errors import InvalidInput, TproxyError, Unsupported
from ..model.flow import Flow, flow_text
from ..model.policy import Policy
from ..model.prefix import parse_address
from ..model.protocol import has_ports, parse_protocol
from ..model.rule import PORT_MAX, Rule
from ..resources.interfaces import PolicyTable, links_by_name
from ..resources.lock import refuse_without_capabilities
from ..resources.operation import Answer, Operation, Options, Result
from ..resources.pins import splicer_pins
from ..resources.rules import RuleReader
from ..system import sock_diag
from ..system.netlink.messages import Link
from ..system.open_core import open_core
from ..system.system import Netlink, System
from .reply import program_on, reply_to

FLOW_OPTIONS = ("interface", "source", "source_port", "destination", "protocol", "port", "expect")
OF_ONE = ("verdict", "reason", "rule", "reply", "rule_elsewhere")
VERDICTS, REASONS = tuple(VERDICT_NAMES.values()), tuple(REASON_NAMES.values())
SOURCE_PORT = 49152  # the first that RFC 6335 leaves to clients


class Unexpected(TproxyError):
    """The verdict is not the expected one: the author of the rules or of the test must act."""


def ask_verdict(options: Options, system: System, _check_mode: bool) -> Result:
    """Return the verdict for one flow or a list, as tproxy_verdict does. Raises Unexpected with each that differs."""
    items = options["flows"] if options["flows"] is not None else [{name: options[name] for name in FLOW_OPTIONS}]
    flows = _flows(items, single=options["flows"] is None)
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(options["pin_dir"])
    with system.netlink() as netlink, splicer_pins(system.bpf, system.bpffs, options["pin_dir"]) as pins:
        pins.check()
        links = links_by_name(netlink, [item["interface"] for item in items], "interface")
        rules = {slot: rule for rule, slot in RuleReader(system.bpf, pins, system.ifindex_of).load().contents.rules}
        policies = PolicyTable(system.bpf, pins).load().entries
        answers = []
        for link, flow, item in zip(links, flows, items):
            _refuse_layer3(link, policies)
            trace = ask_program(system.bpf, _program_of(system, netlink, link), link.ifindex, flow)
            rule = rules.get(trace.rule)
            trace, reply = _with_listener(trace, rule, system), reply_to(flow, trace, system, netlink, policies)
            elsewhere = None if rule else _elsewhere(rules.values(), flow, link.name)
            answers.append({**_echo(item, flow), **_answer(trace, rule), "reply": reply, "rule_elsewhere": elsewhere})
    _compare(answers, items)
    first = {name: answers[0][name] for name in OF_ONE} if options["flows"] is None else {}
    return Result(False, {"flows": answers, **first})


# ---- flows --------------------------------------------------------------


def _flows(items: Sequence[Options], single: bool) -> list[Flow]:
    """Return a Flow for each item. Raises InvalidInput with every fault of all of them."""
    faults: list[str] = []
    found = [_flow(item, "" if single else f"flows[{number}].", faults) for number, item in enumerate(items)]
    if faults:
        raise InvalidInput(faults)
    return [flow for flow in found if flow is not None]


def _flow(item: Options, place: str, faults: list[str]) -> Flow | None:
    before = len(faults)
    if not item.get("interface"):
        faults.append(f"{place}interface: missing; name the interface that the packet comes in by")
    protocol = _protocol(item.get("protocol"), f"{place}protocol", faults)
    ends = [_address(item.get(name), f"{place}{name}", faults) for name in ("source", "destination")]
    ports = _ports(item, protocol, place, faults)
    faults += _expectation_faults(item.get("expect"), f"{place}expect")
    if len(faults) > before:
        return None
    flow = Flow(protocol, ends[0], ports[0], ends[1], ports[1])
    if Flow("", 0, 0, ends[0], 0).family != flow.family:
        faults.append(f"{place}source: {item['source']} is not of the family of the destination {item['destination']}")
    return flow


def _expectation_faults(expected: object, place: str) -> list[str]:
    """Return the faults of an expectation: no answer can equal a word that is neither verdict nor reason."""
    if not expected:
        return []
    if isinstance(expected, str):
        words = VERDICTS + REASONS
        return [] if expected in words else [f"{place}: {expected!r} is none of {', '.join(words)}"]
    known = {"verdict": VERDICTS, "reason": REASONS}
    if not isinstance(expected, Mapping) or not set(expected) <= {*known, "rule"}:
        return [f"{place}: {expected!r} is neither a word nor a dictionary of verdict, reason and rule"]
    wrong = [name for name, words in known.items() if expected.get(name, words[0]) not in words]
    return [f"{place}.{name}: {expected[name]!r} is none of {', '.join(known[name])}" for name in wrong]


def _address(text: object, place: str, faults: list[str]) -> int:
    if text is None:
        faults.append(f"{place}: missing; give an IPv4 or IPv6 address")
        return 0
    try:
        return int.from_bytes(parse_address(str(text)), "big")
    except InvalidInput as fault:
        faults.append(f"{place}: {fault}")
        return 0


def _protocol(value: object, place: str, faults: list[str]) -> str:
    try:
        return parse_protocol(value)
    except InvalidInput as wrong:
        faults += [f"{place}: {sentence}" for sentence in wrong.faults]
        return ""


def _ports(item: Options, protocol: str, place: str, faults: list[str]) -> tuple[int, int]:
    """Return (source port, destination port), 0 for a protocol without ports."""
    names = ("source_port", "port")
    if protocol and not has_ports(protocol):
        given = [name for name in names if item.get(name) not in (None, "")]
        faults += [f"{place}{name}: {protocol} has no ports; leave it out" for name in given]
        return 0, 0
    values = (item.get("source_port") or SOURCE_PORT, item.get("port"))
    source_port, port = (_port(value, f"{place}{name}", faults) for value, name in zip(values, names))
    return source_port, port


def _port(value: object, place: str, faults: list[str]) -> int:
    text = str(value)
    if value is None:
        faults.append(f"{place}: missing; give a port, 0 to {PORT_MAX}")
        return 0
    if text.isascii() and text.isdigit() and int(text) <= PORT_MAX:
        return int(text)
    faults.append(f"{place}: {value!r} is no port, 0 to {PORT_MAX}")
    return 0


# ---- answers -------------------------------------------------------------------


def _program_of(system: System, netlink: Netlink, link: Link) -> int:
    """Return the id of our program on the interface. Raises Unsupported when it has none."""
    program = program_on(system, netlink, link)
    if program is not None:
        return program
    raise Unsupported(f"the splicer is not attached to {link.name}: attach it with tc_bpf_attach first")


def _refuse_layer3(link: Link, policies: Mapping[int, Policy]) -> None:
    """Raise Unsupported for an interface without Ethernet header: the packet of a test run always has one."""
    if link.ifindex in policies and policies[link.ifindex].layer3:
        raise Unsupported(f"{link.name} has no Ethernet header, and the kernel's test runs always give one")


def _with_listener(trace: Trace, rule: Rule | None, system: System) -> Trace:
    """Return the trace of a real packet. The program assigns only that to a socket, and compares the socket."""
    if trace.reason != "spliced" or rule is None or Listeners(system.sockets).accept(rule):
        return trace
    return trace._replace(verdict="drop", reason="wrong_listener")


def _answer(trace: Trace, rule: Rule | None) -> Answer:
    return {"verdict": trace.verdict, "reason": trace.reason, "rule": rule.to_params() if rule else None}


def _elsewhere(rules: Iterable[Rule], flow: Flow, interface: str) -> Answer | None:
    """Return the best of the rules that have the flow on other interfaces only."""
    found = [rule for rule in rules if rule.interfaces and interface not in rule.interfaces and _has(rule, flow)]
    return min(found, key=lambda rule: rule.precedence).to_params() if found else None


def _has(rule: Rule, flow: Flow) -> bool:
    """Return whether a rule has the flow, on whatever interface."""
    return (
        rule.protocol == flow.protocol
        and bool(rule.destination.contains(flow.destination))
        and bool(rule.source.contains(flow.source))
        and (not has_ports(flow.protocol) or rule.low <= flow.port <= rule.high)
    )


def _echo(item: Options, flow: Flow) -> Answer:
    """Return the flow as it was given, with defaults filled in."""
    asked = {name: item.get(name) for name in ("interface", "source", "destination")}
    ports = (flow.source_port, flow.port) if has_ports(flow.protocol) else (None, None)
    return {**asked, "protocol": flow.protocol, "source_port": ports[0], "port": ports[1]}


def _compare(answers: Sequence[Answer], items: Sequence[Options]) -> None:
    wrong = []
    for answer, item in zip(answers, items):
        expected = item.get("expect")
        if expected and not _is_expected(expected, answer):
            found = f"{answer['verdict']}, {answer['reason']}, {_named(answer['rule'])}"
            wrong.append(f"{flow_text(answer)}: expected {expected}, the program says {found}")
    if wrong:
        raise Unexpected("; ".join(wrong), {"flows": answers})


def _named(rule: Answer | None) -> str:
    if rule is None:
        return "no rule"
    if rule["name"]:
        return f"rule {rule['name']!r}"
    return "rule {protocol} {destination}".format(**rule) + (f" ports {rule['ports']}" if rule["ports"] else "")


def _is_expected(expected: str | Answer, answer: Answer) -> bool:
    """Compare a word with verdict and reason, or a dictionary with verdict, reason and the rule's name."""
    if isinstance(expected, str):
        return expected in (answer["verdict"], answer["reason"])
    found = {**answer, "rule": answer["rule"] and answer["rule"]["name"]}
    return all(found.get(name) == value for name, value in expected.items())


def _open() -> System:
    return replace(open_core(), sockets=sock_diag)


ASK_VERDICT = Operation("tproxy_verdict", ask_verdict, opens=_open)
