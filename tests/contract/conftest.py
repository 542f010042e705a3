# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the contract tests: the installed executable, and a router in a namespace with the program on lan0."""

from __future__ import annotations

import os
import pathlib
import tempfile

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import executable
from ansible_collections.netedge.tproxy.tests.contract.edge_router import NOBODY, Commands, EdgeRouter
from ansible_collections.netedge.tproxy.tests.contract.helper import Helper
from ansible_collections.netedge.tproxy.tests.support.fixtures import (  # pylint: disable=unused-import
    bare_router,
    blob,
    client,
    netns,
    router,
)

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def installed():
    """Return the folder of the installed executable with all its links. Any user may run it there."""
    package = HERE.parents[1] / "plugins" / "module_utils" / "_tproxy"
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        folder.chmod(0o755)
        path = folder / "tproxy-splicer"
        path.write_bytes(executable(lambda module: (package / f"{module}.py").read_bytes(), os.path.exists))
        path.chmod(0o755)
        for name in ("map_update", "map_delete_elem"):
            (folder / name).symlink_to(path.name)
        yield folder


@pytest.fixture
def command(installed, bare_router):
    """Return a caller of the installed commands, with the pin folder of the router."""
    return Commands(installed, bare_router.pin_dir)


@pytest.fixture
def attached_router(router):
    """Return a router with the program on lan0 and a policy route for spliced packets."""
    router.route()
    router.attach()
    return router


@pytest.fixture
def helper(installed, bare_router):
    """Return a running helper."""
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        folder.chmod(0o755)
        helper = Helper(installed, bare_router.pin_dir, folder / "socket")
        helper.start()
        yield helper
        helper.close()


@pytest.fixture(params=["root", "helper"])
def edge(request, attached_router, installed):
    """Return a started edge router, with root's rights, or unprivileged with the helper."""
    if request.param == "root":
        started = EdgeRouter(Commands(installed, attached_router.pin_dir))
    else:
        socket = str(request.getfixturevalue("helper").path)
        started = EdgeRouter(Commands(installed, attached_router.pin_dir, socket), user=NOBODY)
    started.start()
    yield started
    started.crash()
