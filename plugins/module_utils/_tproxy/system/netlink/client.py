# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to rtnetlink: interfaces, addresses, clsact, filters, policy routing.

It speaks ints, bytes and str, shows what is there and does what it is told; it never decides what should be there.

1. Every request goes through _exchange; every refusal becomes KernelRefused, with the kernel's own words.
2. add_* and delete_* return whether they changed anything: what is there already, or gone already, is no fault.
3. The kernel filters what it lists (NETLINK_GET_STRICT_CHK, Linux 4.20): no full BGP table is read for one route.
4. A listing that changed while it was read is read again; a half one is never returned.
5. Nothing is said of an interface that has vanished: KernelRefused, not an empty list.
"""

from __future__ import annotations

import errno
import os

from ...errors import Conflict, KernelRefused
from .answers import (
    Address,
    Filter,
    Link,
    Qdisc,
    Route,
    RouteRule,
    read_address,
    read_filter,
    read_link,
    read_qdisc,
    read_route,
    read_rule,
)
from .request_socket import Interrupted, Refusal, RequestSocket
from .requests import (
    DUMP,
    GETADDR,
    GETLINK,
    GETQDISC,
    GETROUTE,
    GETRULE,
    REQUEST,
    Request,
    add_clsact,
    add_local_default,
    add_rule,
    delete_clsact,
    delete_filter,
    delete_local_default,
    delete_rule,
    list_filters,
    replace_filter,
    route_request,
)

__all__ = ["Address", "Filter", "Link", "Netlink", "Qdisc", "Route", "RouteRule"]

DUMP_ATTEMPTS = 10
SKIP_STATISTICS = 0x8  # RTEXT_FILTER_SKIP_STATS
SHARED_BLOCK = -1  # TCM_IFINDEX_MAGIC_BLOCK: the ifindex of a filter that several interfaces share


class Netlink:
    """An open rtnetlink socket in the network namespace of the calling thread; a context manager.

    Raises MissingLibrary without pyroute2, KernelRefused when the kernel gives no socket.
    """

    def __init__(self) -> None:
        try:
            self._socket = RequestSocket()
        except OSError as refusal:
            raise KernelRefused(refusal.errno, "open", "an rtnetlink socket") from refusal

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_fault) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ---- interfaces and addresses ---------------------------------------------------

    def interfaces(self) -> list:
        """Return a Link for every interface of the namespace."""
        attributes = (("IFLA_EXT_MASK", SKIP_STATISTICS),)
        return [read_link(message) for message in self._list(Request(GETLINK, "list", "interfaces", {}, attributes))]

    def link(self, name: str) -> Link | None:
        """Return the interface of this name, or None. The kernel is asked for this one only."""
        if not name.isprintable():  # bytes of a command line that are no UTF-8 among them: pyroute2 encodes none
            return None
        request = Request(GETLINK, "look up", f"interface {name}", {}, (("IFLA_IFNAME", name),))
        # ERANGE: longer than the 15 bytes that a name can have
        found = self._send(request, but=(errno.ENODEV, errno.ERANGE))
        return read_link(found[0]) if found else None

    def addresses(self, ifindex: int | None = None) -> list:
        """Return an Address for every address of the interface, or of all: secondary and host-scope ones included."""
        request = Request(GETADDR, "list", "addresses of {interface}", {"index": ifindex or 0})
        return [read_address(message) for message in self._list(request)]

    # ---- clsact and filters -----------------------------------------------------------

    def qdiscs(self, ifindex: int) -> list:
        """Return a Qdisc for every queueing discipline of the interface."""
        request = Request(GETQDISC, "list", "queueing disciplines of {interface}", {"index": ifindex})
        return [read_qdisc(message) for message in self._list(request)]

    def has_clsact(self, ifindex: int) -> bool:
        """Return whether the interface has clsact, whoever made it."""
        return any(qdisc.kind == "clsact" for qdisc in self.qdiscs(ifindex))

    def add_clsact(self, ifindex: int) -> bool:
        """Add clsact; return whether it was missing. Raises Conflict where a plain ingress qdisc has its place."""
        if self._send(add_clsact(ifindex), but=(errno.EEXIST,)) is not None:
            return True
        if not self.has_clsact(ifindex):
            name = self._name(ifindex)
            raise Conflict(f"{name} has a plain ingress qdisc where clsact belongs: its owner must delete it")
        return False

    def delete_clsact(self, ifindex: int) -> bool:
        """Delete clsact with every filter on it, anybody's; return whether it was there."""
        return self.has_clsact(ifindex) and self._send(delete_clsact(ifindex), but=(errno.ENOENT,)) is not None

    def filters(self, ifindex: int, direction: str) -> list:
        """Return a Filter for every filter of any kind on the hook ("ingress", "egress"), in the order they run."""
        found = [read_filter(message) for message in self._list(list_filters(ifindex, direction))]
        return [entry for entry in found if entry]

    def replace_filter(
        self, ifindex: int, direction: str, priority: int, handle: int, program_fd: int, name: str
    ) -> None:
        """Attach a program, direct-action, protocol all, in one request.

        The bpf filter that has this priority and handle is replaced in place: every packet meets the one or the other.
        The hook must have clsact: a plain ingress qdisc takes an egress filter too, and runs it on ingress (tried).
        """
        self._send(replace_filter((ifindex, direction), (priority, handle), program_fd, name))

    def delete_filter(self, ifindex: int, direction: str, priority: int, handle: int) -> bool:
        """Delete the bpf filter that has this priority and handle; return whether it was there."""
        there = {(entry.kind, entry.priority, entry.handle) for entry in self.filters(ifindex, direction)}
        request = delete_filter((ifindex, direction), (priority, handle))
        return ("bpf", priority, handle) in there and self._send(request, but=(errno.ENOENT,)) is not None

    # ---- policy routing ---------------------------------------------------------------

    def rules(self, family: int) -> list:
        """Return a RouteRule for every policy rule of AF_INET or AF_INET6, in the order they are tried."""
        request = Request(GETRULE, "list", "policy rules", {"family": family})
        return [read_rule(message) for message in self._list(request, but=(errno.EAFNOSUPPORT,))]

    def add_rule(self, rule: RouteRule) -> bool:
        """Add a plain policy rule; return whether it was missing. Raises Conflict if the kernel sees another in it."""
        if self._send(add_rule(rule), but=(errno.EEXIST,)) is not None:
            return True
        if rule not in self.rules(rule.family):
            raise _confused(rule)
        return False

    def delete_rule(self, rule: RouteRule) -> bool:
        """Delete a plain policy rule; return whether it was there. Raises Conflict if the kernel could take another."""
        there = self.rules(rule.family)
        if rule not in there:
            return False
        if rule._replace(plain=False) in there:
            raise _confused(rule)
        return self._send(delete_rule(rule), but=(errno.ENOENT,)) is not None

    def routes(self, table: int, family: int) -> list:
        """Return a Route for every route of a table; none where there is no such table."""
        request = Request(GETROUTE, "list", f"routes of table {table}", {"family": family}, (("RTA_TABLE", table),))
        found = [read_route(message) for message in self._list(request, but=(errno.ENOENT,))]
        # a kernel without IPv6 answers with the routes of the families that it has
        return [route for route in found if route.family == family]

    def route_to(self, destination: str, source: str) -> Route | None:
        """Return the route by which this host answers `destination` from its own address `source`, None without one."""
        request = route_request(destination, source)
        found = self._send(request, but=(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL))
        return read_route(found[0]) if found else None

    def local_default(self, table: int, family: int) -> bool:
        """Return whether the table holds `local default dev lo`."""
        return any(route.local_default for route in self.routes(table, family))

    def add_local_default(self, table: int, family: int) -> bool:
        """Add `local default dev lo`, which delivers all that reaches the table; return whether it was missing.

        Raises Conflict where another default route has its place.
        """
        if self._send(add_local_default(table, family), but=(errno.EEXIST,)) is not None:
            return True
        if not self.local_default(table, family):
            raise Conflict(f"table {table} has another default route: choose another table, or delete that route")
        return False

    def delete_local_default(self, table: int, family: int) -> bool:
        """Delete `local default dev lo`; return whether it was there."""
        gone = (errno.ENOENT, errno.ESRCH)
        return self.local_default(table, family) and self._send(delete_local_default(table, family), gone) is not None

    # ---- the socket ---------------------------------------------------------------------

    def _list(self, request: Request, but: tuple = ()) -> list:
        """Return the messages of a listing, of the one interface that the request names if it names one."""
        request, index = request._replace(flags=DUMP), request.fields.get("index")
        for _attempt in range(DUMP_ATTEMPTS):
            try:
                found = self._send(request, but) or []
            except Interrupted:
                continue
            return self._own(request, found, index) if index else found
        raise self._refused(request, errno.EINTR, f"it changed {DUMP_ATTEMPTS} times while it was read")

    def _own(self, request: Request, found: list, index: int) -> list:
        """Return the messages of one interface: not every listing is filtered, and a vanished one is empty."""
        own = [message for message in found if message["index"] in (index, SHARED_BLOCK)]
        if not own and not self._name(index):
            raise self._refused(request, errno.ENODEV, "")
        return own

    def _send(self, request: Request, but: tuple = ()) -> list | None:
        """Return the answers, or None when the kernel refuses with an errno of `but`. Raises KernelRefused."""
        try:
            return self._exchange(request)
        except Refusal as refusal:
            if refusal.errno in but:
                return None
            raise self._refused(request, refusal.errno, refusal.words) from refusal

    def _exchange(self, request: Request) -> list:
        """Send one request and return its answers. Raises Refusal, Interrupted."""
        return self._socket.exchange(request.type, REQUEST | request.flags, request.fields, request.attributes)

    def _name(self, ifindex: int) -> str:
        """Return the name of an interface, "" when there is none."""
        try:
            found = self._exchange(Request(GETLINK, "look up", f"interface {ifindex}", {"index": ifindex}))
        except Refusal:
            return ""
        return read_link(found[0]).name

    def _refused(self, request: Request, code: int, words: str) -> KernelRefused:
        """Return the error: operation, object, and the kernel's words where they say more than the errno."""
        index = request.fields.get("index")
        name = self._name(index) if index else "all interfaces"
        if not name:
            name, words = f"interface {index}", f"interface {index} has vanished"
        told = f" ({words})" if words not in ("", os.strerror(code)) else ""
        return KernelRefused(code, request.operation, request.subject.replace("{interface}", name) + told)


def _confused(rule: RouteRule) -> Conflict:
    """Return the error for a rule like ours: net/core/fib_rules.c compares no more than what a request names."""
    return Conflict(
        f"policy rule at priority {rule.priority} (iif {rule.iif}, table {rule.table}): another rule has the same"
        " fields and further selectors, and the kernel cannot tell the two apart; give one of them another priority"
    )
