# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapters that a module opens on a router. The fakes of the other tests have all of them."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.install import INSTALL
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import MANAGE_ROUTER
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import RECORD_ADDRESSES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import ATTACH
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import CONFIRM_CHANGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.route import MANAGE_ROUTE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import SAVE_STATE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import ABSENT

CHANGES = (
    APPLY_RULES,
    ATTACH,
    CONFIRM_CHANGE,
    INSTALL,
    MANAGE_ROUTE,
    MANAGE_ROUTER,
    RECORD_ADDRESSES,
    SAVE_STATE,
)


@pytest.mark.parametrize("operation", CHANGES, ids=lambda operation: operation.name)
def test_each_module_that_changes_the_router_can_roll_back(operation):
    assert operation.opens().sockets is not ABSENT, "a roll-back sets the reserved ports, which are those of sockets"
