# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which socket is the listener that rules describe."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.socket_lookup import (
    WantedListener,
    listening,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import ListeningSocket


def wanted(address: str = "127.0.0.1", **given) -> WantedListener:
    return WantedListener(
        **{"protocol": "udp", "port": 8443, "cookie": None, "user": None, **given}, address=at(address)
    )


def there(address: str = "127.0.0.1", inode: int = 7, **given) -> ListeningSocket:
    values = {"port": 8443, "dual": False, "transparent": True, "cookie": 100, "user": 13, **given}
    return ListeningSocket(address=at(address), inode=inode, **values)


def at(text: str) -> bytes:
    return parse_address(text)


@pytest.mark.parametrize(
    ("asked", "found", "is_met"),
    [
        (wanted(), there(), True),
        (wanted(), there(port=8444), False),
        (wanted(), there("127.0.0.2"), False),
        (wanted(), there("0.0.0.0"), True),
        (wanted(), there("::"), False),
        (wanted(), there("::", dual=True), True),
        (wanted("::1"), there("::"), True),
        (wanted("::1"), there("::", dual=True), True),
        (wanted("::1"), there("0.0.0.0"), False),
        (wanted(), there("fd00::1", dual=True), False),
        (wanted(cookie=100), there(), True),
        (wanted(cookie=101), there(), False),
        (wanted(cookie=0), there(), False),
        (wanted(user=13), there(), True),
        (wanted(user=0), there(), False),
    ],
)
def test_a_socket_is_the_listener_that_a_rule_describes(asked, found, is_met):
    assert asked.is_met_by(found) is is_met


class Listed:
    """A listing of sockets."""

    def __init__(self, *found: ListeningSocket):
        self._found = found

    def listeners(self, protocol: str, port: int) -> list:
        assert (protocol, port) == ("udp", 8443)
        return list(self._found)


def test_the_socket_at_exactly_the_proxy_address_comes_first():
    sockets = Listed(there("0.0.0.0", 1), there("127.0.0.1", 2), there("127.0.0.3", 3))
    assert listening(sockets, {b"key": wanted(), b"none": wanted("127.0.0.9", cookie=5)}) == {b"key": 2}
