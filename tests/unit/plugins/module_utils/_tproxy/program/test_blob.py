# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Program blobs: encoding is lossless, damage is refused, and the same input has the same identity."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import LAYOUT, MAPS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import (
    blob_from_json,
    blob_from_object,
    program_identity,
    source_digest,
)

MOV = struct.pack("=BBhi", 0xB7, 0, 0, 0)
EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
SHAPES = {slot: [name, list(shape)] for name, (slot, shape) in MAPS.items()}
POLICY, IMAGE = MAPS["policy"][0], MAPS["image"][0]


def load(immediate: int, source: int = 1, register: int = 2) -> bytes:
    """Return LD_IMM64: source register 1 says that the number is a map's descriptor, 0 that it is a number."""
    return struct.pack("=BBhiBBhi", 0x18, source << 4 | register, 0, immediate, 0, 0, 0, 0)


def compiled(code: bytes, maps: dict | None = None) -> dict:
    """Return the answer of the compiler's process, decoded from JSON."""
    answer = {"instructions": base64.b64encode(code).decode(), "maps": SHAPES if maps is None else maps}
    return json.loads(json.dumps({**answer, "compiler": "bcc 0.26.0"}))


CODE = load(POLICY) + MOV + load(IMAGE) + load(POLICY, source=0) + load(POLICY) + EXIT


@pytest.fixture
def blob():
    return blob_from_object(compiled(CODE), "tproxy_splicer", "ab" * 32)


def test_places_of_descriptors_are_found_and_numbers_are_left_alone(blob):
    assert blob.relocations == ((0, "policy"), (3, "image"), (7, "policy"))
    assert set(blob.maps) == {"policy", "image"}
    assert blob.count == 10


def test_descriptors_are_put_in_place(blob):
    assert blob.bind({"policy": 5, "image": 7}) == load(5) + MOV + load(7) + load(POLICY, source=0) + load(5) + EXIT
    assert blob.instructions == CODE


def test_a_blob_survives_its_way_through_a_file(blob):
    assert blob_from_json(blob.to_json()) == blob
    assert blob_from_json(blob.to_json()).to_json() == blob.to_json()


def test_a_blob_tells_its_layout_only_when_it_uses_ours(blob):
    assert blob.is_splicer and json.loads(blob.to_json())["layout"] == LAYOUT
    other = blob_from_object(compiled(load(5) + EXIT, {5: ["counts", [2, 4, 8, 2, 0]]}), "count", "ab" * 32)
    assert not other.is_splicer and json.loads(other.to_json())["layout"] is None
    bare = blob_from_object(compiled(EXIT), "drop_all", "ab" * 32)
    assert not bare.is_splicer and bare.maps == {}


def test_a_map_of_our_name_and_another_shape_is_not_ours():
    other = blob_from_object(compiled(load(5) + EXIT, {5: ["policy", [2, 4, 8, 2, 0]]}), "tproxy_splicer", "ab" * 32)
    assert not other.is_splicer


# ---- identity -------------------------------------------------------------------------------------

FILES = {"a.c": "int f;", "b.h": ""}
SAME = source_digest(FILES, "a.c", "f", {"N": 1})


@pytest.mark.parametrize(
    "digest",
    [
        source_digest({**FILES, "a.c": "int g;"}, "a.c", "f", {"N": 1}),
        source_digest({**FILES, "c.h": ""}, "a.c", "f", {"N": 1}),
        source_digest({"a.c": "int f;"}, "a.c", "f", {"N": 1}),
        source_digest(FILES, "b.h", "f", {"N": 1}),
        source_digest(FILES, "a.c", "g", {"N": 1}),
        source_digest(FILES, "a.c", "f", {"N": 2}),
        source_digest(FILES, "a.c", "f", {"M": 1}),
        source_digest(FILES, "a.c", "f", {}),
    ],
    ids=["text", "more-files", "fewer-files", "entry", "function", "value", "name", "no-define"],
)
def test_whatever_is_compiled_makes_another_digest(digest):
    assert digest != SAME


def test_order_and_type_of_a_define_make_no_other_digest():
    assert source_digest(dict(reversed(FILES.items())), "a.c", "f", {"N": "1"}) == SAME


def test_the_compiler_makes_another_identity():
    assert program_identity(SAME, "bcc 0.26.0") != program_identity(SAME, "bcc 0.29.0")
    assert program_identity(SAME, "bcc 0.26.0") == program_identity(SAME, "bcc 0.26.0") != SAME


# ---- damage -------------------------------------------------------------------------------------------


def changed(blob, **members) -> str:
    return json.dumps({**json.loads(blob.to_json()), **members})


@pytest.mark.parametrize(
    "members",
    [
        {"function": "other"},
        {"instructions": base64.b64encode(CODE[8:]).decode()},
        {"relocations": [[0, "policy"]]},
        {"source_sha256": "cd" * 32},
        {"compiler": "bcc 0.29.0"},
        {"identity": "00" * 32},
        {"format": 2},
        {"digest": "00" * 32},
    ],
    ids=lambda members: next(iter(members)),
)
def test_a_changed_blob_is_refused(blob, members):
    with pytest.raises(InvalidInput, match=r"^blob: its digest or format does not fit its contents"):
        blob_from_json(changed(blob, **members))


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", "null", "7", '{"digest": 1}', '{"digest": 1, "function": 2}']
)
def test_what_is_no_blob_is_refused(text):
    with pytest.raises(InvalidInput, match=r"^blob: this is no program blob"):
        blob_from_json(text)


def test_base64_with_strangers_in_it_is_refused(blob):
    with pytest.raises(InvalidInput, match=r"^blob: this is no program blob"):
        blob_from_json(changed(blob, instructions="$$$$"))


def test_a_blob_of_another_layout_is_refused(blob, monkeypatch):
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program import blob as blob_module

    text = blob.to_json()
    monkeypatch.setattr(blob_module, "LAYOUT", LAYOUT + 1)
    with pytest.raises(InvalidInput, match=f"built for map layout {LAYOUT}, this release has layout {LAYOUT + 1}"):
        blob_from_json(text)
