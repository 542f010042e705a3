# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for a monitored router."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.tests.support.fixtures import (  # pylint: disable=unused-import
    bare_router,
    blob,
    client,
    netns,
    router,
)
