# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The front end of the modules: runs one operation with the real system and returns its result to Ansible."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ..errors import MissingLibrary, TproxyError
from ..model.long_list import LongList
from ..operations.in_turn import run_in_turn
from ..resources.operation import Operation
from ..system.system import INTERPRETERS
from .long_lists import Module

F_SETPIPE_SZ = 1031  # include/uapi/linux/fcntl.h; Python has it since 3.10
# 1 MiB of source (plugins/plugin_utils/program.py) with the escapes of JSON, and the default of fs.pipe-max-size.
PIPE_BYTES, PIPE_BYTES_UNPRIVILEGED = 1 << 21, 1 << 20


def run(arguments: dict[str, Any], operation: Operation) -> None:
    """Run the operation of one module with its parameters, and exit with the result or the error."""
    # A run ends soon and leaves few cycles. With many rules the collector would take a tenth of the time.
    gc.disable()
    module = Module(**arguments)
    try:
        options = {**trimmed(module.params, module.argument_spec), "wants_diff": module._diff}
        result = run_in_turn(operation, options, operation.opens(), module.check_mode)
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
    if not isinstance(value, list) or isinstance(value, LongList):
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
        with _wide_pipes():
            respawn_module(interpreter)


@contextmanager
def _wide_pipes() -> Iterator[None]:
    """Give every pipe that this process creates in the block room for the options of tc_bpf_attach.

    respawn_module() writes all options to a pipe before it starts the process that reads them. A pipe holds 64 KiB
    (pipe(7)), and the C source that tc_bpf_attach ships is longer: the module would wait for ever.
    """
    narrow = os.pipe

    def wide() -> tuple[int, int]:
        read, write = narrow()
        try:
            fcntl.fcntl(write, F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:  # above fs.pipe-max-size it needs CAP_SYS_RESOURCE
            fcntl.fcntl(write, F_SETPIPE_SZ, PIPE_BYTES_UNPRIVILEGED)
        return read, write

    os.pipe = wide
    try:
        yield
    finally:
        os.pipe = narrow
