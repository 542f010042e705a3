# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for daemons of the distribution on a router whose lan0 drops by default."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.tests.support.fixtures import (  # pylint: disable=unused-import
    bare_router,
    blob,
    client,
    netns,
    router,
)
from ansible_collections.netedge.tproxy.tests.system.daemons.daemons import Daemons
from ansible_collections.netedge.tproxy.tests.system.daemons.uplink import Far, lay_uplink


def pytest_configure(config):
    config.addinivalue_line("markers", "slice: part of the short run of `make daemons-slice`")


@pytest.fixture
def daemons(tmp_path_factory):
    """Return a starter of daemons. They end before the namespaces do."""
    found = Daemons(pathlib.Path(tmp_path_factory.mktemp("daemons")))
    yield found
    found.stop_all()


@pytest.fixture
def closed(router, client, daemons):
    """Return a router with our program and default drop on lan0, its addresses recorded, and no rule."""
    router.attach(policy={"default_action": "drop", "allow_ssh": False})
    router.record()
    return router


@pytest.fixture
def provider(router, client):
    """Return the provider behind wan0, to which the default route of the router leads."""
    made = lay_uplink(router)
    yield made
    made.close()


@pytest.fixture
def uplink(router, provider):
    """Return a router with an uplink, without our program on it."""
    return router


@pytest.fixture
def far(router, provider):
    """Return a host beyond the provider."""
    made = Far(router.netns, provider)
    yield made
    made.close()
