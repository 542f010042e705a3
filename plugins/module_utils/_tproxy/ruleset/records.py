# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules in an image, by their slots: actions, the canonical rules, and the journal (docs/IMAGE.md).

A run reads the canonical rules back, so what it reads is what the kernel enforces. Layout, little endian: u32 number of
records, u32 bytes of a record; the records; the heap. The heap is UTF-8 texts joined by NUL, each once, and records
have the number of a text. Interface names are one text, joined by '/', which no name contains.

The journal has the changes since the compilation. An entry is a u32 with the bytes of the payload, the CRC-32 of the
payload, and the payload in whole words. The payload is a slot and a rule in the format above. Without a rule, the slot
is free again. The first word of an entry is written last, and 0 ends the journal.

This module encodes and decodes. It never reads nodes (lookup.py does).
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..abi.layout import (
    ACTION_CHECK_LISTENER,
    ACTION_CHECK_USER,
    ACTION_DROP,
    ACTION_DROP_FRAGMENTS,
    ACTION_KEEP_LISTENER,
    ACTION_ONE_ADDRESS,
    ACTION_PASS,
    ACTION_PASS_WHEN_MISSING,
    ACTION_SPARES_RESERVED,
    ACTION_SPECIAL_RANGE,
    ACTION_TPROXY,
    GROUP_PAGES,
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
    RULES,
)
from ..abi.structs import decode, encode
from ..errors import LayoutMismatch, LimitExceeded, VerificationFailed
from ..model.prefix import ADDRESS_BITS, Prefix, format_address, parse_address
from ..model.protocol import protocol_name, protocol_number
from ..model.rule import ALWAYS, DROP, ON_DEMAND, Identity, Rule, is_routers

if TYPE_CHECKING:
    from typing_extensions import Buffer

KINDS = {"pass": ACTION_PASS, "drop": ACTION_DROP, "tproxy": ACTION_TPROXY}
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
MISSING_FLAGS = {"": 0, "drop": 0, "pass": ACTION_PASS_WHEN_MISSING}
FRAGMENTS_FLAGS = {ON_DEMAND: 0, ALWAYS: ACTION_KEEP_LISTENER, DROP: ACTION_DROP_FRAGMENTS}
# The ranges of addr_kind() in bpf/lib/addr.h; ::/127 is :: and ::1.
SPECIAL_RANGES = tuple(
    Prefix.parse(text)[0]
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/127", "ff00::/8")
)
MISSING_NAMES = {flag: name for name, flag in MISSING_FLAGS.items() if name}
FRAGMENTS_NAMES = {flag: name for name, flag in FRAGMENTS_FLAGS.items()}
FRAGMENTS_MASK = ACTION_KEEP_LISTENER | ACTION_DROP_FRAGMENTS


def encode_action(rule: Rule) -> bytes:
    """Return struct action."""
    flags = _flags(rule) | _reach_flags(rule)
    return _encode(rule.action, rule.tproxy_ip, rule.tproxy_port, flags, rule.listener or 0, rule.user or 0)


@lru_cache(maxsize=4096)  # many rules, few proxies
def _encode(action: str, tproxy_ip: str, tproxy_port: int, flags: int, listener: int, user: int) -> bytes:
    return encode(
        "action",
        {
            "tproxy_ip": parse_address(tproxy_ip) if tproxy_ip else bytes(16),
            "tproxy_port": tproxy_port,
            "kind": KINDS[action],
            "flags": flags,
            "user": user,
            "listener": listener,
        },
    )


def _flags(rule: Rule) -> int:
    return MISSING_FLAGS[rule.on_missing] | FRAGMENTS_FLAGS[rule.fragments] | listener_checks(rule)


def listener_checks(rule: Rule) -> int:
    """Return the flags for what the program compares of a listener."""
    listener = 0 if rule.listener is None else ACTION_CHECK_LISTENER
    return listener | (0 if rule.user is None else ACTION_CHECK_USER)


def _reach_flags(rule: Rule) -> int:
    """Return the flags of a `tproxy` rule for one address, or for special addresses alone."""
    if rule.action != "tproxy":
        return 0
    is_special = any(rule.destination.is_within(special) for special in SPECIAL_RANGES)
    special = ACTION_SPECIAL_RANGE if is_special else 0
    if rule.destination.length != ADDRESS_BITS:
        return special
    spares = ACTION_SPARES_RESERVED if is_routers(rule.owner) and not is_special else 0
    return special | ACTION_ONE_ADDRESS | spares


class Action(NamedTuple):
    """The action of a rule in canonical form. Everything but `action` is empty unless that is tproxy."""

    action: str
    tproxy_ip: str
    tproxy_port: int
    on_missing: str
    listener: int | None
    user: int | None
    fragments: str = ON_DEMAND


@lru_cache(maxsize=4096)
def decode_action(raw: bytes) -> Action:
    """Return the action in struct action. Its `action` is "" if there is none."""
    values = decode("action", raw)
    action = KIND_NAMES.get(values["kind"], "")
    if action != "tproxy":
        return Action(action, "", values["tproxy_port"], "", None, None)
    on_missing = MISSING_NAMES[values["flags"] & ACTION_PASS_WHEN_MISSING]
    listener = values["listener"] if values["flags"] & ACTION_CHECK_LISTENER else None
    user = values["user"] if values["flags"] & ACTION_CHECK_USER else None
    fragments = FRAGMENTS_NAMES.get(values["flags"] & FRAGMENTS_MASK, "")
    address = format_address(values["tproxy_ip"])
    return Action(action, address, values["tproxy_port"], on_missing, listener, user, fragments)


# ---- the canonical rules ----------------------------------------------------------------------

HEAD = struct.Struct("<II")
SLOT = struct.Struct("<I")
# The image formats that this release reads, and the pages of interface groups in each. The journal is the same.
READABLE = {2: 1, IMAGE_FORMAT: GROUP_PAGES}
RECORD = struct.Struct("<17s17s3H3Bx5IQI")  # the members of _Record
RECORDS = {form.size: form for form in (RECORD, struct.Struct("<17s17s3H3Bx5I"))}  # format 2 ends before `listener`


class SlottedRule(NamedTuple):
    """A rule and its slot, which is the index of its action and of its counters."""

    rule: Rule
    slot: int


class ImageContents(NamedTuple):
    """The rules in an image, and the interfaces that it was compiled for.

    `rules` ascend by slot. `bindings` is {ifindex: interface group}; it differs from that of interface_groups() if an
    interface has come or gone since. `slots` is the highest slot in use + 1. `interrupted` means that the writer of a
    change was killed before its end: the rules are those before it, or those after it, and not all in force.
    """

    generation: int
    rules: list[SlottedRule]
    bindings: dict[int, int]
    pages: int
    slots: int
    interrupted: bool = False


class _Record(NamedTuple):
    """A rule; `tproxy_ip` to `interfaces` are numbers of texts. `listener` and `user` count with their flags only."""

    destination: bytes
    source: bytes
    low: int
    high: int
    tproxy_port: int
    protocol: int
    kind: int
    flags: int
    slot: int
    tproxy_ip: int
    name: int
    owner: int
    interfaces: int
    listener: int = 0
    user: int = 0


def encode_source(rules: Iterable[SlottedRule]) -> bytes:
    """Return the bytes of rules. The same rules and slots give the same bytes in any order."""
    texts: dict[str, int] = {}
    records = [_record(rule, slot, texts) for rule, slot in sorted(rules, key=lambda pair: pair[1])]
    heap = "\0".join(texts).encode("utf-8")
    return b"".join((HEAD.pack(len(records), RECORD.size), *records, heap))


def _record(rule: Rule, slot: int, texts: dict[str, int]) -> bytes:
    """Return one record. A new text is added to `texts`, {text: number}."""
    named = (rule.tproxy_ip, rule.name, rule.owner, "/".join(rule.interfaces))
    return RECORD.pack(
        _prefix_bytes(rule.destination),
        _prefix_bytes(rule.source),
        rule.low,
        rule.high,
        rule.tproxy_port,
        protocol_number(rule.protocol),
        KINDS[rule.action],
        _flags(rule),
        slot,
        *[texts.setdefault(text, len(texts)) for text in named],
        rule.listener or 0,
        rule.user or 0,
    )


def _prefix_bytes(prefix: Prefix) -> bytes:
    return (prefix.network << 8 | prefix.length).to_bytes(17, "big")


def decode_source(source: bytes) -> list[SlottedRule]:
    """Return the rules. Raise LayoutMismatch if another release wrote the records."""
    count, size = HEAD.unpack_from(source)
    form = RECORDS.get(size)
    if form is None:
        raise LayoutMismatch(f"the rules in the image have records of {size} bytes, this release has {RECORD.size}")
    end = HEAD.size + count * size
    texts = source[end:].decode("utf-8").split("\0")
    interfaces = [tuple(text.split("/")) if text else () for text in texts]
    prefixes = _Prefixes()
    return [
        _rule(_Record(*record), prefixes, texts, interfaces) for record in form.iter_unpack(source[HEAD.size : end])
    ]


class _Prefixes(dict[bytes, Prefix]):
    """{17 bytes: Prefix}, because many rules have the same ones."""

    def __missing__(self, raw: bytes) -> Prefix:
        number = int.from_bytes(raw, "big")
        prefix = self[raw] = Prefix(number >> 8, number & 0xFF)
        return prefix


def _rule(
    record: _Record, prefixes: _Prefixes, texts: Sequence[str], interfaces: Sequence[tuple[str, ...]]
) -> SlottedRule:
    action = KIND_NAMES[record.kind]
    rule = Rule(
        prefixes[record.destination],
        prefixes[record.source],
        protocol_name(record.protocol),
        record.low,
        record.high,
        interfaces[record.interfaces],
        action,
        texts[record.tproxy_ip],
        record.tproxy_port,
        MISSING_NAMES[record.flags & ACTION_PASS_WHEN_MISSING] if action == "tproxy" else "",
        texts[record.name],
        texts[record.owner],
        record.listener if record.flags & ACTION_CHECK_LISTENER else None,
        record.user if record.flags & ACTION_CHECK_USER else None,
        FRAGMENTS_NAMES[record.flags & FRAGMENTS_MASK],
    )
    return SlottedRule(rule, record.slot)


def read_image(image: Buffer) -> ImageContents:
    """Return the rules in an image, any buffer of whole words.

    Raise LayoutMismatch for the image of another release, VerificationFailed for a damaged one.
    """
    data = memoryview(image).cast("B")
    if len(data) < PAGE_BYTES:
        raise VerificationFailed(f"an image has at least {PAGE_BYTES} bytes, this one has {len(data)}")
    header = data[:PAGE_BYTES].cast("I")
    if header[HEADER_MAGIC] != IMAGE_MAGIC or header[HEADER_FORMAT] not in READABLE:
        raise LayoutMismatch(
            f"the image has magic {header[HEADER_MAGIC]:#x} and format {header[HEADER_FORMAT]}, this release reads"
            f" {IMAGE_MAGIC:#x} and {IMAGE_FORMAT}; attach the program again to start with a new image"
        )
    rules = decode_source(_checked_source(data, header))
    if len(rules) != header[HEADER_RULES]:
        raise VerificationFailed(f"the image's header counts {header[HEADER_RULES]} rules, it holds {len(rules)}")
    rules = _replay(data.cast("I"), rules, header[HEADER_JOURNAL], header[HEADER_JOURNAL_END])
    group_pages = READABLE[header[HEADER_FORMAT]]
    pairs = data[PAGE_BYTES : (1 + group_pages) * PAGE_BYTES].cast("I").tolist()
    shift = GROUP_PAGES - group_pages  # the number of a group is a page behind these
    bindings = {ifindex: group + shift for ifindex, group in zip(pairs[0::2], pairs[1::2]) if ifindex}
    slots = 1 + max((slot for _rule, slot in rules), default=0)
    interrupted = bool(header[HEADER_CHANGING])
    return ImageContents(header[HEADER_GENERATION], rules, bindings, header[HEADER_PAGES], slots, interrupted)


def _checked_source(data: memoryview, header: Sequence[int]) -> bytes:
    """Return the bytes of the canonical rules. Raise VerificationFailed if they do not have their checksum."""
    start, size = 4 * header[HEADER_SOURCE], header[HEADER_SOURCE_BYTES]
    source = bytes(data[start : start + size])
    if len(source) != size or size < HEAD.size or zlib.crc32(source) != header[HEADER_SOURCE_CRC]:
        raise VerificationFailed(
            f"the rules in the image ({size} bytes from word {header[HEADER_SOURCE]}) do not have their checksum;"
            " the image is damaged: commit the rules again"
        )
    return source


# ---- the journal ------------------------------------------------------------------------------


def encode_entry(slot: int, rule: Rule | None) -> array[int]:
    """Return the words of one entry of the journal, its length first."""
    payload = SLOT.pack(slot) + (encode_source([SlottedRule(rule, slot)]) if rule else b"")
    entry = array("I", (len(payload), zlib.crc32(payload)))
    entry.frombytes(payload.ljust(-(-len(payload) // 4) * 4, b"\0"))
    return entry


def _replay(words: Sequence[int], rules: list[SlottedRule], start: int, end: int) -> list[SlottedRule]:
    """Return the rules after the changes in the journal, by ascending slot."""
    if not start or not words[start]:
        return rules
    by_slot = {slot: rule for rule, slot in rules}
    for slot, rule in _entries(words, start, end):
        if rule is None:
            by_slot.pop(slot, None)
        else:
            by_slot[slot] = rule
    return [SlottedRule(rule, slot) for slot, rule in sorted(by_slot.items())]


def _entries(words: Sequence[int], at: int, end: int) -> Iterator[tuple[int, Rule | None]]:
    """Yield (slot, rule); no rule frees the slot."""
    while at < end and words[at]:
        size, first = words[at], at + 2
        last = first + -(-size // 4)
        payload = array("I", words[first:last]).tobytes()[:size] if last <= end else b""
        if len(payload) != size or size < SLOT.size or zlib.crc32(payload) != words[at + 1]:
            raise VerificationFailed(
                f"a change of the rules in the image (word {at}) does not have its checksum;"
                " the image is damaged: commit the rules again"
            )
        rules = decode_source(payload[SLOT.size :]) if size > SLOT.size else []
        yield SLOT.unpack_from(payload)[0], rules[0].rule if rules else None
        at = last


# ---- slots ------------------------------------------------------------------------------------


def assign_slots(rules: Iterable[Rule], previous: Mapping[Identity, int]) -> dict[Identity, int]:
    """Return {identity: slot}, slots 1 to RULES. Raise LimitExceeded if there are more rules than slots.

    An identity keeps its slot, so that its counters go on. A new one gets the lowest slot that `previous` does not use,
    because packets are counted under the old image until the new one is in force. Slots that this change frees are used
    again only if all others are in use.
    """
    identities = [rule.identity for rule in rules]
    if len(identities) > RULES:
        raise LimitExceeded("rules", len(identities), RULES, "nothing was changed")
    slots = {identity: previous[identity] for identity in identities if identity in previous}
    free = _free_slots(set(previous.values()), set(slots.values()))
    for identity in identities:
        if identity not in slots:
            slots[identity] = next(free)
    return slots


def _free_slots(used: set[int], kept: set[int]) -> Iterator[int]:
    """Yield the slots without a rule, then those that lose their rule now, the lowest first."""
    yield from (slot for slot in range(1, RULES + 1) if slot not in used)
    yield from sorted(used - kept)
