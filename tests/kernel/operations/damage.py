# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage to a router by other programs, and by runs that are killed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    ACTION_WORDS,
    HEADER_ACTIONS,
    HEADER_SOURCE,
    INTERFACES,
    LAYOUT,
    PAGE_WORDS,
    POLICY_DEFAULT_PASS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.saved_state import encode_closed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.fail_closed import close_interfaces
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.current_state import (
    CurrentState,
    observe_state,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, mapped_array
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN


def ifindex_of(router) -> int:
    return router.netns.judge(f"ip link show dev {LAN}")[0]["ifindex"]


def put_filter(router, descriptor: int, name: str) -> None:
    with Netlink() as netlink:
        netlink.replace_filter(ifindex_of(router), "ingress", 10, 1, descriptor, name)


def has_tcx() -> bool:
    """Return whether this kernel has TCX."""
    return bpf.tcx_programs(1, "ingress") is not None


def tcx_programs(ifindex: int, direction: str = "ingress") -> list:
    """Return the kernel's names of the TCX programs of a hook."""
    listed, found = bpf.tcx_programs(ifindex, direction), []
    for number in listed.ids if listed else ():
        descriptor = bpf.program_by_id(number)
        found.append(bpf.program_info(descriptor).name)
        os.close(descriptor)
    return found


def detach_tcx(ifindex: int, direction: str = "ingress") -> None:
    """Detach every TCX program, as `bpftool net detach` does."""
    for number in bpf.tcx_programs(ifindex, direction).ids:
        descriptor = bpf.program_by_id(number)
        bpf.detach_tcx(ifindex, direction, descriptor, 0)
        os.close(descriptor)


def lose_program(router) -> None:
    """Detach our program, from TCX or from clsact."""
    if router.info()["attachments"][0]["hook"] == "tcx":
        detach_tcx(ifindex_of(router))
    else:
        router.netns.run(f"tc filter delete dev {LAN} ingress")


def attach_twice(router) -> None:
    """Attach the program as a filter, too, as a run that is killed in the middle of a move does."""
    descriptor = bpf.open_pin(pin(router, "program"))
    router.netns.run(f"tc qdisc add dev {LAN} clsact")
    put_filter(router, descriptor, name_of_ours(router))
    os.close(descriptor)


def close(router) -> None:
    """Take the program away, and close the interface as a boot does that cannot read the saved state."""
    system = router.system()
    with system.netlink() as netlink, splicer_pins(system.bpf, system.bpffs, router.pin_dir) as pins:
        state = observe_state(CurrentState(system, lambda: netlink, pins), router.pin_dir)
    lose_program(router)
    close_interfaces(encode_closed(state), system)


def name_of_ours(router) -> str:
    return router.info()["attachments"][0]["name"]


def pin(router, name: str) -> str:
    return f"{router.pin_dir}/v{LAYOUT}/{name}"


def edit_map(router, name: str, change: Callable[[bytearray], None]) -> None:
    """Change the entry of lan0 as an operator with bpftool would."""
    struct_name = {"policy": "policy", "ifindex_ip_map": "interface_addresses"}[name]
    descriptor, size = bpf.open_pin(pin(router, name)), structs.size_of(struct_name)
    key = structs.key(ifindex_of(router) % INTERFACES)
    raw = bytearray(bpf.lookup(descriptor, key, size))
    change(raw)
    bpf.update(descriptor, key, bytes(raw), name)
    os.close(descriptor)


@contextmanager
def image_in_force(router):
    """Give the words of the image in force, writable."""
    outer = bpf.open_pin(pin(router, "image"))
    inner = bpf.map_by_id(struct.unpack("=I", bpf.lookup(outer, structs.key(0), 4))[0])
    size = 4 * PAGE_WORDS * bpf.map_info(inner).entries
    with bpf.mapped_memory(inner, size, True) as memory, memoryview(memory) as raw, raw.cast("I") as words:
        yield words
    os.close(inner)
    os.close(outer)


def edit_image(router, word: int, value: int) -> None:
    """Change one word of the image in force, counted from its rules if it is negative."""
    with image_in_force(router) as words:
        words[word if word >= 0 else words[HEADER_SOURCE] - word] = value


def change_in_place(router, host: int, written: Callable = mapped_array.store) -> None:
    """Let a helper add a rule of a service; `written` stores its words."""
    call = f"-I -c 100.64.0.{host} -m 32 -p udp -o 0.0.0.0 -n 0 -l 80 -h 89 -t 4000 -s s{host}".split()
    system = router.system()
    helper = Helper(router.pin_dir, replace(system, words=SimpleNamespace(store=written)))
    assert helper.answer("\0".join(call).encode(), 0) == (0, "", True)


def edit_what_changed_in_place(router) -> None:
    """Let a helper change the image, then give one of its rules another port by hand."""
    change_in_place(router, 1)
    change_in_place(router, 2)
    with image_in_force(router) as words:
        words[words[HEADER_ACTIONS] * PAGE_WORDS + ACTION_WORDS + 4] ^= 1


def kill_a_helper(router) -> None:
    """Let a helper end in the middle of a change."""
    change_in_place(router, 1)
    change_in_place(router, 2, lambda memory, begin, fresh, flips: mapped_array.store(memory, begin, fresh, flips[:1]))


def replace_image(router) -> None:
    """Put an empty image in the place of the one in force."""
    outer = bpf.open_pin(pin(router, "image"))
    old = bpf.map_by_id(struct.unpack("=I", bpf.lookup(outer, structs.key(0), 4))[0])
    new = bpf.create_map(bpf.map_info(old).shape, "pages")
    bpf.update(outer, structs.key(0), struct.pack("=I", new))
    for descriptor in (outer, old, new):
        os.close(descriptor)


def make_again(router) -> None:
    """Delete the interface, and make it anew under another index."""
    router.netns.run(f"ip link delete {LAN}")
    router.netns.run(f"ip link add {LAN} index 4711 type veth peer name {LAN}-peer")
    router.netns.run(f"ip address add {OWN}/24 dev {LAN}")
    router.netns.run(f"ip link set {LAN} up")


def forget(raw: bytearray) -> None:
    raw[:] = bytes(len(raw))


def spoil(raw: bytearray) -> None:
    struct.pack_into("=I", raw, structs.STRUCTS["policy"][1]["management_count"][0], 99)


def open_up(raw: bytearray) -> None:
    raw[structs.STRUCTS["policy"][1]["flags"][0]] |= POLICY_DEFAULT_PASS
