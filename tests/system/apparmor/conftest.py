# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a network of OpenZiti, and routers in the profile of the guide or in a part of it."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import HELPER_SOCKET
from ansible_collections.netedge.tproxy.tests.contract.apparmor import missing, parse
from ansible_collections.netedge.tproxy.tests.support.fixtures import (  # pylint: disable=unused-import
    blob,
    lasting,
)
from ansible_collections.netedge.tproxy.tests.system.apparmor.confined_router import (
    INTERCEPT,
    PREPARED,
    ZITI,
    ConfinedRouter,
    Syslog,
    install,
    start_helper,
)
from ansible_collections.netedge.tproxy.tests.system.apparmor.controller import ECHO_PORT, RUN, Controller, serve_echo
from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import ADDRESS
from ansible_collections.netedge.tproxy.tests.system.openziti.services import Service

NAME = "ziti-router"
# What OpenZiti's router needs for itself.
PROFILE = """\
abi <abi/3.0>,
include <tunables/global>
profile ziti-router {
  include <abstractions/base>
  include <abstractions/nameservice>
  capability net_admin,
  capability net_bind_service,
  /usr/bin/ziti mr,
  owner /var/lib/ziti-router/** rwk,
  @{PROC}/sys/net/core/somaxconn r,
  @{PROC}/@{pid}/cgroup r,
  @{sys}/kernel/mm/transparent_hugepage/hpage_pmd_size r,
LINES
}
"""


@pytest.fixture(scope="module")
def api(lasting):
    """Return a session at the controller. The router is enrolled and does not run."""
    if not PREPARED.is_dir():
        pytest.skip("no guest of tests/system/apparmor/run: the network has the paths of an installation")
    assert not missing(), missing()  # nothing else is tested here
    install()
    controller = Controller(lasting[0].netns, ZITI, RUN)
    serve_echo()
    yield controller.api
    controller.stop()


@pytest.fixture
def helper(api, lasting):
    """Return the running helper."""
    running = start_helper(lasting[0].pin_dir)
    yield running
    running.close()
    pathlib.Path(HELPER_SOCKET).unlink()


@pytest.fixture(scope="module")
def syslog():
    """Return the daemon that gets what the diverter logs."""
    return Syslog()


@pytest.fixture
def confined(api):
    """Return a function that starts the router in a profile with these lines."""
    started = []

    def start(lines: list) -> ConfinedRouter:
        parse("--replace", PROFILE.replace("LINES", "\n".join(f"  {line}" for line in lines)))
        started.append(ConfinedRouter(NAME))
        return started[-1]

    yield start
    for router in started:
        router.stop()
    parse("--remove", PROFILE.replace("LINES", ""))


@pytest.fixture
def service(api):
    """Return a service that the router intercepts and hosts."""
    made = Service("echo", INTERCEPT, port=ECHO_PORT, address=ADDRESS).create(api)
    yield made
    made.remove(api)
