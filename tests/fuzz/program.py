# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile and load the program of this checkout, and configure it by the product's own modules.

A test run has two limits. bpf_sk_assign() always fails there (EOPNOTSUPP); this counts as a splice, mark included.
Frames that end within the IP header are refused (frames.SHORTEST).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import platform
import struct
from collections import Counter
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy import constants
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout, structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.protocol import PROTOCOLS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import (
    blob_from_json,
    blob_from_object,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.select import compiled_object
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import hit_counters
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.host_addresses import written
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import (
    displaced_key,
    home_slot,
    slot_for,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import inner_shape
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reserved_ports import encode_ports
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.verify import verify_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, libc
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.tests.support.collection import ROOT
from ansible_collections.netedge.tproxy.tests.support.maps import new_maps

from .frames import LINK, LONGEST
from .host import INTERFACES
from .model.rules import names_listener
from .packets import Arrived
from .setup import FIRST, SECOND, own_of
from .tagging import load_tagger

IMAGE_PAGES = 8192
NEVER = (1 << 64) - 1
FLAGS = {
    "allow_ssh": layout.POLICY_ALLOW_SSH,
    "allow_echo": layout.POLICY_ALLOW_ECHO,
    "loopback": layout.POLICY_LOOPBACK,
    "layer3": layout.POLICY_LAYER3,
}
TRACK = {"none": 0, "own": layout.POLICY_TRACK, "all": layout.POLICY_TRACK | layout.POLICY_TRACK_ALL}
THE_RULE = ()  # the only outcome of a rule
FLOW_MAPS = ("flows_own", "flows_forwarded", "flows_outside")
UNSPEC, MAP_GET_NEXT_KEY = 0xFFFFFFFF, 4
REASONS = {
    number: name[len("REASON_") :].lower() for name, number in vars(layout).items() if name.startswith("REASON_")
}
DEFAULT_ACTIONS = {"drop": 0, "pass": layout.POLICY_DEFAULT_PASS, "audit": layout.POLICY_AUDIT}
VERDICTS = {layout.VERDICT_PASS: "pass", layout.VERDICT_DROP: "drop", layout.VERDICT_WOULD_DROP: "would_drop"}
RETURNED = {0: "ok", 2: "shot", 0xFFFFFFFF: "unspec"}  # TC_ACT_OK, _SHOT, _UNSPEC of linux/pkt_cls.h
# Rules are counted where they decided, not where a session did.
COUNTED_BY_RULE = {"rule", "local", "undeliverable", "no_listener", "assign_error"}

MARK_BEFORE = 0x55
A_LISTENER = 1  # a test run compares no cookie
# struct __sk_buff: mark, ingress_ifindex, ifindex, cb[1] (see tagging)
CONTEXT = struct.Struct("=8xI24xII8xI136x")
ANSWER = struct.Struct("=8xI36xIIi")  # mark, cb[0..2]: enum trace_word


class Said(NamedTuple):
    """The result of the program for a packet, in the model's terms. The rule is a slot."""

    reason: str
    verdict: str
    returned: str
    rule: int
    mark: int


class Program:
    """The loaded program, its maps, and the counters that it should have by now."""

    def __init__(self):
        blob = _compiled()
        self.maps = new_maps(blob, IMAGE_PAGES)
        self._blob = blob
        self._tracker = TestRun(bpf.load_program(blob.tracker.bind(self.maps), blob.tracker.function))
        self._plain = TestRun(bpf.load_program(blob.bind(self.maps), blob.function))
        self._tagged = TestRun(load_tagger(self._plain.program))
        self._nothing = compile_image([], {}, 0)
        self._cpus = bpf.possible_cpus()
        self._slots = {}
        self._expected = {"reasons": Counter(), "hits": Counter()}
        self.is_received = _takes_ingress_ifindex()
        self._faults = []

    def summary(self) -> str:
        """Return how big it is, and how much the verifier had to do."""
        verified = bpf.verified_instructions(self._blob.bind(self.maps), self._blob.function)
        return f"{self._blob.count} instructions, {verified}"

    # ---- what it is told ---------------------------------------------------------------

    def tell(self, setup: dict) -> None:
        """Put a setup in force. Raises the product's error when it cannot compile the rules."""
        self._marks, self._clears, self._slots = {}, {}, {}
        for slot in range(layout.POLICIES):
            bpf.update(self.maps["policy"], structs.key(slot), bytes(structs.size_of("policy")))
        self._tell_addresses(setup)
        self._tell_ports(setup)
        taken = {}
        self._forget(FLOW_MAPS, "flow_key")
        self.forget_fragments()
        for name, told in setup["interfaces"].items():
            self._slots[name] = layout.UNKNOWN_SLOT
            if told is not None:
                self._slots[name] = slot = slot_for(INTERFACES[name], taken)
                taken[slot] = INTERFACES[name]
                self._tell_policy(slot, INTERFACES[name], told, setup["image"])
            self._marks[name] = tuple(told["mark"]) if told else (layout.DEFAULT_MARK, layout.DEFAULT_MARK_MASK)
            self._clears[name] = not (told and told["loopback"])
        self._slotted = list(zip(read_rules(setup["rules"]), setup["slots"]))
        self._image = compile_image(self._slotted, INTERFACES, 1)
        self._put_image(int(setup["image"] == SECOND), self._image)
        self._put_image(int(setup["image"] != SECOND), self._nothing)
        self._start_counters()
        for event in setup.get("history", ()):
            self._see(event)

    def _see(self, event: dict) -> None:
        """Let the programs see a packet of the history."""
        frame, interface = bytes.fromhex(event["frame"]), event["interface"]
        if event["way"] == "in":
            self.ask(Arrived(interface, frame, event.get("tag")))
            return
        returned = self._tracker(frame, INTERFACES[interface], 0, INTERFACES.get(event["from"], 0))
        if returned != (UNSPEC, MARK_BEFORE, 0, 0, 0):
            self._faults.append(f"{event}: the tracker returns {returned}")

    def forget_fragments(self) -> None:
        """Forget the first fragments."""
        self._forget(("fragments",), "fragment_key")

    def known_firsts(self) -> int:
        """Return the number of first fragments that the program remembers."""
        return len(_keys(self.maps["fragments"], structs.size_of("fragment_key")))

    def _forget(self, names: tuple, key_type: str) -> None:
        for name in names:
            for key in _keys(self.maps[name], structs.size_of(key_type)):
                bpf.delete(self.maps[name], key, name)

    def _tell_policy(self, slot: int, ifindex: int, told: dict, image: str) -> None:
        flags = sum(bit for option, bit in FLAGS.items() if told[option])
        flags |= DEFAULT_ACTIONS[told["default_action"]]
        flags |= layout.POLICY_ACCEPT_UNSPEC if told["accept"] == "unspec" else 0
        flags |= layout.POLICY_DROP_LINK if told.get("link_protocols") == "drop" else 0
        flags |= layout.POLICY_PORT if told.get("port") else 0
        flags |= TRACK[told.get("track", "none")]
        policy = {
            "ifindex": ifindex,
            "flags": flags,
            "mark": told["mark"][0],
            "mark_mask": told["mark"][1],
            "deadline": {FIRST: 0, SECOND: 0}.get(image, NEVER),
            "generation": int(image == SECOND),
            "management_count": len(told["management"]),
            "management": b"".join(_management(entry) for entry in told["management"]),
        }
        other = {"ifindex": ifindex, "flags": flags ^ layout.POLICY_DEFAULT_PASS ^ layout.POLICY_ALLOW_SSH}
        halves = [{**other, "deadline": 1}, policy] if image == SECOND else [policy, other]
        for half, values in enumerate(halves):
            where = structs.key(slot + half * layout.INTERFACES)
            bpf.update(self.maps["policy"], where, structs.encode("policy", values))
        if slot != home_slot(ifindex):
            bpf.update(self.maps["displaced"], displaced_key(layout.TABLE_POLICY, ifindex), structs.key(slot))

    def _tell_addresses(self, setup: dict) -> None:
        table = self.maps["own_addresses"]
        for address in written(bpf, table):
            bpf.delete(table, address)
        for texts, kind in (
            (setup.get("broadcasts", ()), layout.ADDRESS_GROUP),
            (own_of(setup), layout.ADDRESS_OWN),
        ):
            for text in texts:
                bpf.update(table, parse_address(text), structs.key(kind))

    def _tell_ports(self, setup: dict) -> None:
        ports = set(map(tuple, setup.get("reserved", ())))
        bpf.update(self.maps["reserved_ports"], structs.key(0), encode_ports(ports))

    def _put_image(self, generation: int, words) -> None:
        inner = bpf.create_map(inner_shape(IMAGE_PAGES), "pages")
        with bpf.mapped_memory(inner, IMAGE_PAGES * layout.PAGE_BYTES, True) as memory:
            memory[: 4 * len(words)] = words.tobytes()
        bpf.update(self.maps["image"], structs.key(generation), struct.pack("=I", inner))
        os.close(inner)

    def verify(self) -> None:
        """Let the product judge its own image. Raises VerificationFailed."""
        verify_image(self._image, self._slotted, INTERFACES)

    # ---- what it says ------------------------------------------------------------------

    def ask(self, arrived: Arrived) -> Said:
        """Return the program's result for a packet."""
        interface, frame, tag = arrived
        run = self._plain if tag is None else self._tagged
        note = 0 if tag is None else tag | 1 << 16
        returned, mark, trace, rule, error = run(frame, INTERFACES[interface], note)
        reason, verdict = REASONS[trace & 0xFF], VERDICTS[trace >> 8]
        if self.is_received:
            arriving = bytes(6) + frame[6:] if interface == "lo" and frame.startswith(LINK) else frame
            received = run(arriving, INTERFACES[interface], note, INTERFACES[interface])
            if received != (returned, mark, 0, note, 0):
                self._faults.append(f"{arrived}: a received packet gets {received}, a test run {(returned, mark)}")
            self._expect(interface, trace, rule, len(frame), "assign_error" if error else reason)
        if reason == "assign_error" and error == -errno.EOPNOTSUPP:
            value, mask = self._marks[interface]
            return Said("spliced", "pass", "ok", rule, mark & ~mask | value)
        return Said(reason, verdict, RETURNED[returned], rule, mark)

    def mark(self, interface: str, is_marked: bool) -> int:
        """Return the mark that a packet should have."""
        value, mask = self._marks[interface]
        if is_marked:
            return MARK_BEFORE & ~mask | value
        return MARK_BEFORE & ~mask if self._clears[interface] else MARK_BEFORE

    # ---- what it counts ----------------------------------------------------------------

    def _expect(self, interface: str, trace: int, rule: int, size: int, reason: str) -> None:
        self._count("reasons", self._slots[interface], (trace & 0xFF, trace >> 8), size)
        if reason in COUNTED_BY_RULE:
            self._count("hits", rule, THE_RULE, size)

    def _count(self, name: str, slot: int, outcome: tuple, size: int) -> None:
        self._expected[name][slot, outcome, "packets"] += 1
        self._expected[name][slot, outcome, "bytes"] += size

    def _start_counters(self) -> None:
        zero = bytes(self._interface_bytes())
        for slot in {slot for slot, _outcome, _what in self._expected["reasons"]}:
            bpf.update(self.maps["reasons"], structs.key(slot), zero, "reasons")
        with hit_counters.opened(bpf, self.maps["hits"]) as counters:
            counters.zero({slot for slot, _outcome, _what in self._expected["hits"]})
        for expected in self._expected.values():
            expected.clear()

    def miscounted(self) -> list:
        """Return sentences about counters that differ from the sum of the program's own results.

        Test runs count nothing. So each packet is also run as if it had been received, where the kernel can do that.
        Such a run leaves no trace in the packet.
        """
        found, self._faults = self._faults, []
        for name, counters in self._expected.items():
            by_slot = self._counted(name, {slot for slot, _outcome, _what in counters})
            for (slot, outcome, what), expected in counters.items():
                counted = by_slot[slot][outcome][what]
                if counted != expected:
                    found.append(f"{name}[{slot}]{outcome} counts {counted} {what}, not {expected}")
        return found

    def _counted(self, name: str, slots: set) -> dict:
        """Return {slot: {outcome: counter}} of a map."""
        if name == "reasons":
            size, reasons = self._interface_bytes(), self.maps["reasons"]
            return {slot: structs.sum_outcomes(bpf.lookup(reasons, structs.key(slot), size)) for slot in slots}
        with hit_counters.opened(bpf, self.maps["hits"]) as counters:
            return {slot: {THE_RULE: counter} for slot, counter in counters.read(slots).items()}

    def _interface_bytes(self) -> int:
        """Return the size of the counters of an interface, of all CPUs."""
        return structs.size_of("interface_counters") * self._cpus


def read_rules(rules: list) -> list:
    """Return the product's rules of options. A rule of a router names its listener, as those of the helper do."""
    found, _warnings = rules_from_params([params_of(rule) for rule in rules])
    return [rule._replace(listener=A_LISTENER) if names_listener(rule) else rule for rule in found]


class TestRun:
    """BPF_PROG_TEST_RUN with buffers that are made once, without space for the packet afterwards."""

    def __init__(self, program: int):
        self.program = program
        self._data, self._given = ctypes.create_string_buffer(LONGEST), ctypes.create_string_buffer(CONTEXT.size)
        self._left = ctypes.create_string_buffer(CONTEXT.size)
        self._attribute = ctypes.create_string_buffer(bpf.ATTRIBUTE_BYTES)
        data, given, left = (ctypes.addressof(buffer) for buffer in (self._data, self._given, self._left))
        head = struct.pack("=IIIIQQII", program, 0, 0, 0, data, 0, 1, 0)
        self._head = head + struct.pack("=IIQQ", CONTEXT.size, CONTEXT.size, given, left)
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._number = libc.CALL_NUMBERS[platform.machine()].bpf

    def __call__(self, frame: bytes, ifindex: int, note: int, ingress_ifindex: int = 0) -> tuple:
        """Return (return value of the hook, mark, cb[0], cb[1], cb[2]). `note` is in cb[1] before the run.

        For the program a packet with an `ingress_ifindex` is one that was received.
        """
        size = len(frame)
        ctypes.memmove(self._data, frame, size)
        CONTEXT.pack_into(self._given, 0, MARK_BEFORE, ingress_ifindex, ifindex, note)
        ctypes.memmove(self._attribute, self._head, len(self._head))
        struct.pack_into("=I", self._attribute, 8, size)
        if self._call(self._number, bpf.PROG_TEST_RUN, self._attribute, bpf.ATTRIBUTE_BYTES) < 0:
            raise OSError(ctypes.get_errno(), f"test run of {size} bytes: {os.strerror(ctypes.get_errno())}")
        return (struct.unpack_from("=I", self._attribute, 4)[0], *ANSWER.unpack_from(self._left))


def _keys(descriptor: int, size: int) -> list:
    """Return the keys of a hash."""
    found, last = [], None
    key = ctypes.create_string_buffer(size)
    while True:
        given = ctypes.addressof(last) if last else 0
        attribute = ctypes.create_string_buffer(struct.pack("=IxxxxQQ", descriptor, given, ctypes.addressof(key)), 128)
        call = ctypes.CDLL(None, use_errno=True).syscall
        if call(libc.CALL_NUMBERS[platform.machine()].bpf, MAP_GET_NEXT_KEY, attribute, 128) < 0:
            return found
        found.append(key.raw)
        last = ctypes.create_string_buffer(key.raw, size)


def _takes_ingress_ifindex() -> bool:
    """Return whether the kernel lets a test run have an ingress_ifindex. Linux 5.10 refuses it."""
    program = bpf.load_program(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0), "nothing")  # r0 = 0; exit
    try:
        TestRun(program)(bytes(LONGEST), 1, 0, 1)
    except OSError as refusal:
        if refusal.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(program)
    return True


def _compiled():
    """Return the blob of bpf/; TPROXY_BLOB names it where it is another compiler's, or there is none."""
    given = os.environ.get("TPROXY_BLOB")
    if given:
        return blob_from_json(pathlib.Path(given).read_text(encoding="utf-8"))
    folder = ROOT / "bpf"
    files = {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.[ch]")}
    made = compiled_object(Compiler(), files, "tproxy_splicer.c", constants.FUNCTION, {})
    return blob_from_object(made, constants.FUNCTION, "0" * 64)


def _management(entry: dict) -> bytes:
    """Return struct management. A protocol without ports is its own port."""
    source, protocol = Prefix.parse(entry["source"])[0], PROTOCOLS.get(entry["protocol"], entry["protocol"])
    values = {
        "source": source.network.to_bytes(16, "big"),
        "source_length": source.length,
        "protocol": protocol,
        "port": entry["port"] or protocol,
    }
    return structs.encode("management", values)


def params_of(rule: dict) -> dict:
    """Return a rule of a setup as options of tproxy_rule."""
    ports = "{}-{}".format(*rule["ports"]) if rule["protocol"] in PROTOCOLS else None
    return {**rule, "ports": ports}
