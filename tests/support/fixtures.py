# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests against the kernel: namespaces, programs, a router and its client. conftest.py imports them."""

from __future__ import annotations

import os
import pathlib
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.refusals import RECORD
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import MissingLibrary
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.tests.support.ends import lay_ipv6
from ansible_collections.netedge.tproxy.tests.support.namespaces import Program, private_namespace
from ansible_collections.netedge.tproxy.tests.support.pin_folder import PinFolder
from ansible_collections.netedge.tproxy.tests.support.router import Router, lay_wire
from ansible_collections.netedge.tproxy.tests.support.splicer import Splicer, our_blob
from ansible_collections.netedge.tproxy.tests.support.wire import Wires


@pytest.fixture
def netns():
    """Run the test in a network namespace of its own."""
    with private_namespace() as namespace:
        yield namespace


@pytest.fixture
def program():
    """Return a maker of tiny programs: program(0) returns TC_ACT_OK on every packet."""
    made = []

    def make(value: int = 0) -> Program:
        made.append(Program(value))
        return made[-1]

    yield make
    for one in made:
        os.close(one.fd)


@pytest.fixture(scope="session")
def blob():
    """Return our program as a blob, compiled once for each state of the source."""
    try:
        return our_blob()
    except MissingLibrary as missing:
        pytest.skip(f"NOTHING OF THE PROGRAM WAS TESTED: {missing}")


@pytest.fixture(scope="session")
def compiler():
    """Let nothing that compiles run on a machine without BCC."""
    try:
        Compiler().version()
    except MissingLibrary as missing:
        pytest.skip(f"no compiler: {missing}")


@pytest.fixture(scope="session")
def loaded(blob):
    """Return our program, loaded on maps of its own. The verifier takes an emulated processor many seconds."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    splicer = Splicer(blob)
    yield splicer
    splicer.close()


@pytest.fixture
def splicer(loaded):
    """Return our program, which knows no interface and no rule yet."""
    loaded.forget()
    return loaded


@pytest.fixture
def wires(netns, splicer):
    """Return a maker of interfaces on which our program gets real frames."""
    return Wires(netns, splicer)


@contextmanager
def _router(namespace, blob):
    folder = PinFolder()
    # This process is the router of other tests, whose calls were refused on purpose.
    pathlib.Path(RECORD).unlink(missing_ok=True)
    try:
        yield Router(namespace, blob, folder)
    finally:
        folder.remove()


@pytest.fixture
def bare_router(netns, blob):
    """Return a router to which nothing was done yet. Its pins end with the test."""
    with _router(netns, blob) as router:
        yield router


@pytest.fixture
def client(bare_router):
    """Return a client behind the router's interface lan0."""
    client = lay_wire(bare_router.netns)
    yield client
    client.close()


@pytest.fixture
def router(bare_router, client):
    """Return a router with a client behind lan0."""
    return bare_router


@pytest.fixture(scope="module")
def lasting(blob):
    """Return (router, client) of both families that splice, for all tests of a file: one program for all of them."""
    with private_namespace() as namespace, _router(namespace, blob) as router:
        client = lay_wire(namespace)
        lay_ipv6(namespace, client)
        router.route()
        router.attach()
        yield router, client
        client.close()


@pytest.fixture
def splicing(lasting):
    """Return that router, which knows no rule and has counted nothing yet."""
    router, _client = lasting
    router.rules(purge=True)
    router.count_anew()
    return router
