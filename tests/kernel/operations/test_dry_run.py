# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a change a run tests whether its own SSH session would still get in.

SSH_CONNECTION names the SSH session, as sshd sets it. The listener is one of the test, on a router with a client.
"""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import manage_router
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Refused
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, transparent
from ansible_collections.netedge.tproxy.tests.support.visitors import visited as with_session

SSH_PORT = 2222
OWN_RULE = {"destination": OWN, "protocol": "tcp", "ports": str(SSH_PORT), "interfaces": [LAN]}
PROXIED = {**OWN_RULE, "destination": "10.1.0.0/16", "tproxy_port": 8443}
ENTRY = {"source": "10.1.0.0/24", "protocol": "tcp", "port": str(SSH_PORT)}


@pytest.fixture
def visited(router, monkeypatch):
    """Return a router to which the client has an SSH session, that is, a connection to a listener."""
    with socket.create_server((OWN, SSH_PORT)) as sshd, router.netns_client.socket(socket.SOCK_STREAM) as session:
        session.connect((OWN, SSH_PORT))
        accepted, peer = sshd.accept()
        with accepted:
            session = (CLIENT, str(peer[1]), OWN, str(SSH_PORT))
            monkeypatch.setattr(router, "system", with_session(router.system, *session))
            router.peer = peer
            yield router


@pytest.fixture
def router(router, client):
    router.netns_client = client
    return router


def everything(router) -> tuple:
    return router.pinned(), router.netns.run(f"tc filter show dev {LAN} ingress"), router.info()["rules"]


def reaches(router) -> bool:
    """Whether a new connection of the client's gets through to the listener."""
    with router.netns_client.socket(socket.SOCK_STREAM) as made:
        made.settimeout(1)
        try:
            made.connect((OWN, SSH_PORT))
        except TimeoutError:
            return False
    return True


@pytest.mark.parametrize("check", [False, True])
def test_a_first_attachment_that_would_drop_ssh_is_refused_and_changes_nothing(visited, check):
    before = everything(visited)
    with pytest.raises(Refused, match=rf"from {CLIENT} to {OWN} port {SSH_PORT} would not reach sshd by lan0 \(drop"):
        visited.attach(check=check)
    assert everything(visited) == before
    assert reaches(visited)


def test_the_answer_is_that_of_the_wire(visited):
    """With force it makes the predicted change."""
    warnings = visited.attach(force=True)["warnings"]
    assert any("[cuts_ssh]" in line for line in warnings)
    assert not reaches(visited)


@pytest.mark.parametrize("policy", [{"management": [ENTRY]}, {"default_action": "pass"}])
def test_a_policy_that_lets_ssh_in_is_no_reason_to_refuse(visited, policy):
    answer = visited.attach(policy=policy)
    assert answer["changed"] and answer["warnings"] == []
    assert reaches(visited)


def test_a_policy_that_shuts_ssh_out_is_refused_and_the_old_one_stays(visited):
    visited.attach(policy={"management": [ENTRY]})
    before = everything(visited)
    with pytest.raises(Refused, match=r"\[cuts_ssh\]"):
        visited.attach(policy={"management": [{**ENTRY, "source": "10.1.0.99"}]})
    assert everything(visited) == before
    assert reaches(visited)


def test_an_established_session_is_no_proof(visited):
    """The session itself passes by its state: the question is about a new one from the very same port too."""
    with pytest.raises(Refused, match="drop, default"):
        visited.attach()


def test_rules_that_drop_ssh_are_refused_and_the_old_ones_stay(visited):
    visited.attach(policy={"default_action": "pass"})
    visited.rules({**OWN_RULE, "destination": "192.0.2.0/24", "action": "drop"})
    before = everything(visited)
    for check in (True, False):
        with pytest.raises(Refused, match="drop, rule"):
            visited.rules({**OWN_RULE, "action": "drop"}, check=check)
    assert everything(visited) == before
    assert reaches(visited)
    assert visited.rules({**OWN_RULE, "action": "drop"}, force=True)["changed"]
    assert not reaches(visited)


def test_rules_that_give_ssh_to_a_proxy_are_refused(visited):
    visited.attach(policy={"default_action": "pass"})
    with transparent(socket.SOCK_STREAM, 8443), pytest.raises(Refused, match="pass, spliced"):
        visited.rules({**PROXIED, "destination": OWN})
    assert reaches(visited)


def test_rules_that_do_not_touch_ssh_cost_no_program(visited, monkeypatch):
    visited.attach(policy={"default_action": "pass"})
    system, loaded = visited.system(), []
    monkeypatch.setattr(system.bpf, "load_program", lambda *arguments: loaded.append(arguments))
    visited.rules({**OWN_RULE, "destination": "192.0.2.0/24", "action": "drop"})
    assert loaded == []


def test_a_session_by_another_interface_is_not_asked_about(visited):
    visited.netns.veth("lan1", "lan1-peer")
    assert visited.attach("lan1")["changed"]


def test_a_management_entry_that_the_program_would_not_let_in_is_refused(router, blob, program, monkeypatch):
    """No policy does that, only a program of another source; a program that drops everything stands for it."""
    system, drop = router.system(), program(2)
    monkeypatch.setattr(system.bpf, "load_program", lambda _code, _function, _name=None: os.dup(drop.fd))
    with pytest.raises(Refused, match=r"lan0 would not pass 10.1.0.0/24 to tcp/2222 of `management`"):
        router.attach(policy={"management": [ENTRY]})
    assert router.netns.run(f"tc filter show dev {LAN} ingress") == ""


def steer(router, addresses: list, check: bool) -> dict:
    """Run tproxy_router with a rule for the subnet of the session, and with these recorded addresses."""
    interface = {"name": LAN, "policy": {"default_action": "pass"}, "addresses": addresses}
    given = {"persist": False, "cli": False, "blob_content": router.blob.to_json(), "pin_dir": router.pin_dir}
    given = options("tproxy_router", interfaces=[interface], rules=[PROXIED], **given)
    return manage_router(given, router.system(), check).as_dict()


@pytest.mark.parametrize("check", [True, False])
def test_a_rule_for_the_subnet_leaves_the_session_whatever_is_recorded(visited, check):
    for recorded in (["auto"], ["10.1.0.9"]):
        assert steer(visited, recorded, check)["changed"]
        assert reaches(visited)
