# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_summary. It runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_summary
short_description: Sum up the rows of all routers
version_added: 1.0.0
description:
  - Sorts the rows of P(netedge.tproxy.report_row#filter) by name, and adds sums over all routers.
  - The playbook C(netedge.tproxy.report) writes the result as JSON.
author:
  - netedge.tproxy contributors (@netedge)
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  written:
    description: The time of the report.
    type: str
    required: true
seealso:
  - plugin: netedge.tproxy.report_page
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the state of each router
  ansible.builtin.debug:
    msg: "{{ summary.rows | items2dict(key_name='router', value_name='state') }}"
  vars:
    summary: "{{ rows | netedge.tproxy.report_summary(written=now(utc=true) | string) }}"
    rows:
      - {router: edge1, state: unreachable, why: timed out}
"""

RETURN = r"""
_value:
  description:
    - C(routers) is their number, C(states) counts them by state. C(rules), C(unused_rules), C(drops), C(would_drops)
      and C(busiest_rules) are sums over all routers, C(fullest) has the tables nearest to their limits.
    - C(rows) has the rows. The C(version) of a row is that of the collection if the program of the router has the same
      source, and empty otherwise.
  type: dict
  sample:
    routers: 1
    states: {unreachable: 1, failed: 0, error: 0, warning: 0, no program: 0, ok: 0}
"""

import functools
import json
import pathlib

from ansible.errors import AnsibleFilterError

from ..module_utils._tproxy.constants import VERSION
from ..plugin_utils.report_rows import summary_of

BLOB = pathlib.Path(__file__).resolve().parents[2] / "roles" / "tproxy_splicer" / "files" / "tproxy_splicer.json"


def report_summary(rows, written):
    """Return the summary of rows; see DOCUMENTATION. Raise AnsibleFilterError."""
    try:
        return summary_of(rows, written, {"version": VERSION, "source_sha256": _source()})
    except (AttributeError, KeyError, TypeError) as fault:
        raise AnsibleFilterError(f"report_summary: expected rows of report_row, got {fault!r}") from fault


@functools.cache
def _source() -> str:
    """Return the digest of the source of the program that this collection ships."""
    return json.loads(BLOB.read_text(encoding="utf-8"))["source_sha256"]


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"report_summary": report_summary}
