# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What a rule does, as struct action of bpf/abi.h and back. It knows one rule at a time and no image."""

from __future__ import annotations

import struct
import zlib
from array import array
from functools import lru_cache
from typing import NamedTuple

from ..abi.layout import (
    ACTION_DROP,
    ACTION_PASS,
    ACTION_PASS_WHEN_MISSING,
    ACTION_TPROXY,
    HEADER_CHANGING,
    HEADER_FORMAT,
    HEADER_GENERATION,
    HEADER_JOURNAL,
    HEADER_JOURNAL_END,
    HEADER_MAGIC,
    HEADER_PAGES,
    HEADER_RULES,
    HEADER_SOURCE,
    HEADER_SOURCE_BYTES,
    HEADER_SOURCE_CRC,
    IMAGE_FORMAT,
    IMAGE_MAGIC,
    PAGE_BYTES,
)
from ..abi.structs import decode, encode
from ..errors import LayoutMismatch, VerificationFailed
from ..model.prefix import Prefix, format_address, parse_address
from ..model.rule import PROTOCOL_NAMES, PROTOCOLS, Rule

KINDS = {"pass": ACTION_PASS, "drop": ACTION_DROP, "tproxy": ACTION_TPROXY}
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
MISSING_FLAGS = {"": 0, "drop": 0, "pass": ACTION_PASS_WHEN_MISSING}


def encode_action(rule: Rule) -> bytes:
    """Return struct action."""
    return _encode(rule.action, rule.tproxy_ip, rule.tproxy_port, rule.on_missing)


@lru_cache(maxsize=4096)  # many rules, few proxies
def _encode(action: str, tproxy_ip: str, tproxy_port: int, on_missing: str) -> bytes:
    return encode(
        "action",
        {
            "tproxy_ip": parse_address(tproxy_ip) if tproxy_ip else bytes(16),
            "tproxy_port": tproxy_port,
            "kind": KINDS[action],
            "flags": MISSING_FLAGS[on_missing],
        },
    )


@lru_cache(maxsize=4096)
def decode_action(raw: bytes) -> tuple:
    """Return (action, tproxy_ip, tproxy_port, on_missing) in the canonical form of a rule; action "" is none."""
    values = decode("action", raw)
    action = KIND_NAMES.get(values["kind"], "")
    if action != "tproxy":
        return action, "", values["tproxy_port"], ""
    on_missing = "pass" if values["flags"] & ACTION_PASS_WHEN_MISSING else "drop"
    return action, format_address(values["tproxy_ip"]), values["tproxy_port"], on_missing


HEAD = struct.Struct("<II")
SLOT = struct.Struct("<I")
READABLE = (1, IMAGE_FORMAT)  # format 1 is the same without a journal, whose words are 0 there
# destination and its length, source and its length; low, high, tproxy_port; protocol, kind, flags;
# slot; texts: tproxy_ip, name, owner, interfaces
RECORD = struct.Struct("<17s17s3H3Bx5I")
MISSING_NAMES = {flag: name for name, flag in MISSING_FLAGS.items() if name}


class SlottedRule(NamedTuple):
    """A rule and its slot, which is the index of its action and of its counters."""

    rule: Rule
    slot: int


class ImageContents(NamedTuple):
    """What an image says of itself.

    `rules` is [(Rule, slot)] by ascending slot; `bindings` is {ifindex: class} as _classes.classes_of gives it, so that
    one can see whether an interface came or went since; `slots` is the highest slot in use + 1. `torn` says that who
    changed it was killed half way: the rules are those from before, or all but in force.
    """

    generation: int
    rules: list[SlottedRule]
    bindings: dict[int, int]
    pages: int
    slots: int
    interrupted: bool = False


def encode_source(slotted: list) -> bytes:
    """Return the bytes of [(Rule, slot)]; the same rules and slots give the same bytes, whatever their order."""
    texts = {}
    records = [_record(rule, slot, texts) for rule, slot in sorted(slotted, key=lambda pair: pair[1])]
    heap = "\0".join(texts).encode("utf-8")
    return b"".join((HEAD.pack(len(records), RECORD.size), *records, heap))


def _record(rule: Rule, slot: int, texts: dict) -> bytes:
    """Return one record; a text not seen before is added to `texts`, {text: number}."""
    named = (rule.tproxy_ip, rule.name, rule.owner, "/".join(rule.interfaces))
    return RECORD.pack(
        _prefix_bytes(rule.destination),
        _prefix_bytes(rule.source),
        rule.low,
        rule.high,
        rule.tproxy_port,
        PROTOCOLS[rule.protocol],
        KINDS[rule.action],
        MISSING_FLAGS[rule.on_missing],
        slot,
        *[texts.setdefault(text, len(texts)) for text in named],
    )


def _prefix_bytes(prefix: Prefix) -> bytes:
    return (prefix.network << 8 | prefix.length).to_bytes(17, "big")


def decode_source(source: bytes) -> list:
    """Return [(Rule, slot)]. Raises LayoutMismatch when another release wrote the records."""
    count, size = HEAD.unpack_from(source)
    if size != RECORD.size:
        raise LayoutMismatch(f"the rules in the image have records of {size} bytes, this release has {RECORD.size}")
    end = HEAD.size + count * size
    texts = source[end:].decode("utf-8").split("\0")
    interfaces = [tuple(text.split("/")) if text else () for text in texts]
    prefixes = _Prefixes()
    return [
        SlottedRule(_rule(record, prefixes, texts, interfaces), record[8])
        for record in RECORD.iter_unpack(source[HEAD.size : end])
    ]


class _Prefixes(dict):
    """{17 bytes: Prefix}: many rules share theirs."""

    def __missing__(self, raw: bytes) -> Prefix:
        number = int.from_bytes(raw, "big")
        prefix = self[raw] = Prefix(number >> 8, number & 0xFF)
        return prefix


def _rule(record: tuple, prefixes: _Prefixes, texts: list, interfaces: list) -> Rule:
    destination, source, low, high, tproxy_port, protocol, kind, flags, _slot, tproxy_ip, name, owner, where = record
    action = KIND_NAMES[kind]
    return Rule(
        prefixes[destination],
        prefixes[source],
        PROTOCOL_NAMES[protocol],
        low,
        high,
        interfaces[where],
        action,
        texts[tproxy_ip],
        tproxy_port,
        MISSING_NAMES[flags] if action == "tproxy" else "",
        texts[name],
        texts[owner],
    )


def read_image(image) -> ImageContents:
    """Return what an image (any buffer of whole words) says of itself.

    Raises LayoutMismatch for the image of another release, VerificationFailed for a damaged one.
    """
    data = memoryview(image).cast("B")
    if len(data) < 2 * PAGE_BYTES:
        raise VerificationFailed(f"an image has at least {2 * PAGE_BYTES} bytes, this one has {len(data)}")
    header, pairs = data[:PAGE_BYTES].cast("I"), data[PAGE_BYTES : 2 * PAGE_BYTES].cast("I").tolist()
    if header[HEADER_MAGIC] != IMAGE_MAGIC or header[HEADER_FORMAT] not in READABLE:
        raise LayoutMismatch(
            f"the image has magic {header[HEADER_MAGIC]:#x} and format {header[HEADER_FORMAT]}, this release reads"
            f" {IMAGE_MAGIC:#x} and {IMAGE_FORMAT}; attach the program again to start with a new image"
        )
    rules = decode_source(_checked_source(data, header))
    if len(rules) != header[HEADER_RULES]:
        raise VerificationFailed(f"the image's header counts {header[HEADER_RULES]} rules, it holds {len(rules)}")
    rules = _replay(data.cast("I"), rules, header[HEADER_JOURNAL], header[HEADER_JOURNAL_END])
    bindings = {ifindex: number for ifindex, number in zip(pairs[0::2], pairs[1::2]) if ifindex}
    slots = 1 + max((slot for _rule, slot in rules), default=0)
    interrupted = bool(header[HEADER_CHANGING])
    return ImageContents(header[HEADER_GENERATION], rules, bindings, header[HEADER_PAGES], slots, interrupted)


def _checked_source(data: memoryview, header: memoryview) -> bytes:
    """Return the bytes of the canonical rules, if they are whole."""
    start, size = 4 * header[HEADER_SOURCE], header[HEADER_SOURCE_BYTES]
    source = bytes(data[start : start + size])
    if len(source) != size or size < HEAD.size or zlib.crc32(source) != header[HEADER_SOURCE_CRC]:
        raise VerificationFailed(
            f"the rules in the image ({size} bytes from word {header[HEADER_SOURCE]}) do not have their checksum;"
            " the image is damaged: commit the rules again"
        )
    return source


# ---- the journal ------------------------------------------------------------------------------


def encode_entry(slot: int, rule: Rule | None) -> array:
    """Return the words of one entry of the journal, its length first."""
    payload = SLOT.pack(slot) + (encode_source([(rule, slot)]) if rule else b"")
    entry = array("I", (len(payload), zlib.crc32(payload)))
    entry.frombytes(payload.ljust(-(-len(payload) // 4) * 4, b"\0"))
    return entry


def _replay(words: memoryview, rules: list, start: int, end: int) -> list:
    """Return [(Rule, slot)] by ascending slot: `rules`, and what the journal made of them."""
    if not start or not words[start]:
        return rules
    by_slot = {slot: rule for rule, slot in rules}
    for slot, rule in _entries(words, start, end):
        if rule is None:
            by_slot.pop(slot, None)
        else:
            by_slot[slot] = rule
    return [SlottedRule(rule, slot) for slot, rule in sorted(by_slot.items())]


def _entries(words: memoryview, at: int, end: int):
    """Yield (slot, Rule or None)."""
    while at < end and words[at]:
        size, first = words[at], at + 2
        last = first + -(-size // 4)
        payload = bytes(words[first:last])[:size] if last <= end else b""
        if len(payload) != size or size < SLOT.size or zlib.crc32(payload) != words[at + 1]:
            raise VerificationFailed(
                f"a change of the rules in the image (word {at}) does not have its checksum;"
                " the image is damaged: commit the rules again"
            )
        rules = decode_source(payload[SLOT.size :]) if size > SLOT.size else []
        yield SLOT.unpack_from(payload)[0], rules[0][0] if rules else None
        at = last
