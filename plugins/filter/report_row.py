# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_row. It runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_row
short_description: Sum up the state of one router for a report
version_added: 1.0.0
description:
  - Reduces a result of M(netedge.tproxy.tproxy_info), which has every rule, to counts and short lists.
  - The playbook C(netedge.tproxy.report) keeps this row of each router instead of the result.
author:
  - netedge.tproxy contributors (@netedge)
options:
  _input:
    description: The registered result of M(netedge.tproxy.tproxy_info), also that of a failed or unreachable router.
    type: dict
    required: true
  router:
    description: The name of the router in the inventory.
    type: str
    required: true
seealso:
  - plugin: netedge.tproxy.report_summary
    plugin_type: filter
  - module: netedge.tproxy.tproxy_info
"""

EXAMPLES = r"""
- name: Read the state
  netedge.tproxy.tproxy_info:
  register: splicer

- name: Show the number of rules without hits
  ansible.builtin.debug:
    msg: "{{ (splicer | netedge.tproxy.report_row(inventory_hostname)).rules.unused }}"
"""

RETURN = r"""
_value:
  description:
    - C(router) is the name, C(state) one of V(unreachable), V(failed), V(error), V(warning), V(no program) and V(ok).
      C(why) is the message of an unreachable or failed router, which has no other members.
    - C(findings) and C(rules) have counts and their first entries, C(drops) and C(would_drops) packets by reason.
      C(capacity) has the tables of the router, the fullest one first.
  type: dict
  sample:
    router: edge1
    state: ok
    rules: {total: 3, unused: 1, not_in_force: 0}
"""

from ansible.errors import AnsibleFilterError

from ..module_utils._tproxy.abi.layout import INTERFACES, RULES
from ..plugin_utils.report_rows import row_of


def report_row(answer, router):
    """Return the row of a router; see DOCUMENTATION. Raise AnsibleFilterError."""
    try:
        return row_of(router, answer, {"rules": RULES, "interfaces": INTERFACES})
    except (AttributeError, KeyError, TypeError) as fault:
        wanted = "expected a result of tproxy_info of this release"
        raise AnsibleFilterError(f"report_row: {wanted}, got one of another form ({fault!r})") from fault


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"report_row": report_row}
