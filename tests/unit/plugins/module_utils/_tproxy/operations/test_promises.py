# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of every operation: check mode predicts and changes nothing, a second run changes nothing."""

from __future__ import annotations

import inspect

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import (
    bpf,
    bpffs,
    daemon,
    files,
    procfs,
    sock_diag,
    systemd,
    unix_socket,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import (
    FakeCompiler,
    FakeNetlink,
)
from ansible_collections.netedge.tproxy.tests.support.fakes.surroundings import (
    FakeNetworkd,
    FakeProcesses,
    FakeSockets,
    FakeSysctl,
)
from ansible_collections.netedge.tproxy.tests.support.fakes.system import (
    FakeBackground,
    FakeBpf,
    FakeBpffs,
    FakeFiles,
    FakeRequests,
    FakeServices,
)
from ansible_collections.netedge.tproxy.tests.support.scenarios import ROUTERS, SCENARIOS, play, readable

EACH = pytest.mark.parametrize("scenario", (*SCENARIOS, *ROUTERS), ids=lambda scenario: scenario.name.replace(" ", "-"))
# on maps that nobody else sees, and that end with the run
REHEARSED = {"create_map", "update", "load_program"}
# what no run can know before it has happened
NUMBERS = ("program_id", "tag")


def promised(answer: dict) -> dict:
    """Return an answer without the kernel's own numbers."""
    attachment = answer.get("attachment")
    if attachment:
        answer = {**answer, "attachment": {name: attachment[name] for name in attachment if name not in NUMBERS}}
    return answer


@EACH
def test_check_mode_foretells_the_real_run_and_changes_nothing(scenario):
    machine = scenario.machine()
    before = machine.everything()
    predicted = play(machine, scenario.run, check=True)
    assert set(machine.changes.values()) <= REHEARSED
    assert machine.everything() == before
    assert promised(predicted) == promised(play(machine, scenario.run))
    assert predicted["changed"]


@EACH
def test_a_second_run_changes_nothing(scenario):
    machine = scenario.machine()
    play(machine, scenario.run)
    after = machine.everything()
    machine.start_over()
    again = play(machine, scenario.run)
    assert not again["changed"]
    assert set(machine.changes.values()) <= {"remove_folder"}  # which removes nothing that is not there
    assert machine.everything() == after
    assert again["diff"]["before"] == again["diff"]["after"]


@EACH
def test_a_run_closes_what_it_opened(scenario):
    machine = scenario.machine()
    assert not machine.still_open()
    play(machine, scenario.run)
    assert not machine.still_open()


@EACH
def test_what_is_read_is_what_packets_meet(scenario):
    machine = scenario.machine()
    play(machine, scenario.run)
    drift = {word for entry in readable(machine)["attachments"] for word in entry["drift"]}
    assert drift <= {"addresses_differ"}, "addresses may be given that an interface does not have"


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        *((FakeBpf, bpf), (FakeBpffs, bpffs), (FakeNetlink, Netlink), (FakeCompiler, Compiler)),
        *((FakeSysctl, procfs), (FakeSockets, sock_diag), (FakeFiles, files), (FakeBackground, daemon)),
        *((FakeProcesses, procfs), (FakeNetworkd, procfs), (FakeRequests, unix_socket)),
        (FakeServices, systemd),
    ],
    ids=lambda adapter: adapter.__name__.split(".")[-1],
)
def test_a_fake_takes_the_calls_that_the_real_adapter_takes(fake, real):
    """A call that only the fake would take proves nothing."""
    for name, method in vars(fake).items():
        if not name.startswith("_") and callable(method):
            mine = list(inspect.signature(method).parameters.values())[1:]
            theirs = list(inspect.signature(getattr(real, name)).parameters.values())
            theirs = [one for one in theirs if one.name != "self"]
            assert len(mine) <= len(theirs), name
            assert all(one.default is not one.empty for one in theirs[len(mine) :]), name
