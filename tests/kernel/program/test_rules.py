# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet table, row by row: own sessions, rules, default action. test_classify.py has the choice of the rule."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Mark
from ansible_collections.netedge.tproxy.tests.support.packets import ethernet, ipv4, tcp, tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.support.splicer import told

LAN = 1
SERVER, OWN, CLIENT = "192.0.2.1", "10.1.0.1", "10.1.0.2"
PROXY_PORT = 8443
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
FRAMES = {"tcp": tcp_frame, "udp": udp_frame}
BOTH = pytest.mark.parametrize("protocol", ["tcp", "udp"])


def rule(protocol: str, action: str = "tproxy", **given) -> dict:
    outcome = {"tproxy_port": PROXY_PORT} if action == "tproxy" else {}
    flows = {"destination": f"{SERVER}/24", "protocol": protocol, "ports": "1-65535"}
    return {**flows, "action": action, **outcome, **given}


@pytest.fixture
def sockets(netns):
    """Return a maker of sockets in the test's namespace, which has all addresses of the net 127.0.0.0/8 and these."""
    for address in (SERVER, OWN, CLIENT):
        netns.run(f"ip address add {address}/32 dev lo")
    with ExitStack() as opened:

        def make(protocol: str, address: str, port: int, peer: tuple | None = None) -> socket.socket:
            one = opened.enter_context(socket.socket(socket.AF_INET, KINDS[protocol]))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
            if peer:
                one.connect(peer)
            return one

        yield make


# ---- row 8: own sessions ------------------------------------------------------------------------


@pytest.fixture
def tcp_session(sockets):
    """Return (listener, server's end, client's end) of a connection from CLIENT:40000 to SERVER:443."""
    listener = sockets("tcp", SERVER, 443)
    listener.listen()
    client = sockets("tcp", CLIENT, 40000, (SERVER, 443))
    server, _peer = listener.accept()
    yield listener, server, client
    server.close()


@pytest.mark.parametrize("action", ["tproxy", "drop", "pass"])
def test_a_tcp_connection_of_this_host_goes_on_whatever_the_rules(splicer, tcp_session, action):
    splicer.policy(LAN)
    splicer.rules(rule("tcp", action))
    assert told(splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN)) == ("pass", "established")
    assert splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40001), LAN).reason != "established"
    assert splicer.ask(udp_frame(SERVER, 443, CLIENT, 40000), LAN).reason != "established"


def test_the_answers_to_an_own_connection_pass(splicer, tcp_session):
    splicer.policy(LAN)
    assert told(splicer.ask(tcp_frame(CLIENT, 40000, SERVER, 443), LAN)) == ("pass", "established")


def test_a_connection_in_time_wait_is_own(splicer, tcp_session):
    _listener, server, client = tcp_session
    server.close()
    client.close()
    splicer.policy(LAN)
    assert told(splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN)) == ("pass", "established")


def test_a_listening_socket_is_no_session(splicer, sockets):
    sockets("tcp", SERVER, 443).listen()
    splicer.policy(LAN)
    assert told(splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN)) == ("drop", "default")


def test_a_connected_udp_socket_is_a_session_and_another_is_not(splicer, sockets):
    sockets("udp", SERVER, 53)
    sockets("udp", SERVER, 123, (CLIENT, 40000))
    splicer.policy(LAN)
    assert told(splicer.ask(udp_frame(SERVER, 53, CLIENT, 40000), LAN)) == ("drop", "default")
    assert told(splicer.ask(udp_frame(SERVER, 123, CLIENT, 40000), LAN)) == ("pass", "established")
    assert told(splicer.ask(udp_frame(SERVER, 123, CLIENT, 40001), LAN)) == ("drop", "default")
    assert told(splicer.ask(tcp_frame(SERVER, 123, CLIENT, 40000), LAN)) == ("drop", "default")


@pytest.mark.parametrize(
    ("mark", "came_with", "leaves_with"),
    [
        (Mark(), 0, 0x10000000),
        (Mark(), 0xEFFFFFFF, 0xFFFFFFFF),
        (Mark(0x2, 0xF), 0x0, 0x2),
        (Mark(0x2, 0xF), 0xABCD, 0xABC2),
        (Mark(0x80000000, 0xFFFFFFFF), 0x7, 0x80000000),
    ],
)
def test_the_mark_of_a_spliced_session_is_set_within_its_mask(splicer, tcp_session, mark, came_with, leaves_with):
    splicer.policy(LAN, mark=mark)
    splicer.rules(rule("tcp"))
    assert splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN, came_with).mark == leaves_with


@pytest.mark.parametrize("action", ["pass", "drop", None])
def test_so_is_that_of_any_other_session(splicer, tcp_session, action):
    """It may have been spliced by a rule that is gone, and must reach its socket by a route."""
    splicer.policy(LAN)
    splicer.rules(*([rule("tcp", action)] if action else []))
    assert splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN, 0xABCD).mark == 0x1000ABCD


@pytest.mark.parametrize("mark", [Mark(), Mark(0x2, 0xF)])
@pytest.mark.parametrize("given", [{"default_action": "pass"}, {"default_action": "pass", "accept": "unspec"}])
def test_what_is_not_for_this_host_does_not_keep_a_mark_that_would_deliver_it_here(splicer, mark, given):
    """A tunnel or an earlier program has set the mark."""
    splicer.policy(LAN, mark=mark, **given)
    splicer.rules(rule("tcp", "pass"))
    for frame in (tcp_frame(SERVER, 443), udp_frame(SERVER, 443)):
        assert splicer.ask(frame, LAN, 0xFFFFFFFF).mark == 0xFFFFFFFF & ~mark.mask


# ---- rows 9 to 11: rules --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize("action", ["pass", "drop"])
def test_a_rule_passes_or_drops(splicer, protocol, default, action):
    splicer.policy(LAN, default_action=default)
    splicer.rules(rule(protocol, action), rule({"tcp": "udp", "udp": "tcp"}[protocol], "drop"))
    answer = splicer.ask(FRAMES[protocol](SERVER, 443), LAN, 0xABCD)
    assert (*told(answer), answer.rule, answer.mark) == (action, "rule", 1, 0xABCD)


@BOTH
def test_an_intercepted_address_that_is_the_hosts_own_is_left_to_the_stack(splicer, protocol):
    splicer.policy(LAN, allow_ssh=False)
    splicer.rules(rule(protocol))
    splicer.own(OWN, SERVER)
    assert splicer.ask(FRAMES[protocol](SERVER, 443), LAN, 0xABCD)[:5] == ("pass", "local", "pass", 1, 0)
    assert told(splicer.ask(FRAMES[protocol]("192.0.2.2", 443), LAN)) == ("drop", "no_listener")


@BOTH
def test_a_rule_for_that_very_address_takes_it(splicer, protocol):
    splicer.policy(LAN, allow_ssh=False)
    splicer.own(OWN, SERVER)
    splicer.rules(rule(protocol), rule(protocol, destination=f"{SERVER}/32"))
    assert told(splicer.ask(FRAMES[protocol](SERVER, 443), LAN)) == ("drop", "no_listener")
    assert told(splicer.ask(FRAMES[protocol](OWN, 443), LAN))[1] != "no_listener"


@BOTH
@pytest.mark.parametrize("port", [0, 7, 8, 443, 65535])
def test_a_rule_of_a_router_spares_the_reserved_ports_of_an_own_address(splicer, protocol, port):
    other = {"tcp": "udp", "udp": "tcp"}[protocol]
    splicer.policy(LAN, allow_ssh=False)
    splicer.own(OWN, SERVER)
    every = {"owner": "ziti:a", "ports": "0-65535"}
    splicer.rules(*(rule(name, destination=f"{OWN}/32", **every) for name in (protocol, other)))
    splicer.reserve((protocol, port))
    assert splicer.ask(FRAMES[protocol](OWN, port), LAN)[:4] == ("pass", "local", "pass", 1)
    for neighbour in {max(port - 1, 0), min(port + 1, 65535)} - {port}:
        assert told(splicer.ask(FRAMES[protocol](OWN, neighbour), LAN)) == ("drop", "no_listener")
    assert told(splicer.ask(FRAMES[other](OWN, port), LAN)) == ("drop", "no_listener")


@BOTH
def test_other_rules_and_other_addresses_know_no_reserved_ports(splicer, protocol):
    splicer.policy(LAN, allow_ssh=False)
    splicer.own(OWN)
    splicer.reserve((protocol, 443))
    splicer.rules(
        rule(protocol, destination=f"{OWN}/32"),
        rule(protocol, destination=f"{SERVER}/32", owner="ziti:a"),
        rule(protocol, destination="127.0.0.1/32", owner="ziti:a"),
    )
    for address in (OWN, SERVER, "127.0.0.1"):
        assert told(splicer.ask(FRAMES[protocol](address, 443), LAN)) == ("drop", "no_listener"), address


@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize("destination", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "10.1.0.255"])
def test_a_rule_for_all_destinations_takes_no_group_and_no_loopback_address(splicer, destination, default):
    splicer.policy(LAN, default_action=default)
    splicer.own(OWN, broadcasts=("10.1.0.255",))
    everywhere = rule("udp", destination="0.0.0.0/0")
    splicer.rules(everywhere)
    assert told(splicer.ask(udp_frame(destination, 443), LAN)) == (default, "undeliverable")
    splicer.rules(everywhere, rule("udp", destination=f"{destination}/32"))
    assert told(splicer.ask(udp_frame(destination, 443), LAN)) == ("drop", "no_listener")


def test_a_rule_within_such_a_range_takes_it(splicer):
    splicer.policy(LAN)
    splicer.rules(rule("udp", destination="239.1.0.0/16"))
    assert told(splicer.ask(udp_frame("239.1.2.3", 443), LAN)) == ("drop", "no_listener")
    splicer.rules(rule("udp", destination="192.0.0.0/2"))
    assert told(splicer.ask(udp_frame("239.1.2.3", 443), LAN)) == ("drop", "undeliverable")


def test_a_rule_that_drops_holds_for_the_hosts_own_address_too(splicer):
    splicer.policy(LAN)
    splicer.rules(rule("tcp", "drop"))
    splicer.own(SERVER)
    assert told(splicer.ask(tcp_frame(SERVER, 443), LAN)) == ("drop", "rule")


@BOTH
@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize("on_missing", ["drop", "pass"])
def test_without_a_listener_on_missing_decides(splicer, sockets, protocol, default, on_missing):
    splicer.policy(LAN, default_action=default)
    splicer.rules(rule(protocol, on_missing=on_missing))
    answer = splicer.ask(FRAMES[protocol](SERVER, 443), LAN, 0xABCD)
    assert (*told(answer), answer.mark) == (on_missing, "no_listener", 0xABCD)


@BOTH
@pytest.mark.parametrize("on_missing", ["drop", "pass"])
@pytest.mark.parametrize(("bound_to", "proxy"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), (OWN, OWN)])
def test_a_listener_gets_the_packet(splicer, sockets, protocol, bound_to, proxy, on_missing):
    """In a test run the assignment itself fails: that it was tried shows that the socket was found."""
    proxy_socket = sockets(protocol, bound_to, PROXY_PORT)
    splicer.policy(LAN)
    splicer.rules(rule(protocol, tproxy_ip=proxy, on_missing=on_missing))
    if protocol == "tcp":
        assert told(splicer.ask(tcp_frame(SERVER, 443), LAN)) == (on_missing, "no_listener")
        proxy_socket.listen()
    answer = splicer.ask(FRAMES[protocol](SERVER, 443), LAN)
    assert (*told(answer), answer.rule, answer.error) == ("drop", "assign_error", 1, -errno.EOPNOTSUPP)


@BOTH
@pytest.mark.parametrize(
    ("bound_to", "port", "other"),
    [("127.0.0.2", PROXY_PORT, False), ("127.0.0.1", PROXY_PORT + 1, False), ("127.0.0.1", PROXY_PORT, True)],
    ids=["another-address", "another-port", "another-protocol"],
)
def test_a_socket_elsewhere_is_no_listener(splicer, sockets, protocol, bound_to, port, other):
    listening = {"tcp": "udp", "udp": "tcp"}[protocol] if other else protocol
    one = sockets(listening, bound_to, port)
    if listening == "tcp":
        one.listen()
    splicer.policy(LAN)
    splicer.rules(rule(protocol))
    assert told(splicer.ask(FRAMES[protocol](SERVER, 443), LAN)) == ("drop", "no_listener")


def test_a_connection_to_the_proxy_itself_hides_no_listener(splicer, sockets):
    """It has the client's address and port as the packet has, and the first look-up prefers it."""
    listener = sockets("tcp", "127.0.0.1", PROXY_PORT)
    listener.listen()
    sockets("tcp", CLIENT, 40000, ("127.0.0.1", PROXY_PORT))
    splicer.policy(LAN)
    splicer.rules(rule("tcp"))
    assert told(splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40000), LAN)) == ("drop", "assign_error")
    assert told(splicer.ask(tcp_frame(SERVER, 443, CLIENT, 40001), LAN)) == ("drop", "assign_error")


def test_a_closed_listener_is_missed_at_once(splicer, sockets):
    proxy_socket = sockets("tcp", "127.0.0.1", PROXY_PORT)
    proxy_socket.listen()
    splicer.policy(LAN)
    splicer.rules(rule("tcp", on_missing="pass"))
    assert splicer.ask(tcp_frame(SERVER, 443), LAN).reason == "assign_error"
    proxy_socket.close()
    assert told(splicer.ask(tcp_frame(SERVER, 443), LAN)) == ("pass", "no_listener")


# ---- row 12, and what holds for all rows -------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("default", ["drop", "pass"])
def test_what_nothing_matched_gets_the_default_action(splicer, protocol, default):
    splicer.policy(LAN, default_action=default)
    splicer.rules(rule(protocol, "drop", ports=444), rule(protocol, "drop", destination="198.51.100.0/24"))
    assert splicer.ask(FRAMES[protocol](SERVER, 443), LAN)[:4] == (default, "default", default, 0)


@pytest.mark.parametrize("default", ["drop", "pass"])
def test_without_any_image_nothing_matches(splicer, default):
    splicer.policy(LAN, default_action=default)
    splicer.no_image()
    assert told(splicer.ask(tcp_frame(SERVER, 443), LAN)) == (default, "default")


WAYS_TO_DROP = {
    "malformed": ethernet(ipv4(tcp(443), 6, version=5)),
    "fragment": tcp_frame(SERVER, 443, fragment=1),
    "other": ethernet(ipv4(bytes(16), 47)),
    "rule": tcp_frame(SERVER, 80),
    "no_listener": tcp_frame(SERVER, 443),
    "default": tcp_frame(CLIENT, 443),
}


@pytest.mark.parametrize("reason", WAYS_TO_DROP)
def test_an_audit_passes_what_the_default_action_would_drop_and_nothing_else(splicer, sockets, reason):
    splicer.rules(rule("tcp", "drop", ports=80), rule("tcp", ports=443))
    splicer.policy(LAN)
    frame = tcp_frame(CLIENT, 443, fragment=1) if reason == "fragment" else WAYS_TO_DROP[reason]
    assert splicer.ask(frame, LAN)[:3] == ("drop", reason, "drop")
    splicer.policy(LAN, default_action="audit")
    passes = reason in ("fragment", "other", "default")
    assert splicer.ask(frame, LAN)[:3] == (("pass", reason, "would_drop") if passes else ("drop", reason, "drop"))
    splicer.policy(LAN, default_action="audit", accept="unspec")
    assert splicer.ask(frame, LAN).action == ("unspec" if passes else "drop")


@pytest.mark.parametrize("reason", WAYS_TO_DROP)
def test_the_loopback_interface_drops_nothing(splicer, sockets, reason):
    dropping = rule("tcp", "drop", ports=80), rule("tcp", ports=443)
    splicer.rules(*dropping)
    splicer.policy(LAN)
    assert splicer.ask(WAYS_TO_DROP[reason], LAN)[:3] == ("drop", reason, "drop")
    splicer.policy(LAN, loopback=True)
    assert splicer.ask(WAYS_TO_DROP[reason], LAN)[:3] == ("pass", reason, "pass")


def test_accept_unspec_lets_later_filters_judge_what_passes(splicer, sockets):
    splicer.policy(LAN, accept="unspec")
    passing = rule("tcp", "pass", ports=80), rule("tcp", ports=443, on_missing="pass")
    splicer.rules(*passing, rule("tcp", "drop", ports=25))
    for frame, reason in (
        (tcp_frame(OWN, 22), "ssh"),
        (udp_frame(OWN, 68, source_port=67), "dhcp"),
        (tcp_frame(SERVER, 80), "rule"),
        (tcp_frame(SERVER, 443), "no_listener"),
    ):
        assert splicer.ask(frame, LAN)[:3] == ("unspec", reason, "pass")
    assert splicer.ask(tcp_frame(SERVER, 25), LAN)[:3] == ("drop", "rule", "drop")
    splicer.policy(LAN, accept="unspec", loopback=True)
    assert splicer.ask(tcp_frame(SERVER, 25), LAN)[:3] == ("unspec", "rule", "pass")


def test_an_interface_without_ethernet_headers(splicer):
    """The frame is the datagram: its source 8.0.x.y stands where a test run reads the ethertype."""
    splicer.rules(rule("tcp", "pass", ports=443), rule("tcp", "drop", ports=80))
    splicer.policy(LAN, layer3=True)
    for port, action in ((443, "pass"), (80, "drop")):
        datagram = ipv4(tcp(port), 6, "8.0.0.9", SERVER)
        assert told(splicer.ask(datagram, LAN)) == (action, "rule")
    splicer.policy(LAN)
    assert told(splicer.ask(datagram, LAN)) == ("drop", "malformed")
