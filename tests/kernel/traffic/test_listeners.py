# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule leads to the listener that it was made for: one socket of an OpenZiti router, or sockets of one user."""

from __future__ import annotations

import os
import random
import selectors
import socket
from contextlib import ExitStack, contextmanager

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import collect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    KINDS,
    PROXY_PORT,
    UDP,
    asking,
    proxy,
    setting,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.router import LAN, eventually

ROUTER = 998  # the user of an OpenZiti router
WRONG, NONE, SPLICED = ("wrong_listener", "dropped"), ("no_listener", "dropped"), ("spliced", "passed")


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture(params=ENDS)
def ends(request):
    """Return the addresses of one family."""
    return ENDS[request.param]


@pytest.fixture
def helper(splicing):
    """Return a helper that has no rule yet."""
    helper = Helper(splicing.pin_dir, splicing.system())
    yield helper
    helper.answer(b"-F", 0)
    helper._forget()


def insert(helper: Helper, address: str, protocol: str, port: int = PROXY_PORT, service: str = "web") -> None:
    """Call the diverter as a router does for a service at port 443 of one address."""
    length = "128" if ":" in address else "32"
    words = ["-I", "-c", address, "-m", length, "-o", "0.0.0.0", "-n", "0", "-p", protocol]
    words += ["-l", "443", "-h", "443", "-t", str(port), "-s", service]
    assert helper.answer("\0".join(words).encode(), ROUTER)[:2] == (0, "")


def ask(client, ends, protocol: str, opened: ExitStack) -> socket.socket:
    """Let a new client begin a flow to the server."""
    near = opened.enter_context(asking(client, ends, KINDS[protocol]))
    near.setblocking(False)
    near.connect_ex((ends.server, 443))
    if protocol == "udp":
        near.send(b"secret")
    return near


def is_empty(listener: socket.socket) -> bool:
    """Return whether no flow waits at a listener."""
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        return not ready.select(0)


def verdict(splicing, ends, protocol: str) -> tuple:
    """Return the verdict and the reason that tproxy_verdict gives for a new flow to the server."""
    flow = {"source": ends.client, "destination": ends.server, "protocol": protocol, "port": "443"}
    answer = splicing.verdict(interface=LAN, **flow)
    return answer["verdict"], answer["reason"]


@pytest.mark.parametrize("protocol", KINDS)
def test_the_port_of_a_closed_listener_leads_nobody_to_its_next_owner(splicing, helper, ends, client, protocol):
    with ExitStack() as opened:
        with proxy(ends, KINDS[protocol]) as listener:
            insert(helper, ends.server, protocol)
            ask(client, ends, protocol, opened)
            eventually(lambda: not is_empty(listener))
            assert verdict(splicing, ends, protocol) == ("pass", "spliced")
        ask(client, ends, protocol, opened)
        eventually(lambda: splicing.reasons().get(NONE))
        with proxy(ends, KINDS[protocol]) as other:
            ask(client, ends, protocol, opened)
            eventually(lambda: splicing.reasons().get(WRONG))
            assert is_empty(other)
            assert verdict(splicing, ends, protocol) == ("drop", "wrong_listener")
            insert(helper, ends.server, protocol)
            ask(client, ends, protocol, opened)
            eventually(lambda: not is_empty(other))
            assert verdict(splicing, ends, protocol) == ("pass", "spliced")


@pytest.mark.parametrize("protocol", KINDS)
def test_a_rule_without_its_listener_is_removed_though_another_socket_has_its_port(splicing, helper, ends, protocol):
    with proxy(ends, KINDS[protocol]):
        insert(helper, ends.server, protocol)
        assert not gone(splicing)
    with proxy(ends, KINDS[protocol]):
        codes = {finding["code"] for finding in splicing.info()["findings"]}
        assert "left_behind" in codes
        assert gone(splicing) == ["ziti:web"]
        assert "left_behind" not in {finding["code"] for finding in splicing.info()["findings"]}


def gone(splicing) -> list:
    """Run gc, and return the owners of the rules that it removed."""
    result = collect({"pin_dir": splicing.pin_dir}, splicing.system(), False)
    return [rule["owner"] for rule in result.data["removed"]]


@pytest.mark.parametrize("protocol", KINDS)
def test_a_rule_that_comes_before_its_listener_begins_with_it(splicing, helper, ends, client, protocol):
    insert(helper, ends.server, protocol)
    with ExitStack() as opened, proxy(ends, KINDS[protocol]) as listener:
        ask(client, ends, protocol, opened)
        eventually(lambda: splicing.reasons().get(WRONG))
        assert verdict(splicing, ends, protocol) == ("drop", "wrong_listener")
        helper.look()
        ask(client, ends, protocol, opened)
        eventually(lambda: not is_empty(listener))


@pytest.mark.parametrize("protocol", KINDS)
def test_any_member_of_a_group_of_listeners_may_have_the_flows(splicing, helper, ends, protocol):
    with proxy(ends, KINDS[protocol], shared=True), proxy(ends, KINDS[protocol], shared=True):
        insert(helper, ends.server, protocol)
    with proxy(ends, KINDS[protocol]):
        assert verdict(splicing, ends, protocol) == ("pass", "spliced")


def test_on_missing_does_not_let_a_wrong_listener_pass(splicing, helper, client):
    """An assignment cannot be taken back: the stack would deliver a packet that passes to the wrong socket."""
    ends = ENDS[4]
    with ExitStack() as opened, proxy(ends, UDP), proxy(ends, UDP, PROXY_PORT + 1) as right:
        insert(helper, ends.server, "udp", PROXY_PORT + 1)
        right.close()
        with proxy(ends, UDP, PROXY_PORT + 1) as wrong:
            ask(client, ends, "udp", opened)
            eventually(lambda: splicing.reasons().get(WRONG))
            assert is_empty(wrong)


@contextmanager
def to_client(ends, near: socket.socket, address: str):
    """Yield a socket that is bound to port 443 of an address, foreign or own, and connected to the client's one."""
    with proxy(ends, UDP, 443, address) as made:
        made.connect(near.getsockname()[:2])
        made.setblocking(False)
        yield made


@pytest.mark.parametrize("names_listener", [False, True])
def test_a_datagram_goes_to_the_socket_that_a_proxy_connected_or_to_the_named_listener(
    splicing, helper, ends, client, names_listener
):
    with ExitStack() as opened, proxy(ends, UDP) as listener:
        if names_listener:
            insert(helper, ends.server, "udp")
        else:
            splicing.rules(splice_rule(ends, "udp"))
        near = ask(client, ends, "udp", opened)
        assert listener.recv(99) == b"secret"
        with to_client(ends, near, ends.server) as own:
            near.send(b"more")
            eventually(lambda: not (is_empty(listener) and is_empty(own)))
            assert (is_empty(listener), is_empty(own)) == (not names_listener, names_listener)


def test_a_session_at_an_own_address_stays_with_its_socket_whatever_rule_a_router_has(splicing, helper, ends, client):
    with ExitStack() as opened, proxy(ends, UDP) as listener:
        near = opened.enter_context(asking(client, ends, UDP))
        near.connect((ends.own, 443))
        insert(helper, ends.own, "udp")
        near.send(b"to the service")
        assert listener.recv(99) == b"to the service"
        with to_client(ends, near, ends.own) as own:
            near.send(b"to the session")
            eventually(lambda: not is_empty(own))
            assert is_empty(listener)


# ---- the user of an operator's proxy --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize("missing", ["drop", "pass"])
def test_a_rule_with_a_user_leads_to_sockets_of_this_user_alone(splicing, ends, client, protocol, missing):
    """The kernel gives a socket to a user as it does for one that this user opens (sock_alloc(), fchown(2))."""
    splicing.rules(splice_rule(ends, protocol, tproxy_user=str(ROUTER), on_missing=missing))
    with ExitStack() as opened, proxy(ends, KINDS[protocol]) as listener:
        ask(client, ends, protocol, opened)
        eventually(lambda: splicing.reasons().get(WRONG))
        assert is_empty(listener)
        assert verdict(splicing, ends, protocol) == ("drop", "wrong_listener")
        (finding,) = [each for each in splicing.info()["findings"] if each["code"] == "listener_of_another_user"]
        assert "is of user 0" in finding["found"]
        os.fchown(listener.fileno(), ROUTER, -1)
        ask(client, ends, protocol, opened)
        eventually(lambda: not is_empty(listener))
        assert verdict(splicing, ends, protocol) == ("pass", "spliced")
        assert "listener_of_another_user" not in {each["code"] for each in splicing.info()["findings"]}
        assert splicing.info()["rules"][0]["tproxy_user"] == str(ROUTER)


@pytest.mark.parametrize("protocol", KINDS)
def test_a_rule_without_a_user_leads_to_the_sockets_of_all(splicing, ends, client, protocol):
    splicing.rules(splice_rule(ends, protocol))
    with ExitStack() as opened, proxy(ends, KINDS[protocol]) as listener:
        os.fchown(listener.fileno(), ROUTER, -1)
        ask(client, ends, protocol, opened)
        eventually(lambda: not is_empty(listener))


# ---- a router that is killed, loses services, and starts again ----------------------------------------------------

SERVICES, WITHDRAWN, PORTS = 10, 3, 60
RESTARTS = int(os.environ.get("TPROXY_RESTARTS", "200"))  # an emulated processor does few of them


class Imitation:
    """Services of a router: each has an address of its own, and a listener with a port of the kernel's choice."""

    def __init__(self, helper: Helper, client):
        self._helper, self._client, self._listeners = helper, client, {}
        self._near = asking(client, ENDS[4], UDP)
        self.astray = self.answered = 0

    def start(self, services: list) -> None:
        """Listen for services, then let the diverter know each. Clients ask for all of them all the time."""
        for service in services:
            made = socket.socket(socket.AF_INET, UDP)
            made.bind(("127.0.0.1", 0))
            self._listeners[service] = made
        self.ask()
        for service in services:
            insert(self._helper, address_of(service), "udp", self._listeners[service].getsockname()[1], f"s{service}")
            self.ask()

    def kill(self) -> None:
        """Close all listeners at once, as the kernel does for a killed process. The rules stay."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self.ask()

    def close(self) -> None:
        """End."""
        self.kill()
        self._near.close()

    def ask(self) -> None:
        """Send a datagram to each service, and count those that arrive at the right listener and at a wrong one."""
        for service in range(SERVICES):
            self._near.sendto(bytes([service]), (address_of(service), 443))
        for service, listener in self._listeners.items():
            listener.setblocking(False)
            for datagram in _waiting(listener):
                self.astray += datagram[0] != service
                self.answered += datagram[0] == service


def _waiting(listener: socket.socket):
    """Yield the datagrams that wait at a socket."""
    while True:
        try:
            yield listener.recv(9)
        except BlockingIOError:
            return


def address_of(service: int) -> str:
    return f"192.0.2.{service + 1}"


def test_no_flow_goes_astray_when_a_killed_router_comes_back_with_other_ports(splicing, helper, client):
    """The ports are so few that a service mostly gets the former port of another one."""
    chance = random.Random(3)
    with setting("ipv4.ip_local_port_range", f"40000\t{40000 + PORTS - 1}"):
        imitation = Imitation(helper, client)
        imitation.start(list(range(SERVICES)))
        for _round in range(RESTARTS):
            imitation.kill()
            imitation.start(sorted(chance.sample(range(SERVICES), SERVICES - WITHDRAWN)))
        imitation.close()
    assert imitation.astray == 0
    assert imitation.answered >= RESTARTS * (SERVICES - WITHDRAWN)
    assert splicing.reasons()[SPLICED] >= imitation.answered
