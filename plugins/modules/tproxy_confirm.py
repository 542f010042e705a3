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
  - A change that waits is in force at once. When nobody confirms it in time, all is as it was before, with nobody
    acting. See O(netedge.tproxy.tproxy_rule#module:confirm_timeout), which does all of this for one task.
  - With this module several tasks become one change. It begins the change before the first and confirms it after
    the last.
  - It confirms over a new connection. That the old one still answers says nothing, since packets of a session pass.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - netedge.tproxy.splicer
  - netedge.tproxy.splicer.changes
options:
  state:
    description:
      - V(begun) keeps all that is in force, and brings it back after O(confirm_timeout). Runs that carry the token are
        part of the change, all others are refused.
      - V(confirmed) lets the change stay. It fails when the time is over.
      - V(rolled_back) brings back what was before it at once.
    type: str
    choices: [confirmed, rolled_back, begun]
    default: confirmed
  token:
    description:
      - Which change. When not given, whichever waits; it is no fault that none does.
      - For O(state=begun) the token of the new change, a random one when not given.
    type: str
  confirm_timeout:
    description:
      - Within how many seconds the change must be confirmed, 5 to 3600. For O(state=begun), which requires it.
    type: int
notes:
  - The time is that of CLOCK_MONOTONIC. Setting the clock neither ends nor lengthens it.
  - A reboot rolls back, too, to what M(netedge.tproxy.tproxy_state) has saved. Only what is confirmed is saved.
seealso:
  - module: netedge.tproxy.tc_bpf_attach
  - module: netedge.tproxy.tproxy_rule
"""

EXAMPLES = r"""
- name: All that follows must be confirmed within two minutes
  netedge.tproxy.tproxy_confirm:
    state: begun
    confirm_timeout: 120
  register: change

- name: Route, program and rules
  module_defaults:
    group/netedge.tproxy.all:
      confirm_token: "{{ change.confirm.token }}"
  block:
    - name: Route what is spliced to this host
      netedge.tproxy.tproxy_route:
        interfaces: [lan0]

    - name: Attach the splicer
      netedge.tproxy.tc_bpf_attach:
        interface: lan0

- name: Confirm, over a new connection
  netedge.tproxy.tproxy_confirm:
    token: "{{ change.confirm.token }}"

- name: Or undo it all, whoever began it
  netedge.tproxy.tproxy_confirm:
    state: rolled_back
"""

RETURN = r"""
confirm:
  description: The latest change since the machine was booted; null when there was none.
  returned: success
  type: dict
  contains:
    state:
      description: V(pending), V(confirmed) or V(rolled_back).
      type: str
    token:
      description: Its token; null where check mode began nothing.
      type: str
    seconds:
      description: Within how many seconds it must be, or had to be, confirmed.
      type: int
    seconds_left:
      description: How many are left; 0 once it is not pending.
      type: int
  sample:
    state: confirmed
    token: 6f1c0a4be2d95a37
    seconds: 120
    seconds_left: 0
changes:
  description: What the roll-back did, one line each.
  returned: success
  type: list
  elements: str
  sample: ["rules: 2 put back"]
"""

from ..module_utils._argspec import tproxy_confirm
from ..module_utils._confirm_change import confirm_change
from ..module_utils._runner import run


def main() -> None:
    """Run the module."""
    run(tproxy_confirm(), confirm_change)


if __name__ == "__main__":
    main()
