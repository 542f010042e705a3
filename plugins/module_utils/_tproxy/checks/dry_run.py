# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Asks a program that is not in force yet whether the operator would still get in: the rehearsal before a change.

The program is loaded on maps that nobody else sees, with the policy or the rules that are to come; those that stay as
they are, it reads where they are pinned. Asked are the SSH session that this run came by, as the first packet of a new
connection, and every management entry. Loading costs the verifier's time (some 100 ms), so nothing is loaded where
there is nobody to ask for, or where the new image says of them what the old one said.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Callable, NamedTuple

from ..abi import structs as codec
from ..abi.layout import PAGE_BYTES, PAGE_WORDS, TYPE_ARRAY_OF_MAPS, TYPE_PERCPU_ARRAY
from ..errors import InvalidInput, VerificationFailed
from ..model.flow import Flow
from ..model.policy import Policy
from ..model.prefix import ADDRESS_BITS, family_of, parse_address
from ..program.blob import Blob
from ..resources.interface_records import encode_policy, slot_for
from ..resources.interfaces import RECORDED_SCOPES
from ..resources.pins import Pins, inner_shape
from ..ruleset.lookup import Walker
from ..system.system import System
from .findings import management_cut, ssh_cut
from .test_run import Trace, ask

CLIENT_PORTS = (49152, 49153, 49154)  # a port that has a session is told from one that has none, by its answer
GETS_IN = ("management", "ssh", "rule", "local", "default")


class Probe(NamedTuple):
    """A flow that must get in by an interface; `cut` makes the finding when it would not, of why."""

    link: Any
    flow: Flow
    cut: Callable[[str], dict]


# ---- what is asked -------------------------------------------------------------------------


def questions(system: System, netlink, policies: Mapping[int, Policy]) -> list:
    """Return the Questions of the interfaces that have these policies, by ifindex."""
    links = [link for link in netlink.interfaces() if link.ifindex in policies and not link.loopback]
    asked = [_ssh_question(link, system, netlink) for link in links]
    for link in links:
        asked += _management_questions(link, netlink, policies[link.ifindex])
    return [question for question in asked if question]


def _ssh_question(link, system: System, netlink) -> Probe | None:
    """Return the question for the SSH session of this run, if it comes in by the interface."""
    session = system.processes.ssh_connection()
    if session is None:
        return None
    client, _client_port, address, port = (word.partition("%")[0] for word in session)
    try:
        ends = [int.from_bytes(parse_address(text), "big") for text in (client, address)]
    except InvalidInput:
        return None
    way = netlink.route_to(client, address)
    if way is None or way.oif != link.ifindex or not port.isdecimal():
        return None
    flow = Flow("tcp", ends[0], CLIENT_PORTS[0], ends[1], int(port))
    return Probe(link, flow, lambda why: ssh_cut(link.name, client, address, port, why))


def _management_questions(link, netlink, policy: Policy) -> list:
    if not policy.management:
        return []
    own = [entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES]
    numbers = [int.from_bytes(address, "big") for address in own]
    found = []
    for entry in policy.management:
        source = entry.source.network + (entry.source.length < ADDRESS_BITS)
        ours = next((number for number in numbers if family_of(number) == entry.source.family), None)
        if ours is not None:
            words = f"{entry.source} to {entry.protocol} port {entry.port}"
            flow = Flow(entry.protocol, source, CLIENT_PORTS[0], ours, entry.port)
            found.append(Probe(link, flow, lambda why, words=words: management_cut(link.name, words, why)))
    return found


def affected(asked: list, before, after) -> list:
    """Return the Questions of which two images (their words, None without one) say different things."""
    try:
        old, new = (None if words is None else Walker(words) for words in (before, after))
        return [one for one in asked if _says(old, one) != _says(new, one)]
    except VerificationFailed:
        return asked


def _says(walker: Walker | None, question: Probe):
    """Return what an image has for a flow: the action of its rule."""
    flow = question.flow
    if walker is None:
        return None
    slot = walker.slot(question.link.ifindex, flow.destination, flow.source, flow.protocol, flow.port)
    return walker.action(slot) if slot else None


# ---- the rehearsal -----------------------------------------------------------------------------


def rehearse(system: System, pins: Pins, blob: Blob, asked: list, policies: Mapping | None = None, image=None) -> list:
    """Return the findings of those who would be cut off by this program, with these policies or this image to come."""
    if not asked:
        return []
    with ExitStack() as opened:
        maps = _Maps(system.bpf, pins, opened)
        descriptors = {name: maps.of(name, shape, policies, image) for name, shape in blob.maps.items()}
        program = system.bpf.load_program(blob.bind(descriptors), blob.function)
        opened.callback(os.close, program)
        answers = [(one, _ask(system.bpf, program, one)) for one in asked]
    return [one.cut(f"{answer.verdict}, {answer.reason}") for one, answer in answers if not _gets_in(answer)]


def _ask(bpf, program: int, question: Probe) -> Trace:
    """Return the answer for a connection that is new: one that has a session passes by that alone."""
    for port in CLIENT_PORTS:
        answer = ask(bpf, program, question.link.ifindex, question.flow._replace(source_port=port))
        if answer.reason != "established":
            break
    return answer


def _gets_in(answer: Trace) -> bool:
    """Whether a flow reaches this host itself: what a proxy takes does not."""
    return answer.verdict == "pass" and answer.reason in GETS_IN


class _Maps:
    """Makes the maps of a rehearsal, each closed with it."""

    def __init__(self, bpf, pins: Pins, opened: ExitStack):
        self._bpf, self._pins, self._opened = bpf, pins, opened

    def of(self, name: str, shape: tuple, policies: Mapping | None, image) -> int:
        """Return the descriptor of a map: one of its own where something is to come or counted, else the pinned one."""
        if name == "policy" and policies is not None:
            return self._policies(shape, policies)
        if shape[0] == TYPE_ARRAY_OF_MAPS and (image is not None or name in self._pins.missing()):
            return self._image(shape, image)
        if shape[0] == TYPE_PERCPU_ARRAY:
            return self._new((*shape[:3], 1, shape[4]), name)  # who looks beyond it finds nothing, and counts nothing
        return self._new(shape, name) if name in self._pins.missing() else self._pins.fd(name)

    def _new(self, shape: tuple, name: str, inner: int = 0) -> int:
        made = self._bpf.create_map(shape, name, inner)
        self._opened.callback(os.close, made)
        return made

    def _policies(self, shape: tuple, policies: Mapping[int, Policy]) -> int:
        """Return a map with the policies; a test run's packet has an Ethernet header, whatever the interface is."""
        made, taken = self._new(shape, "policy"), {}
        for ifindex, policy in policies.items():
            slot = slot_for(ifindex, taken)
            taken[slot] = ifindex
            raw = encode_policy(ifindex, replace(policy, layer3=False))
            self._bpf.update(made, codec.key(slot), raw, "policy")
        return made

    def _image(self, shape: tuple, words) -> int:
        pages = len(words) // PAGE_WORDS if words is not None else 1
        inner = self._new(inner_shape(pages), "pages")
        outer = self._new(shape, "image", inner)
        if words is not None:
            with self._bpf.window(inner, pages * PAGE_BYTES, True) as memory:
                memory[: 4 * len(words)] = words.tobytes()
            self._bpf.update(outer, codec.key(0), struct.pack("=I", inner), "image")
        return outer
