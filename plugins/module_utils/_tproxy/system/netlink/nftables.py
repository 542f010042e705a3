# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to nftables: the base chains that see packets to this host. iptables-nft, firewalld and ufw make such chains.

Rules of iptables-legacy lie in another part of the kernel and are not read. Numbers are those of
include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ...errors import KernelRefused
from .conntrack import NETLINK_NETFILTER, NFGENMSG
from .exchange import ask
from .path import InputChain
from .wire import NLM_F_DUMP, attribute_list, attributes

GET_CHAIN, GET_RULE = 10 << 8 | 4, 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES; NFT_MSG_GETCHAIN, NFT_MSG_GETRULE
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}  # NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY = 1, 3, 4, 5
HOOK_NUMBER = 1
LOCAL_IN = 1  # NF_INET_LOCAL_IN
DROP = 0  # NF_DROP
RULE_TABLE, RULE_EXPRESSIONS = 1, 4
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
META_KEY, META_MARK = 2, 3
MATCH_NAME = 1  # of an extension of iptables
LOADED = "/sys/module/nf_tables"
NO_NFTABLES = (errno.EINVAL, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP)


def input_chains() -> Sequence[InputChain]:
    """Return the base chains on the input hook; none where nf_tables is a module that is not loaded.

    Raises KernelRefused.
    """
    if _would_load_a_module():
        return []
    try:
        marked = set(_tables_that_read_marks())
        return list(_input_chains(marked))
    except OSError as refusal:
        if refusal.errno in NO_NFTABLES:
            return []
        raise KernelRefused.of(refusal, "list", "chains and rules of nftables") from refusal


def _would_load_a_module() -> bool:
    """Return whether a request would make the kernel load nf_tables. A module without its file cannot be loaded."""
    modules = f"/lib/modules/{os.uname().release}"
    if os.path.exists(LOADED) or not os.path.isdir(modules):
        return False
    with suppress(FileNotFoundError), open(f"{modules}/modules.builtin", encoding="utf-8") as builtin:
        return not any(line.rstrip().endswith("/nf_tables.ko") for line in builtin)
    return True


def _input_chains(marked: set[tuple[int, bytes]]) -> Iterator[InputChain]:
    for family, given in _listing(GET_CHAIN):
        hook = attributes(given.get(CHAIN_HOOK, b""))
        if family in FAMILIES and int.from_bytes(hook.get(HOOK_NUMBER, b"\xff"), "big") == LOCAL_IN:
            drops = int.from_bytes(given.get(CHAIN_POLICY, b"\xff"), "big") == DROP
            table = given[CHAIN_TABLE]
            yield InputChain(FAMILIES[family], _text(table), _text(given[CHAIN_NAME]), drops, (family, table) in marked)


def _tables_that_read_marks() -> Iterator[tuple[int, bytes]]:
    for family, given in _listing(GET_RULE):
        elements = attribute_list(given.get(RULE_EXPRESSIONS, b""))
        if any(_reads_mark(attributes(element)) for _kind, element in elements):
            yield family, given[RULE_TABLE]


def _reads_mark(expression: dict[int, bytes]) -> bool:
    """Return whether an expression asks for the mark, or for a socket, whose transparency a rule can ask for."""
    name, data = _text(expression.get(EXPRESSION_NAME, b"")), attributes(expression.get(EXPRESSION_DATA, b""))
    if name == "match":
        return _text(data.get(MATCH_NAME, b"")) in ("mark", "socket")
    return name == "socket" or (name == "meta" and int.from_bytes(data.get(META_KEY, b""), "big") == META_MARK)


def _listing(kind: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield (family, attributes) of each object of a kind."""
    for message in ask(NETLINK_NETFILTER, kind, NFGENMSG.pack(0, 0, 0), NLM_F_DUMP):
        family, _version, _resource = NFGENMSG.unpack_from(message.payload)
        yield family, attributes(message.payload[NFGENMSG.size :])


def _text(payload: bytes) -> str:
    return payload.split(b"\0")[0].decode(errors="replace")
