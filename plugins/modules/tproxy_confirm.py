#!/usr/bin/python
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tproxy_confirm
short_description: Confirm a change of the splicer, or roll it back
version_added: 0.1.0
description:
  - A pending change is in force at once. If it is not confirmed in time, the router restores the previous state by
    itself. For one task, use O(netedge.tproxy.tproxy_rule#module:confirm_timeout) instead of this module.
  - With this module several tasks become one change. Begin the change before the first task, and confirm it after the
    last one.
  - The module confirms over a new connection. An established connection proves nothing, because packets of a session
    always pass.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  state:
    description:
      - V(begun) records the state in force. The router restores it after O(confirm_timeout). Tasks with the token are
        part of the change; other tasks are refused.
      - V(confirmed) keeps the change. It fails after the deadline.
      - V(rolled_back) restores the previous state at once.
    type: str
    choices: [confirmed, rolled_back, begun]
    default: confirmed
  token:
    description:
      - Token of the change. The default is the pending change, if any.
      - For O(state=begun), token of the new change. The default is a random token.
    type: str
  confirm_timeout:
    description:
      - Time limit of the confirmation in seconds, 5 to 3600. Required for O(state=begun), and for it only.
    type: int
notes:
  - The deadline uses CLOCK_MONOTONIC. A change of the system time does not move it.
  - A reboot also ends a pending change. It restores the state that M(netedge.tproxy.tproxy_state) saved, and that state
    has confirmed changes only.
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_rule
"""

EXAMPLES = r"""
- name: Begin a change that must be confirmed within two minutes
  netedge.tproxy.tproxy_confirm:
    state: begun
    confirm_timeout: 120
  register: change

- name: Add the route and the program
  module_defaults:
    group/netedge.tproxy.all:
      confirm_token: "{{ change.confirm.token }}"
  block:
    - name: Add the policy route
      netedge.tproxy.tproxy_route:
        interfaces: [lan0]

    - name: Attach the splicer
      netedge.tproxy.tc_bpf_attach:
        interface: lan0

- name: Confirm over a new connection
  netedge.tproxy.tproxy_confirm:
    token: "{{ change.confirm.token }}"

- name: Or roll back the pending change of any user
  netedge.tproxy.tproxy_confirm:
    state: rolled_back
"""

RETURN = r"""
confirm:
  description: The latest change since the boot; null without one.
  returned: success
  type: dict
  contains:
    state:
      description: V(pending), V(confirmed) or V(rolled_back).
      type: str
    token:
      description: Token of the change; null if check mode began none.
      type: str
    seconds:
      description: Time limit of the confirmation, in seconds.
      type: int
    seconds_left:
      description: Seconds left; 0 if the change is not pending.
      type: int
  sample:
    state: confirmed
    token: 6f1c0a4be2d95a37
    seconds: 120
    seconds_left: 0
changes:
  description: The steps of the roll-back, one line each.
  returned: success
  type: list
  elements: str
  sample: ["rules: 2 put back"]
"""

from ..module_utils._tproxy.ansible_module.argspec import tproxy_confirm
from ..module_utils._tproxy.ansible_module.runner import run
from ..module_utils._tproxy.operations.confirm import CONFIRM_CHANGE


def main() -> None:
    """Run the module."""
    run(tproxy_confirm(), CONFIRM_CHANGE)


if __name__ == "__main__":
    main()
