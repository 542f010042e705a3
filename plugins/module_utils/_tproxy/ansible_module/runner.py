# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The front end of the modules: runs one operation with the real system and returns its result to Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ..errors import MissingLibrary, TproxyError
from ..resources.operation import Operation
from ..system.system import INTERPRETERS


def run(arguments: dict[str, Any], operation: Operation) -> None:
    """Run the operation of one module with its parameters, and exit with the result or the error."""
    module = AnsibleModule(**arguments)
    try:
        options = trimmed(module.params, module.argument_spec)
        result = operation.execute(options, operation.opens(), module.check_mode)
    except MissingLibrary as missing:
        _respawn(missing.library)
        module.fail_json(msg=str(missing), **missing.details)
    except TproxyError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in result.warnings:
        module.warn(warning)
    diff = {"diff": result.diff._asdict()} if result.diff and module._diff else {}
    module.exit_json(changed=result.changed, **result.data, **diff)


def trimmed(params: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without blanks around the items of lists: Ansible splits `lan0, lan1` at the comma only."""
    return {name: _trimmed(value, spec.get(name, {})) for name, value in params.items()}


def _trimmed(value: Any, about: Mapping[str, Any]) -> Any:
    if not isinstance(value, list):
        return value
    if about.get("elements") == "str":
        return [text.strip(" ") for text in value]
    return [trimmed(item, about["options"]) for item in value] if "options" in about else value


def _respawn(missing: str) -> None:
    """Run this module again under a Python of the distribution that has pyroute2. Return if there is none.

    BCC needs no respawn: its adapter finds an interpreter by itself.
    """
    library = missing.split()[0]
    if library != "pyroute2" or has_respawned():
        return
    interpreter = probe_interpreters_for_module(list(INTERPRETERS), library)
    if interpreter:
        respawn_module(interpreter)
