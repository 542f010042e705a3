# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which socket a rule of a router was made for, on the fake machine."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.listeners import Listeners
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import UNKNOWN_LISTENER
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine

PORT, COOKIE = 8443, 77
RULE = rules_from_params([{"destination": "192.0.2.1", "protocol": "tcp", "ports": 443, "tproxy_port": PORT}])[0][0]
DROP = rules_from_params([{"destination": "192.0.2.1", "protocol": "tcp", "ports": 443, "action": "drop"}])[0][0]


@pytest.fixture
def machine():
    made = Machine()
    made.listeners.add(("tcp", PORT))
    made.cookies["tcp", PORT] = COOKIE
    return made


@pytest.fixture
def listeners(machine):
    return Listeners(machine.system().sockets)


def made_for(cookie: int):
    return RULE._replace(listener=cookie)


def test_a_rule_gets_the_cookie_of_its_listener(listeners):
    assert listeners.identify(RULE) == made_for(COOKIE)
    assert listeners.identify(made_for(5)) == made_for(COOKIE)
    assert listeners.identify(DROP) == DROP


def test_a_rule_before_its_listener_names_none_and_learns_it(machine):
    machine.listeners.clear()
    early = Listeners(machine.system().sockets).identify(RULE)
    assert early.listener == UNKNOWN_LISTENER
    assert Listeners(machine.system().sockets).identify_unknown(early) is None
    machine.listeners.add(("tcp", PORT))
    assert Listeners(machine.system().sockets).identify_unknown(early) == made_for(COOKIE)


def test_a_known_listener_is_not_replaced_by_another_one(listeners):
    assert listeners.identify_unknown(made_for(5)) is None
    assert listeners.identify_unknown(RULE) is None


def test_the_members_of_a_group_are_not_compared(machine, listeners):
    machine.groups.add(("tcp", PORT))
    assert listeners.identify(made_for(5)).listener is None


def test_a_listener_is_there_while_its_socket_is(machine, listeners):
    assert listeners.has(made_for(COOKIE))
    assert listeners.has(RULE)
    assert not listeners.has(made_for(5))
    machine.groups.add(("tcp", PORT))
    assert listeners.has(made_for(COOKIE + 1)), "a socket beside it took the lookup"


def test_without_a_socket_there_is_no_listener(machine):
    machine.listeners.clear()
    listeners = Listeners(machine.system().sockets)
    assert not any(map(listeners.has, (RULE, made_for(COOKIE), made_for(UNKNOWN_LISTENER))))
    assert listeners.has(DROP)


def test_the_program_gives_packets_to_sockets_of_one_user_alone(machine, listeners):
    machine.users["tcp", PORT] = 13
    assert listeners.accept(RULE._replace(user=13))
    assert not listeners.accept(RULE._replace(user=0))
    assert not listeners.accept(made_for(5)._replace(user=13))
    machine.listeners.clear()
    assert Listeners(machine.system().sockets).accept(RULE._replace(user=0)), "the program says no_listener then"


def test_the_program_gives_packets_to_that_socket_alone(listeners):
    assert listeners.accept(RULE)
    assert listeners.accept(made_for(COOKIE))
    assert not listeners.accept(made_for(5))
    assert not listeners.accept(made_for(UNKNOWN_LISTENER))
