# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real program on maps of its own, pinned nowhere, asked packet by packet (BPF_PROG_TEST_RUN).

Policies, addresses and rules are written as the product writes them: by its codec and its image compiler. A test run
has limits: bpf_sk_assign always fails there (EOPNOTSUPP, "assign_error" stands for "would be spliced"), nothing is
counted, frames are never tagged, and IPv4 frames have at least 34 bytes. wire.py has real frames.
"""

from __future__ import annotations

import errno
import os
import pathlib
import struct
from typing import NamedTuple

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout, structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import TABLE_POLICY
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.structs import REASON_NAMES, VERDICT_NAMES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import FUNCTION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import (
    Blob,
    blob_from_json,
    blob_from_object,
    program_identity,
    source_digest,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.select import compiled_object
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import hit_counters
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.host_addresses import written
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import (
    displaced_key,
    encode_policy,
    home_slot,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import inner_shape
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reserved_ports import encode_ports
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.tests.support.collection import ROOT
from ansible_collections.netedge.tproxy.tests.support.maps import new_maps

ENTRY = "tproxy_splicer.c"
CACHE = ROOT / ".work" / "cache" / "blobs"

OWN = "10.1.0.1"  # the own address of the host after forget()
CONTEXT_BYTES = 192  # struct __sk_buff of include/uapi/linux/bpf.h
MARK_AT, INGRESS_IFINDEX_AT, IFINDEX_AT, CB_AT = 8, 36, 40, 48
ACTIONS = {0: "pass", 2: "drop", -1: "unspec"}


def program_source() -> dict:
    """Return {path: text} as the action plugin ships it; the plugin needs all of Ansible."""
    from ansible_collections.netedge.tproxy.plugins.plugin_utils.program import source_files

    return source_files(ROOT / "bpf" / ENTRY)


def our_blob() -> Blob:
    """Return our program, compiled once for each identity; TPROXY_BLOB names it where there is no compiler."""
    given = os.environ.get("TPROXY_BLOB")
    if given:
        return blob_from_json(pathlib.Path(given).read_text(encoding="utf-8"))
    files, compiler = program_source(), Compiler()
    digest = source_digest(files, ENTRY, FUNCTION, {})
    kept = CACHE / f"{program_identity(digest, compiler.version())}.json"
    if kept.exists():
        return blob_from_json(kept.read_text(encoding="utf-8"))
    blob = blob_from_object(compiled_object(compiler, files, ENTRY, FUNCTION, {}), FUNCTION, digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(f".{os.getpid()}")
    aside.write_text(blob.to_json(), encoding="utf-8")
    aside.rename(kept)
    return blob


class Told(NamedTuple):
    """The program's result for one packet. `action` is the TC verdict, `verdict` the counted outcome."""

    action: str
    reason: str
    verdict: str
    rule: int
    error: int
    mark: int


def told(answer: Told) -> tuple:
    """Return the part of an answer that a user sees."""
    return answer.action, answer.reason


class Splicer:
    """The program, loaded; see above."""

    def __init__(self, blob: Blob, pages: int = layout.IMAGE_PAGES_MIN):
        """`pages` is the largest size of an image."""
        self._pages = pages
        self.maps = new_maps(blob, pages)
        self.fd = bpf.load_program(blob.bind(self.maps), blob.function)
        self.tracker = bpf.load_program(blob.tracker.bind(self.maps), blob.tracker.function) if blob.tracker else None
        self._cpus = bpf.possible_cpus()

    def close(self) -> None:
        """Let go of everything."""
        for descriptor in (*self.maps.values(), self.fd, self.tracker):
            if descriptor is not None:
                os.close(descriptor)

    def forget(self) -> None:
        """Return to a program that knows no interface and no rule; counters go on."""
        for slot in range(layout.POLICIES):
            bpf.update(self.maps["policy"], structs.key(slot), bytes(structs.size_of("policy")))
        self.own(OWN)
        self.reserve()
        self.rules()
        self.no_image(generation=1)

    # ---- what it is told ---------------------------------------------------------------

    def policy(self, ifindex: int, slot: int | None = None, **fields) -> None:
        """Set the policy of an interface."""
        home, raw = home_slot(ifindex), encode_policy(ifindex, Policy(**fields))
        bpf.update(self.maps["policy"], structs.key(home if slot is None else slot), raw, "policy")
        if slot not in (None, home):
            bpf.update(self.maps["displaced"], displaced_key(TABLE_POLICY, ifindex), structs.key(slot), "displaced")

    def previous_policy(self, ifindex: int, policy: Policy) -> None:
        """Set the policy that holds past the deadline."""
        slot = ifindex % layout.INTERFACES + layout.INTERFACES
        bpf.update(self.maps["policy"], structs.key(slot), encode_policy(ifindex, policy), "policy")

    def no_image(self, generation: int = 0) -> None:
        """Take an image away: 0 goes with the policies, 1 with the previous ones."""
        bpf.delete(self.maps["image"], structs.key(generation), "image")

    def own(self, *texts: str, broadcasts: tuple = ()) -> None:
        """Set the own addresses of the host, and the broadcast addresses of its subnets."""
        table = self.maps["own_addresses"]
        for address in written(bpf, table):
            bpf.delete(table, address, "own_addresses")
        kinds = {**dict.fromkeys(broadcasts, layout.ADDRESS_GROUP), **dict.fromkeys(texts, layout.ADDRESS_OWN)}
        for text, kind in kinds.items():
            bpf.update(table, parse_address(text), structs.key(kind), "own_addresses")

    def reserve(self, *ports: tuple) -> None:
        """Set the reserved ports of the host: (protocol, number)."""
        bpf.update(self.maps["reserved_ports"], structs.key(0), encode_ports(ports), "reserved_ports")

    def rules(self, *items: dict, interfaces: dict | None = None, generation: int = 0) -> None:
        """Put rules in force, in slots 1, 2, ...; `interfaces` is {name: ifindex}."""
        found, _warnings = rules_from_params(list(items))
        self.image([(rule, number) for number, rule in enumerate(found, 1)], interfaces or {}, generation)

    def image(self, slotted: list, interfaces: dict, generation: int = 0) -> None:
        """Put [(Rule, slot)] in force."""
        words = compile_image(slotted, interfaces, 1)
        inner = bpf.create_map(inner_shape(self._pages), "pages")
        with bpf.mapped_memory(inner, self._pages * layout.PAGE_BYTES, True) as memory:
            memory[: 4 * len(words)] = words.tobytes()
        bpf.update(self.maps["image"], structs.key(generation), struct.pack("=I", inner))
        os.close(inner)

    # ---- what it says -------------------------------------------------------------------

    def ask(self, frame: bytes, ifindex: int = 1, mark: int = 0) -> Told:
        """Return the program's result for a frame that comes in on an interface of this namespace."""
        context = bytearray(CONTEXT_BYTES)
        struct.pack_into("=I", context, MARK_AT, mark)
        struct.pack_into("=I", context, IFINDEX_AT, ifindex)
        run = bpf.test_run(self.fd, frame, bytes(context))
        reason, rule, error = struct.unpack_from("=IIi", run.context, CB_AT)
        after = struct.unpack_from("=I", run.context, MARK_AT)[0]
        return Told(ACTIONS[run.value], REASON_NAMES[reason & 0xFF], VERDICT_NAMES[reason >> 8], rule, error, after)

    def receive(self, frame: bytes, ifindex: int = 1, mark: int = 0) -> tuple:
        """Let a frame come in as from the network, which nothing traces. Return (action, mark).

        Skip the test where the kernel takes no such run.
        """
        context = bytearray(CONTEXT_BYTES)
        for at, value in ((MARK_AT, mark), (INGRESS_IFINDEX_AT, ifindex), (IFINDEX_AT, ifindex)):
            struct.pack_into("=I", context, at, value)
        try:
            run = bpf.test_run(self.fd, frame, bytes(context))
        except KernelRefused as refusal:
            assert refusal.errno == errno.EINVAL
            pytest.skip("this kernel takes no test run for a packet from the network, as Linux 5.15 does")
        return ACTIONS[run.value], struct.unpack_from("=I", run.context, MARK_AT)[0]

    def leave(self, frame: bytes, ifindex: int = 1) -> str:
        """Let the tracker see a frame of this host that leaves by an interface; return its action."""
        context = bytearray(CONTEXT_BYTES)
        struct.pack_into("=I", context, IFINDEX_AT, ifindex)
        return ACTIONS[bpf.test_run(self.tracker, frame, bytes(context)).value]

    def flow(self, table: str, source: str, destination: str, protocol: int, ports: tuple) -> dict | None:
        """Return the state of the flow whose packets enter from a source to a destination, or None."""
        key = structs.encode(
            "flow_key",
            {
                "saddr": parse_address(source),
                "daddr": parse_address(destination),
                "sport": ports[0],
                "dport": ports[1],
                "protocol": protocol,
            },
        )
        raw = bpf.lookup(self.maps[table], key, structs.size_of("flow_state"))
        return structs.decode("flow_state", raw) if raw else None

    def counted(self, slot: int) -> dict:
        """Return {(reason, verdict): (packets, bytes)} of a policy slot, where not zero."""
        found = {}
        for (reason, verdict), counter in self._outcomes(slot % layout.INTERFACE_COUNTERS).items():
            if any(counter.values()):
                found[REASON_NAMES[reason], VERDICT_NAMES[verdict]] = tuple(counter.values())
        return found

    def packets(self) -> int:
        """Return the packets that the program has counted, on all interfaces."""
        slots = range(layout.INTERFACE_COUNTERS)
        return sum(counter["packets"] for slot in slots for counter in self._outcomes(slot).values())

    def hits(self, slot: int) -> tuple:
        """Return (packets, bytes) of a rule."""
        with hit_counters.opened(bpf, self.maps["hits"]) as counters:
            return tuple(counters.read([slot])[slot].values())

    def _outcomes(self, slot: int) -> dict:
        size = structs.size_of("interface_counters") * self._cpus
        return structs.sum_outcomes(bpf.lookup(self.maps["reasons"], structs.key(slot), size))
