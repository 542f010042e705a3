# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intercepted packets that lose their assigned socket reach the listener of their rule by a socket lookup.

A packet loses it when it came in fragments, and when the kernel clones it for a packet socket.

client 10.1.0.2, fd00:1::2 ---- lan0 router
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import endpoint
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.socket_lookups import SocketLookups
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.programs import SK_LOOKUP_PIN
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.socket_lookup import SocketLookup
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    PROXY_PORT,
    TCP,
    UDP,
    asking,
    connected,
    heard,
    proxy,
    sent_to,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.router import LAN, eventually

pytestmark = pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (5, 17),
    reason="this kernel tells a program for socket lookups no interface, as Linux 5.17 does",
)
LARGE = bytes(range(200)) * 100
SECONDS = 1
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ANOTHER_USER = 998
OPEN = {"default_action": "pass"}


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def ends(request):
    """Return the addresses of one family."""
    return ENDS[request.param]


@pytest.fixture
def client(lasting):
    """Return the client."""
    return lasting[1]


@pytest.fixture
def router(splicing):
    """Return the router, whose program for socket lookups is detached at the end."""
    splicing.attach(policy=dict(OPEN))
    yield splicing
    with suppress(FileNotFoundError):
        os.unlink(link_pin(splicing))
    lookups = ("listeners", "wanted_sockets")
    for name in lookups:
        table = bpf.open_pin(f"{os.path.dirname(link_pin(splicing))}/{name}")
        for key in bpf.keys(table, 32, 4096):
            bpf.delete(table, key)
        os.close(table)


@pytest.fixture
def lookups(router):
    """Return the watcher's care for socket lookups."""
    return SocketLookups(router.system(), router.pin_dir)


@pytest.fixture
def bound():
    """Return a maker of sockets of this host for any address. The test closes them."""
    with ExitStack() as opened:

        def make(ends, port: int) -> socket.socket:
            made = opened.enter_context(socket.socket(ends.family, UDP))
            made.setblocking(False)
            made.bind(("", port))
            return made

        yield make


def link_pin(router) -> str:
    (found,) = [path for path in router.pinned() if path.endswith("/wanted_sockets")]
    return f"{os.path.dirname(found)}/{SK_LOOKUP_PIN}"


def unfound(router, rule: dict) -> list:
    """Return the listeners of a rule that fragments cannot reach, as a finding names them."""
    system = router.system()
    with splicer_pins(system.bpf, system.bpffs, router.pin_dir) as pins:
        found = SocketLookup(system.bpf, pins).unfound(rules_from_params([rule])[0], time.monotonic_ns())
    return list(map(str, found))


def serve(lookups) -> list:
    """Let the watcher do its work; return its lines."""
    return list(lookups.work([socket.if_nametoindex(LAN)]))


def make_known(near, ends, lookups) -> None:
    """Lose a large datagram to the server, so that the watcher puts the listener."""
    near.sendto(LARGE, (ends.server, 443))
    eventually(lambda: lookups.have_work([]))
    serve(lookups)


def packet_socket(ends) -> socket.socket:
    """Return a packet socket as a DHCP client has it."""
    protocol = ETH_P_IPV6 if ends.is_ipv6 else ETH_P_IP
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    made.bind((LAN, protocol))
    return made


def sent_large(near, ends, listener, data: bytes = LARGE) -> tuple:
    """Send a large datagram to the server until the listener has one. Return it with the place that it was sent to."""
    listener.settimeout(SECONDS)
    received, ancillary, _flags, _peer = heard(
        lambda: listener.recvmsg(65535, 512), lambda: near.sendto(data, (ends.server, 443))
    )
    return received, sent_to(ends, ancillary)


def is_empty(listener) -> bool:
    listener.setblocking(False)
    with suppress(BlockingIOError):
        listener.recv(65535)
        return False
    return True


def drops(router) -> int:
    return router.reasons().get(("fragment", "dropped"), 0)


# ---- fragments ------------------------------------------------------------------------------------


def test_the_second_large_datagram_of_a_service_is_spliced(router, lookups, client, ends):
    rule = splice_rule(ends, "udp")
    router.rules(rule)
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        assert not lookups.have_work([])
        assert unfound(router, rule) == []
        near.sendto(LARGE, (ends.server, 443))
        eventually(lambda: lookups.have_work([]))
        assert unfound(router, rule) == [f"udp {endpoint(ends.loopback, PROXY_PORT)}"]
        assert unfound(router, {**rule, "tproxy_port": 1}) == []
        assert is_empty(listener)
        (line,) = serve(lookups)
        assert unfound(router, rule) == []
        assert line.startswith("the program for socket lookups is attached")
        assert not lookups.have_work([])
        assert sent_large(near, ends, listener) == (LARGE, (ends.server, 443))
        router.count_anew()
        assert sent_large(near, ends, listener, LARGE * 3) == (LARGE * 3, (ends.server, 443))
        assert router.reasons()["spliced", "passed"] == 1
        near.sendto(b"whole", (ends.server, 443))
        listener.settimeout(SECONDS)
        assert listener.recv(65535) == b"whole"
        assert serve(lookups) == []


def test_a_lost_link_is_attached_again_for_the_listeners_that_are_known(router, lookups, client, ends):
    """The program on ingress passes fragments to them meanwhile, so that none is wanted anew."""
    router.rules(splice_rule(ends, "udp"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        make_known(near, ends, lookups)
        os.unlink(link_pin(router))
        assert lookups.have_work([])
        assert len(serve(lookups)) == 1
        assert sent_large(near, ends, listener)[0] == LARGE
        assert not lookups.have_work([])


def test_a_listener_that_closed_and_is_there_again_is_found_again(router, lookups, client, ends):
    router.rules(splice_rule(ends, "udp"))
    with asking(client, ends, UDP) as near:
        for _generation in range(2):
            with proxy(ends, UDP) as listener:
                make_known(near, ends, lookups)
                assert sent_large(near, ends, listener) == (LARGE, (ends.server, 443))
        router.count_anew()
        near.sendto(LARGE, (ends.server, 443))
        eventually(lambda: router.reasons().get(("no_listener", "dropped")) == 1)


def test_the_first_large_datagram_of_a_rule_that_always_takes_them_is_spliced(router, lookups, client, ends):
    rule = splice_rule(ends, "udp", fragments="always")
    router.rules(rule)
    assert len(unfound(router, rule)) == 1
    lookups.keep(tuple(rules_from_params([rule])[0]))
    with asking(client, ends, UDP) as near:
        for _generation in range(2):
            with proxy(ends, UDP) as listener:
                assert lookups.have_work([])
                serve(lookups)
                assert not lookups.have_work([])
                near.sendto(LARGE, (ends.server, 443))
                listener.settimeout(SECONDS)
                assert listener.recv(65535) == LARGE
            lookups.keep(tuple(rules_from_params([rule])[0]))
    lookups.keep(())
    assert not lookups.have_work([])


def test_a_rule_that_drops_fragments_wants_no_listener(router, lookups, client, ends):
    """Beside a rule that has made the same listener known."""
    router.rules(splice_rule(ends, "udp"), splice_rule(ends, "udp", ports="444", fragments="drop"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        near.sendto(LARGE, (ends.server, 444))
        eventually(lambda: drops(router) > len(LARGE) // 1500)
        assert not lookups.have_work([])
        make_known(near, ends, lookups)
        sent_large(near, ends, listener)
        router.count_anew()
        near.sendto(LARGE, (ends.server, 444))
        eventually(lambda: drops(router) > len(LARGE) // 1500)
        assert is_empty(listener)
        near.sendto(b"whole", (ends.server, 444))
        listener.settimeout(SECONDS)
        assert listener.recv(65535) == b"whole"


def test_without_its_rule_no_fragment_reaches_the_proxy(router, lookups, client, ends):
    router.rules(splice_rule(ends, "udp"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        make_known(near, ends, lookups)
        sent_large(near, ends, listener)
        router.rules(splice_rule(ends, "udp", ports="444"), purge=True)
        near.sendto(LARGE, (ends.server, 443))
        near.sendto(b"last", (ends.server, 444))
        listener.settimeout(SECONDS)
        assert listener.recv(65535) == b"last"


def test_no_socket_that_the_rule_was_not_made_for_gets_a_fragment(router, lookups, client, ends):
    router.rules(splice_rule(ends, "udp"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        make_known(near, ends, lookups)
        router.rules(splice_rule(ends, "udp", tproxy_user=str(ANOTHER_USER)))
        router.count_anew()
        near.sendto(LARGE, (ends.server, 443))
        eventually(lambda: drops(router) > len(LARGE) // 1500)
        serve(lookups)
        near.sendto(LARGE, (ends.server, 443))
        eventually(lambda: drops(router) > 2 * (len(LARGE) // 1500))
        assert is_empty(listener)


def test_a_fragment_to_an_own_address_that_a_rule_names_is_dropped(router, lookups, client, ends):
    """The lookup leaves own addresses to the sockets of this host."""
    router.rules({**splice_rule(ends, "udp"), "destination": ends.own}, force=True)
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        near.sendto(LARGE, (ends.own, 443))
        eventually(lambda: drops(router) > len(LARGE) // 1500)
        assert not lookups.have_work([])
        near.sendto(b"whole", (ends.own, 443))
        listener.settimeout(SECONDS)
        assert listener.recv(65535) == b"whole"


# ---- packet sockets -------------------------------------------------------------------------------


def test_a_packet_socket_takes_no_datagram_from_the_proxy(router, lookups, client, ends):
    router.rules(splice_rule(ends, "udp"))
    indexes = [socket.if_nametoindex(LAN)]
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near, packet_socket(ends):
        if ends.is_ipv6:  # a packet socket for IPv6 alone is nothing that a DHCP client has
            near.sendto(LARGE, (ends.server, 443))
        else:
            (line,) = serve(lookups)
            assert line.startswith("the program for socket lookups is attached")
            near.sendto(b"wanted now", (ends.server, 443))
        eventually(lambda: lookups.have_work(indexes))
        serve(lookups)
        assert sent_large(near, ends, listener, b"small") == (b"small", (ends.server, 443))
        assert sent_large(near, ends, listener) == (LARGE, (ends.server, 443))


def test_a_packet_socket_takes_no_connection_from_the_proxy(router, lookups, client):
    ends = ENDS[4]
    router.rules(splice_rule(ends))
    indexes = [socket.if_nametoindex(LAN)]
    with proxy(ends, TCP) as listener, packet_socket(ends), asking(client, ends, TCP) as near:
        serve(lookups)
        opened = threading.Thread(target=near.connect, args=((ends.server, 443),))
        opened.start()
        eventually(lambda: lookups.have_work(indexes))
        serve(lookups)
        accepted, _peer = listener.accept()
        opened.join()
        with closing(accepted):
            assert accepted.getsockname() == (ends.server, 443)
            near.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert near.recv(100) == b"answer"


def test_no_wildcard_socket_of_the_router_gets_a_packet_without_its_socket(router, lookups, client, bound):
    ends = ENDS[4]
    router.rules(splice_rule(ends, "udp"))
    everywhere = bound(ends, 443)
    with proxy(ends, UDP) as listener, packet_socket(ends), asking(client, ends, UDP) as near:
        near.sendto(b"without the program", (ends.server, 443))
        eventually(lambda: not is_empty(everywhere))
        serve(lookups)
        near.sendto(b"not found yet", (ends.server, 443))
        eventually(lambda: lookups.have_work([socket.if_nametoindex(LAN)]))
        serve(lookups)
        assert sent_large(near, ends, listener, b"found")[0] == b"found"
        assert is_empty(everywhere)


# ---- what it leaves alone ---------------------------------------------------------------------------


def test_other_listeners_keep_their_flows(router, lookups, client):
    """AnyIP, a resolver on another loopback address, and SSH to an address that a rule names."""
    ends = ENDS[4]
    router.record(interfaces=[LAN])
    router.rules(splice_rule(ends), {**splice_rule(ends, ports="1-65535"), "destination": ends.own}, force=True)
    router.netns.run("ip route add local 198.51.100.0/24 dev lo")
    try:
        with packet_socket(ends), proxy(ends, TCP) as listener:
            serve(lookups)
            for address, port in (("198.51.100.7", 80), ("127.0.0.53", 53), (ends.own, 22)):
                with socket.socket() as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    other.bind((address, port))
                    other.listen()
                    other.settimeout(SECONDS)
                    if address.startswith("127."):
                        near = socket.create_connection((address, port))
                    else:
                        near = connected(client, ends, (address, port))
                    with near, other.accept()[0] as accepted:
                        assert accepted.getsockname() == (address, port)
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    finally:
        router.netns.run("ip route del local 198.51.100.0/24 dev lo")


def test_the_program_goes_with_the_last_interface(router, lookups, client):
    ends = ENDS[4]
    router.rules(splice_rule(ends, "udp"))
    with packet_socket(ends):
        serve(lookups)
    before = linked(router)
    assert serve(lookups) == []
    assert linked(router) == before
    router.attach(state="absent")
    eventually(lambda: not is_loaded(before))
    router.attach(policy=dict(OPEN))


def linked(router) -> int:
    """Return the id of the attached program."""
    link = bpf.open_pin(link_pin(router))
    with ExitStack() as opened:
        opened.callback(os.close, link)
        return bpf.linked_program(link)


def is_loaded(program: int) -> bool:
    with suppress(KernelRefused):
        os.close(bpf.program_by_id(program))
        return True
    return False


def test_the_program_follows_a_larger_image(router, lookups, client):
    """Then the maps are others: the watcher replaces the program."""
    ends = ENDS[4]
    router.rules(splice_rule(ends, "udp"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        make_known(near, ends, lookups)
        before = linked(router)
        many = [{**splice_rule(ends, "udp"), "destination": f"172.{n % 256}.{n // 256}.0/24"} for n in range(20000)]
        router.rules(splice_rule(ends, "udp"), *many)
        assert len(serve(lookups)) == 1
        assert linked(router) != before
        assert sent_large(near, ends, listener) == (LARGE, (ends.server, 443))
