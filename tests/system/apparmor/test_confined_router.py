# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real router of OpenZiti in a profile of AppArmor, with the lines of docs/openziti.md and without some of them."""

from __future__ import annotations

import errno

from ansible_collections.netedge.tproxy.tests.contract.apparmor import lines_of_the_guide
from ansible_collections.netedge.tproxy.tests.system.apparmor.confined_router import DESTINATION, LIMIT, SENT, echo
from ansible_collections.netedge.tproxy.tests.system.openziti import lab

ENDS = "failed to initialize tproxy interceptor"


def codes(router) -> set:
    """Return the codes of the findings."""
    return {each["code"] for each in router.info()["findings"]}


def refusals(syslog) -> list:
    """Return the messages of the diverter about refused calls: all but those of the audit."""
    return [line for line in syslog.lines if "tproxy-splicer-audit[" not in line]


def test_with_the_lines_of_the_guide_a_service_works_until_it_is_withdrawn(
    api, helper, confined, service, lasting, syslog
):
    router, client = lasting
    before = codes(router)
    ziti = confined(lines_of_the_guide())
    assert "helper: reachable" in ziti.says("version info tproxy-splicer")
    assert ziti.confinement == "ziti-router (enforce)"
    (rule,) = lab.eventually(lambda: router.info()["rules"], LIMIT, 1)
    assert (rule["owner"], rule["destination"], rule["ports"]) == (service.owner, f"{DESTINATION}/32", "80")
    assert lab.eventually(lambda: echo(client), LIMIT, 1) == SENT
    assert codes(router) == before
    service.remove(api)
    lab.eventually(lambda: not router.info()["rules"], LIMIT, 1)
    assert codes(router) == before
    assert refusals(syslog) == []


def test_with_these_lines_a_refused_call_reaches_doctor_and_the_journal(confined, service, lasting, syslog):
    """No helper listens. The diverter still reads what it needs for its answer, and writes to the journal."""
    router, _client = lasting
    ziti = confined(lines_of_the_guide())
    assert "not reachable, no process listens at" in ziti.says("version info tproxy-splicer")
    lab.eventually(lambda: "listener_without_rule" in codes(router), LIMIT, 1)
    lab.eventually(lambda: refusals(syslog), LIMIT, 1)
    assert service.owner.removeprefix("ziti:") in refusals(syslog)[0]
    assert "CAP_SYS_ADMIN" in refusals(syslog)[0]
    assert router.info()["rules"] == []


def test_without_the_line_for_python_the_router_ends_with_the_status_of_its_diverter(
    helper, confined, service, lasting
):
    """tests/contract/test_apparmor.py has the message of the diverter. The router does not log it each time."""
    ziti = confined([line for line in lines_of_the_guide() if "python3" not in line])
    assert f"exit status {errno.EACCES}" in ziti.says(ENDS)
    assert ziti.status() != 0
    assert lasting[0].info()["rules"] == []


def test_without_the_lines_the_router_ends(helper, confined, service, lasting):
    ziti = confined([])
    assert "fork/exec /usr/local/sbin/tproxy-splicer: permission denied" in ziti.says(ENDS)
    assert ziti.status() != 0
    assert lasting[0].info()["rules"] == []
