# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `ziti_names`. It runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ziti_names
short_description: Names of the services of an OpenZiti controller, by id
version_added: 1.0.0
description:
  - Returns a dictionary for C(tproxy_splicer_openziti_names), a variable of the role
    P(netedge.tproxy.tproxy_splicer#role).
  - A router names its services by id only. With this dictionary, rules and findings show the names as well.
author:
  - netedge.tproxy contributors (@netedge)
options:
  _input:
    description: An export, as P(netedge.tproxy.ziti_rules#filter) reads it. Its configurations are not needed.
    type: dict
    required: true
seealso:
  - plugin: netedge.tproxy.ziti_rules
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show names of services beside their ids
  ansible.builtin.include_role:
    name: netedge.tproxy.tproxy_splicer
  vars:
    tproxy_splicer_interfaces: [lan0]
    tproxy_splicer_openziti_names: "{{ export | netedge.tproxy.ziti_names }}"
    export: "{{ lookup('ansible.builtin.file', 'export.json') | from_json }}"
"""

RETURN = r"""
_value:
  description: The name of each service, by id.
  type: dict
  sample: {4rGdWvtU7Zg0tJQqR5nYbX: build farm}
"""

from ansible.errors import AnsibleFilterError

from ..module_utils._tproxy.errors import TproxyError
from ..module_utils._tproxy.openziti.export import read_names


def ziti_names(export):
    """Return the names of the services of an export; see DOCUMENTATION. Raise AnsibleFilterError."""
    try:
        return read_names(export)
    except TproxyError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"ziti_names": ziti_names}
