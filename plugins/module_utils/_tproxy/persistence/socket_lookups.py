# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The watcher's care for packets that lose their assigned socket (resources/socket_lookup.py).

It attaches the program for socket lookups when a packet of an intercept came in fragments, when an interface has a
packet socket, or for a rule with `fragments: always`. It then looks for each listener that packets need, and for those
of such rules. A listener that closed, and is there again, is wanted again by the next packet, or by its rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from ..errors import KernelRefused, TproxyError
from ..model.rule import Rule
from ..resources.pins import Pins, splicer_pins
from ..resources.programs import Programs
from ..resources.socket_lookup import SocketLookup, WantedListener, kept_listeners, listening
from ..system.system import System

AGAIN_NS = 5 * 10**9  # until it looks again for a listener that it did not find: it reads the descriptors of all
AFTER_FAULT_NS = 60 * 10**9  # an older kernel refuses the program each time


class SocketLookups:
    """The state between two looks: when each listener was not found, and the end of the rest behind a fault."""

    def __init__(self, system: System, pin_dir: str) -> None:
        self._system, self._pin_dir = system, pin_dir
        self._missed: dict[bytes, int] = {}
        self._rests_until = 0
        self._rules: tuple[Rule, ...] = ()
        self._kept: dict[bytes, WantedListener] = {}

    def keep(self, rules: tuple[Rule, ...]) -> None:
        """Keep the listeners of the rules with `fragments: always`, in place of those of other rules before."""
        if rules is not self._rules:
            self._rules, self._kept = rules, kept_listeners(rules)

    def have_work(self, ifindexes: Iterable[int]) -> bool:
        """Return whether a listener is wanted, or packets need the program, which is not attached."""
        with suppress(TproxyError), splicer_pins(self._system.bpf, self._system.bpffs, self._pin_dir) as pins:
            lookup = SocketLookup(self._system.bpf, pins)
            if self._rests() or not lookup.is_possible:
                return False
            return bool(self._due(lookup)) or (not lookup.is_attached() and self._is_needed(lookup, ifindexes))
        return False

    def work(self, ifindexes: Iterable[int]) -> Iterator[str]:
        """Attach the program if it is needed, and put the wanted listeners. Yield a line for each change or failure."""
        with splicer_pins(self._system.bpf, self._system.bpffs, self._pin_dir) as pins:
            lookup = SocketLookup(self._system.bpf, pins)
            if self._rests() or not lookup.is_possible:
                return
            try:
                due = self._due(lookup)
                if due or lookup.is_attached() or self._is_needed(lookup, ifindexes):
                    yield from self._attach(lookup, pins)
                    self._put(lookup, due)
            except TproxyError as fault:
                self._rests_until = self._system.background.monotonic_ns() + AFTER_FAULT_NS
                yield f"intercepted packets that lose their socket are dropped: {fault}"

    def _rests(self) -> bool:
        return self._system.background.monotonic_ns() < self._rests_until

    def _attach(self, lookup: SocketLookup, pins: Pins) -> Iterator[str]:
        programs = Programs(self._system.bpf, pins)
        meta = programs.meta()
        if meta is None or lookup.runs(meta["identity"].hex()):
            return
        blob = programs.blob()
        if blob is None:
            return
        lookup.attach(blob)
        yield "the program for socket lookups is attached: intercepted packets reach their listener in fragments too"

    def _put(self, lookup: SocketLookup, due: dict[bytes, WantedListener]) -> None:
        now, inodes = self._system.background.monotonic_ns(), listening(self._system.sockets, due)
        with self._system.sockets.duplicates(inodes.values()) as descriptors:
            for key in due:
                descriptor = descriptors.get(inodes.get(key, 0))
                if descriptor is None:
                    self._missed[key] = now
                else:
                    with suppress(KernelRefused):  # closed meanwhile: the next packet wants it again
                        lookup.put(key, descriptor)
                lookup.forget_wanted(key)

    def _due(self, lookup: SocketLookup) -> dict[bytes, WantedListener]:
        since = self._system.background.monotonic_ns() - AGAIN_NS
        self._missed = {key: missed for key, missed in self._missed.items() if missed > since}
        kept = {key: self._kept[key] for key in lookup.missing(self._kept)}
        return {key: each for key, each in {**kept, **lookup.wanted()}.items() if key not in self._missed}

    def _is_needed(self, lookup: SocketLookup, ifindexes: Iterable[int]) -> bool:
        """Return whether packets already depend on the program: its link was lost, or a packet socket takes them."""
        return lookup.has_listeners() or self._has_packet_socket(ifindexes)

    def _has_packet_socket(self, ifindexes: Iterable[int]) -> bool:
        return any(self._system.sysctl.packet_sockets(ifindex) for ifindex in ifindexes)
