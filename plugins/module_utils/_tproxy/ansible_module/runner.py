# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The shell of the modules: runs one story with the real doors, and speaks Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ..errors import MissingLibrary, TproxyError
from ..operations import execute
from ..operations.execute import run_and_save
from ..system.bcc import INTERPRETERS
from ..system.system import open_system


def run(arguments: dict, story: Callable) -> None:
    """Run a story for one module: its parameters in, its answer or its error out."""
    module = AnsibleModule(**arguments)
    try:
        answer = run_and_save(story, trimmed(module.params, module.argument_spec), open_system(), module.check_mode)
    except MissingLibrary as missing:
        _respawn(missing.library)
        module.fail_json(msg=str(missing), **missing.details)
    except TproxyError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in answer.pop("warnings", []):
        module.warn(warning)
    if not module._diff:
        answer.pop("diff", None)
    module.exit_json(**answer)


def run_change(arguments: dict, story: Callable) -> None:
    """Run a story that changes something: its change may have to be confirmed, or be part of one that has."""
    run(arguments, lambda options, system, check: execute.run_change(story, options, system, check))


def trimmed(params: Mapping, spec: Mapping) -> dict:
    """Return the parameters without the blanks in lists of texts: Ansible splits `lan0, lan1` at its comma only."""
    return {name: _trimmed(value, spec.get(name, {})) for name, value in params.items()}


def _trimmed(value, about: Mapping):
    if not isinstance(value, list):
        return value
    if about.get("elements") == "str":
        return [text.strip(" ") for text in value]
    return [trimmed(item, about["options"]) for item in value] if "options" in about else value


def _respawn(missing: str) -> None:
    """Run this module again under the distribution's Python, if that one has pyroute2. Returns when none has.

    BCC needs no such turn: the compiler's door looks for an interpreter by itself.
    """
    library = missing.split()[0]
    if library != "pyroute2" or has_respawned():
        return
    interpreter = probe_interpreters_for_module(list(INTERPRETERS), library)
    if interpreter:
        respawn_module(interpreter)
