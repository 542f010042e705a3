# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to rtnetlink: interfaces, addresses, clsact, filters, policy routing.

It uses ints, bytes and str. It reports the kernel's state and makes single changes, and its callers decide on them.

1. Every request goes through _send. Every refusal becomes KernelRefused, with the kernel's own message.
2. add_* and delete_* return whether they changed anything. An existing or missing object is no error.
3. The kernel filters its listings (NETLINK_GET_STRICT_CHK, Linux 4.20), so one route needs no listing of a BGP table.
4. A listing that changed in between is read again. Callers never get a part of a listing.
5. A question about a vanished interface raises KernelRefused. It never returns an empty list.
6. pyroute2 encodes requests and decodes answers, and nothing else of it is used. Its message classes are the same from
   0.5.14 to 0.9.7. Its sockets are not: options, methods, errors and threads differ from release to release.

Numbers are those of include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence

from ...errors import Conflict, KernelRefused, kernel_refusals
from . import messages
from .library import class_of
from .messages import Address, Answer, Filter, FilterIdentity, Link, Qdisc, Request, Route, RouteRule
from .wire import (
    HEADER,
    NLM_F_ACK_TLVS,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    attributes,
    error_number,
    split,
)

DUMP_ATTEMPTS = 10
SKIP_STATISTICS = 0x8  # RTEXT_FILTER_SKIP_STATS
HOOK_QDISCS = ("clsact", "ingress")
IPV6_PRIORITY = 1024
SHARED_BLOCK = -1  # TCM_IFINDEX_MAGIC_BLOCK: the ifindex of a filter that several interfaces share

NLMSGERR_ATTR_MSG = 1
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
RECEIVE_BYTES = 1 << 20
ERRNO_BYTES = 4


class Netlink:
    """An open rtnetlink socket in the network namespace of the calling thread; a context manager.

    Raises MissingLibrary without pyroute2, KernelRefused when the kernel gives no socket. Each method raises
    KernelRefused. A direction is "ingress" or "egress", a family is AF_INET or AF_INET6.
    """

    def __init__(self) -> None:
        with kernel_refusals("open", "an rtnetlink socket"):
            self._socket = RequestSocket()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ---- interfaces and addresses ---------------------------------------------------

    def interfaces(self) -> list[Link]:
        """Return every interface of the namespace."""
        request = Request(messages.RTM_GETLINK, "list", "interfaces", {}, (("IFLA_EXT_MASK", SKIP_STATISTICS),))
        return [messages.read_link(answer) for answer in self._list(request)]

    def link(self, name: str) -> Link | None:
        """Return the interface of this name, or None. The request is for this one interface."""
        if not name.isprintable():  # pyroute2 cannot encode bytes of a command line that are not UTF-8
            return None
        request = Request(messages.RTM_GETLINK, "look up", f"interface {name}", {}, (("IFLA_IFNAME", name),))
        # The kernel answers ERANGE for a name of more than 15 bytes.
        found = self._send(request, but=(errno.ENODEV, errno.ERANGE))
        return messages.read_link(found[0]) if found else None

    def addresses(self, ifindex: int | None = None) -> list[Address]:
        """Return every address of one interface or of all, with secondary and host-scope ones."""
        request = Request(messages.RTM_GETADDR, "list", "addresses of {interface}", {"index": ifindex or 0})
        return [messages.read_address(answer) for answer in self._list(request)]

    def forwarding(self, ifindex: int) -> list[bytes]:
        """Return the remote ends to which a VXLAN forwards, each once: 16 bytes, IPv4 mapped."""
        answers = self._list(messages.list_forwarding(ifindex), but=(errno.ENODEV,))
        found = (messages.read_forwarding(answer) for answer in answers if answer["ifindex"] == ifindex)
        return list(dict.fromkeys(remote for remote in found if remote))

    # ---- clsact and filters -----------------------------------------------------------

    def qdiscs(self, ifindex: int) -> list[Qdisc]:
        """Return every queueing discipline of the interface."""
        request = Request(messages.RTM_GETQDISC, "list", "queueing disciplines of {interface}", {"index": ifindex})
        return [messages.read_qdisc(answer) for answer in self._list(request)]

    def hook_qdisc(self, ifindex: int) -> str:
        """Return the kind of the qdisc that holds filters: "clsact", "ingress" (for ingress alone), or "" for none."""
        kinds = [qdisc.kind for qdisc in self.qdiscs(ifindex)]
        return next((kind for kind in HOOK_QDISCS if kind in kinds), "")

    def shared_block(self, ifindex: int, direction: str) -> int:
        """Return the index of the filter block that the hook shares, 0 for none.

        The kernel refuses a filter for one interface there (EOPNOTSUPP), also while no other interface has the block.
        """
        held = [qdisc for qdisc in self.qdiscs(ifindex) if qdisc.kind in HOOK_QDISCS]
        found = [qdisc.egress_block if direction == "egress" else qdisc.ingress_block for qdisc in held]
        return next(iter(found), 0)

    def add_clsact(self, ifindex: int) -> bool:
        """Add clsact, and return whether it was missing. Raises Conflict if a plain ingress qdisc takes its place."""
        if self._send(messages.add_clsact(ifindex), but=(errno.EEXIST,)) is not None:
            return True
        if self.hook_qdisc(ifindex) != "clsact":
            name = self._name(ifindex)
            raise Conflict(f"{name} has a plain ingress qdisc where clsact belongs: its owner must delete it")
        return False

    def delete_clsact(self, ifindex: int) -> bool:
        """Delete clsact with all its filters, foreign ones too. Return whether it existed."""
        if self.hook_qdisc(ifindex) != "clsact":
            return False
        return self._send(messages.delete_clsact(ifindex), but=(errno.ENOENT,)) is not None

    def filters(self, ifindex: int, direction: str) -> list[Filter]:
        """Return every filter of any kind on a hook, in the order of their execution.

        A plain ingress qdisc has no egress hook, but the kernel lists its ingress filters there too (tried).
        """
        answers = self._list(messages.list_filters(ifindex, direction))
        found = [entry for entry in map(messages.read_filter, answers) if entry]
        return [] if found and direction == "egress" and self.hook_qdisc(ifindex) == "ingress" else found

    def replace_filter(
        self, ifindex: int, direction: str, priority: int, handle: int, program_fd: int, name: str
    ) -> None:
        """Attach a program, direct-action, for all protocols, in one request.

        It replaces the bpf filter of this priority and handle in place: every packet passes the old or the new one.
        An egress filter needs clsact: a plain ingress qdisc takes it too, and runs it on ingress (tried).
        """
        self._send(messages.replace_filter(FilterIdentity(ifindex, direction, priority, handle), program_fd, name))

    def delete_filter(self, ifindex: int, direction: str, priority: int, handle: int) -> bool:
        """Delete the bpf filter of this priority and handle. Return whether it existed."""
        existing = {(entry.kind, entry.priority, entry.handle) for entry in self.filters(ifindex, direction)}
        if ("bpf", priority, handle) not in existing:
            return False
        request = messages.delete_filter(FilterIdentity(ifindex, direction, priority, handle))
        return self._send(request, but=(errno.ENOENT,)) is not None

    # ---- policy routing ---------------------------------------------------------------

    def rules(self, family: int) -> list[RouteRule]:
        """Return every policy rule of a family, in the order of their priority."""
        request = Request(messages.RTM_GETRULE, "list", "policy rules", {"family": family})
        return [messages.read_rule(answer) for answer in self._list(request, but=(errno.EAFNOSUPPORT,))]

    def add_rule(self, rule: RouteRule) -> bool:
        """Add a plain policy rule, and return whether it was missing. Raises Conflict if the kernel confuses it."""
        if self._send(messages.add_rule(rule), but=(errno.EEXIST,)) is not None:
            return True
        if rule not in self.rules(rule.family):
            raise confused_rule(rule)
        return False

    def delete_rule(self, rule: RouteRule) -> bool:
        """Delete a plain policy rule. Return whether it existed. Raises Conflict if the kernel could delete another."""
        existing = self.rules(rule.family)
        if rule not in existing:
            return False
        if rule._replace(plain=False) in existing:
            raise confused_rule(rule)
        return self._send(messages.delete_rule(rule), but=(errno.ENOENT,)) is not None

    def routes(self, table: int, family: int) -> list[Route]:
        """Return every route of a table. A missing table has none."""
        fields, attrs = {"family": family}, (("RTA_TABLE", table),)
        request = Request(messages.RTM_GETROUTE, "list", f"routes of table {table}", fields, attrs)
        found = [messages.read_route(answer) for answer in self._list(request, but=(errno.ENOENT,))]
        # A kernel without IPv6 answers with the routes of its other families.
        return [route for route in found if route.family == family]

    def route_to(self, destination: str, source: str, mark: int = 0) -> Route | None:
        """Return the route of a packet of this host to `destination`, or None.

        `source` is its own address, or "" where the kernel chooses one. `mark` is the mark of the packet.
        """
        request = messages.route_request(destination, source, mark)
        found = self._send(request, but=(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL))
        return messages.read_route(found[0]) if found else None

    def local_default(self, table: int, family: int) -> bool:
        """Return whether the table has `local default dev lo`."""
        return any(route.local_default for route in self.routes(table, family))

    def foreign_default(self, table: int, family: int) -> bool:
        """Return whether the table has another default route in the place of `local default dev lo`.

        The kernel refuses a second route of the same destination, TOS and priority, whatever its type. The priority of
        a route that names none is 0 for IPv4 and 1024 for IPv6 (IP6_RT_PRIO_USER of include/uapi/linux/ipv6_route.h).
        """
        place = (0, 0, IPV6_PRIORITY if family == socket.AF_INET6 else 0)
        routes = [route for route in self.routes(table, family) if not route.local_default]
        return any((route.prefix_length, route.tos, route.priority) == place for route in routes)

    def add_local_default(self, table: int, family: int) -> bool:
        """Add `local default dev lo`, and return whether it was missing. It delivers all packets locally.

        Raises Conflict if the table has another default route.
        """
        if self._send(messages.add_local_default(table, family), but=(errno.EEXIST,)) is not None:
            return True
        if not self.local_default(table, family):
            raise foreign_default_conflict(table)
        return False

    def delete_local_default(self, table: int, family: int) -> bool:
        """Delete `local default dev lo`. Return whether it existed."""
        if not self.local_default(table, family):
            return False
        return self._send(messages.delete_local_default(table, family), but=(errno.ENOENT, errno.ESRCH)) is not None

    # ---- exchanges ----------------------------------------------------------------------

    def _list(self, request: Request, but: Sequence[int] = ()) -> list[Answer]:
        """Return the answers of a listing. If the request names an interface, they are about that one."""
        request, index = request._replace(flags=NLM_F_DUMP), request.fields.get("index")
        for _attempt in range(DUMP_ATTEMPTS):
            try:
                found = self._send(request, but) or []
            except Interrupted:
                continue
            return self._of_interface(request, found, index) if index else found
        raise self._refused(request, errno.EINTR, f"it changed {DUMP_ATTEMPTS} times while it was read")

    def _of_interface(self, request: Request, found: list[Answer], index: int) -> list[Answer]:
        """Return the answers about one interface. The kernel does not filter each listing.

        The listing of a vanished interface is empty, so this looks it up.
        """
        own = [answer for answer in found if answer["index"] in (index, SHARED_BLOCK)]
        if not own and not self._name(index):
            raise self._refused(request, errno.ENODEV, "")
        return own

    def _send(self, request: Request, but: Sequence[int] = ()) -> list[Answer] | None:
        """Return the answers, or None if the kernel refuses with an errno of `but`. Raises KernelRefused."""
        try:
            return self._socket.exchange(request)
        except Refusal as refusal:
            if refusal.errno in but:
                return None
            raise self._refused(request, refusal.errno, refusal.message) from refusal

    def _name(self, ifindex: int) -> str:
        """Return the name of an interface, "" without such an interface."""
        try:
            found = self._socket.exchange(
                Request(messages.RTM_GETLINK, "look up", f"interface {ifindex}", {"index": ifindex})
            )
        except Refusal:
            return ""
        return messages.read_link(found[0]).name

    def _refused(self, request: Request, code: int, message: str) -> KernelRefused:
        """Return the error: operation, object, and the kernel's message if that tells more than the errno."""
        index = request.fields.get("index")
        name = self._name(index) if index else "all interfaces"
        if not name:
            name, message = f"interface {index}", f"interface {index} has vanished"
        detail = f" ({message})" if message not in ("", os.strerror(code)) else ""
        return KernelRefused(code, request.operation, request.subject.replace("{interface}", name) + detail)


def foreign_default_conflict(table: int) -> Conflict:
    """Return the error for another default route in the place of ours."""
    return Conflict(f"table {table} has another default route: choose another table, or delete that route")


def confused_rule(rule: RouteRule) -> Conflict:
    """Return the error for a similar rule. net/core/fib_rules.c compares only the fields of a request."""
    return Conflict(
        f"policy rule at priority {rule.priority} (iif {rule.iif}, table {rule.table}): another rule has the same"
        " fields and further selectors, and the kernel cannot tell the two apart; give one of them another priority"
    )


# ---- the socket ----------------------------------------------------------------------


class Refusal(Exception):
    """The kernel refused a request: its errno, and its message ("" without one)."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)
        self.errno, self.message = errno, message


class Interrupted(Exception):
    """A listing changed while the kernel wrote it."""


class RequestSocket:
    """An open rtnetlink socket in the network namespace of the calling thread.

    The kernel filters the listings (NETLINK_GET_STRICT_CHK, Linux 4.20) and explains refusals (NETLINK_EXT_ACK).
    Raises MissingLibrary without pyroute2, OSError when the kernel gives no socket.
    """

    def __init__(self) -> None:
        class_of(messages.RTM_GETLINK)  # without pyroute2 nothing begins
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def exchange(self, request: Request) -> list[Answer]:
        """Send one request and return the decoded answers. The flags must ask for a listing or an acknowledgement.

        Raises Refusal, and Interrupted for a listing that is not of one moment. Receives all of a listing before it
        decodes any of it: the kernel writes the next part when the last one is received, and 2,000 addresses take
        longer to decode than a starting OpenZiti router needs for the next address.
        """
        self._sequence += 1
        received, interrupted = [], False
        for message in self._answers(self._encoded(request)):
            interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
            if message.type in (NLMSG_ERROR, NLMSG_DONE):
                _raise_refusal(message)
                break
            received.append(message)
        if interrupted:
            raise Interrupted
        return [self._decoded(message) for message in received]

    def _answers(self, request: bytes) -> Iterator[Message]:
        """Send a request and yield the messages with its sequence number. The caller knows which is the last one.

        Others answer an earlier request that the caller left before its end.
        """
        try:
            self._socket.send(request)
            while True:
                for message in split(self._socket.recv(RECEIVE_BYTES)):
                    if message.sequence == self._sequence:
                        yield message
        except OSError as refusal:  # ENOBUFS
            raise Refusal(refusal.errno or 0, "") from refusal

    def _encoded(self, request: Request) -> bytes:
        """Return the request as bytes. pyroute2 fills in the length."""
        message = class_of(request.type)()
        message["header"].update(type=request.type, flags=NLM_F_REQUEST | request.flags, sequence_number=self._sequence)
        for field, value in request.fields.items():
            message[field] = value
        message["attrs"] = list(request.attributes)
        message.encode()
        return bytes(message.data)

    def _decoded(self, message: Message) -> Answer:
        """Return the answer as pyroute2 has it. Its `data` and `offset` are those of this one message."""
        answer = class_of(message.type)(message.frame, offset=0)
        answer.decode()
        decoded: Answer = answer
        return decoded


def _raise_refusal(message: Message) -> None:
    """Raise Refusal for an error. An acknowledgement and the end of a listing carry the errno 0.

    With NETLINK_CAP_ACK the header of the request follows the errno of NLMSG_ERROR. NLMSG_DONE has no such header.
    """
    code = error_number(message)
    if code:
        rest = message.payload[ERRNO_BYTES + (HEADER.size if message.type == NLMSG_ERROR else 0) :]
        text = attributes(rest).get(NLMSGERR_ATTR_MSG, b"") if message.flags & NLM_F_ACK_TLVS else b""
        raise Refusal(code, text.rstrip(b"\0").decode(errors="replace"))
