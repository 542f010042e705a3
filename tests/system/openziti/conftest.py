# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the scenarios: one network for all of them, and services that go with their test."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.network import Network
from ansible_collections.netedge.tproxy.tests.system.openziti.services import Service, create_many, sweep

STORM = "storm"


def pytest_configure(config):
    """Register the marks."""
    config.addinivalue_line("markers", "slice: part of the short run of `make openziti-slice`")
    config.addinivalue_line("markers", "storm: long, with thousands of services; runs by `-m storm` only")


def pytest_collection_modifyitems(config, items):
    """Leave the storms out, unless -m names them or the command line selects tests."""
    if config.option.markexpr or any("::" in word for word in config.args):
        return
    storms = [item for item in items if item.get_closest_marker(STORM)]
    items[:] = [item for item in items if item not in storms]
    config.hook.pytest_deselected(items=storms)


@pytest.fixture(scope="session")
def network():
    """Return the running network. It ends with the session, unless OPENZITI_KEEP is set."""
    made = Network()
    try:
        made.up()
        yield made
    finally:
        if not os.environ.get("OPENZITI_KEEP"):
            made.down()


@pytest.fixture
def serve(network):
    """Return a function that makes a service. Its services and rules are gone when the test ends."""
    made: list[Service] = []

    def create(*args, **options) -> Service:
        service = Service(*args, **options).create(network.api)
        made.append(service)
        return service

    yield create
    owners = {service.owner for service in made if service.made}
    for service in made:
        service.remove(network.api)
    lab.eventually(lambda: not owners & {rule["owner"] for rule in network.r1.rules()})


@pytest.fixture
def many(network):
    """Return a function that adds services by their numbers, each on an address of its own. They go with the test."""
    made: list[str] = []
    kinds = {"Dial": network.r1, "Bind": network.r2}
    for kind, router in kinds.items():
        made.append(network.api.policy(f"many-{kind}", kind, [network.api.id_of("identities", router.name)], "many"))
    yield lambda numbers: create_many(network.api, numbers, "many", "172.17")
    for identifier in made:
        network.api.delete("service-policies", identifier)
    sweep(network.api, "many")
    lab.eventually(lambda: not any(rule["destination"].startswith("172.17.") for rule in network.r1.rules()))
