# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_page. It runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_page
short_description: Show a summary of routers as one HTML page
version_added: 1.0.0
description:
  - Returns a page with a row for each router. It needs no other file and fetches nothing.
  - Every text from a router is escaped.
  - pygal draws the charts. Without it the page has none, and tells so.
requirements:
  - pygal 3 on the controller, for the charts
author:
  - netedge.tproxy contributors (@netedge)
options:
  _input:
    description: The result of P(netedge.tproxy.report_summary#filter).
    type: dict
    required: true
seealso:
  - plugin: netedge.tproxy.report_row
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a page
  ansible.builtin.copy:
    dest: report.html
    mode: "0640"
    content: "{{ rows | netedge.tproxy.report_summary(written='today') | netedge.tproxy.report_page }}"
  vars:
    rows:
      - {router: edge1, state: unreachable, why: timed out}
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display

from ..plugin_utils.report_charts import MISSING, charts_of, has_library
from ..plugin_utils.report_page import page_of


def report_page(summary):
    """Return the page of a summary; see DOCUMENTATION. Raise AnsibleFilterError."""
    try:
        if has_library():
            return page_of(summary, charts_of(summary), "")
        Display().warning(MISSING)
        return page_of(summary, [], MISSING)
    except (AttributeError, KeyError, TypeError) as fault:
        raise AnsibleFilterError(f"report_page: expected a result of report_summary, got {fault!r}") from fault


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"report_page": report_page}
