# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of a change that must be confirmed: over a new connection, or it is seen to be rolled back.

An established connection proves nothing: its packets pass as those of a session. It imports nothing of the collection
by name, since the checkout also finds its plugins as plugins of no collection.
"""

from __future__ import annotations

import secrets
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

PATIENCE = 60  # seconds beyond the deadline in which a router must be reached again
PAUSE = 1


def run(action, arguments: dict, task_vars: dict) -> dict:
    """Run the task's module; confirm the change that it leaves, if it leaves one that waits."""
    asynchronous = bool(action._task.async_val) and not action._connection.has_native_async
    if str(arguments.get("confirm_timeout") or 0).strip() == "0":
        return action._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=asynchronous)
    if asynchronous:
        return _failed("confirm_timeout: cannot go with async, which confirms nothing; nothing was changed")
    arguments = {"confirm_token": secrets.token_hex(8), **arguments}
    action._low_level_execute_command("true", sudoable=False)  # a host that is down is unreachable, and no more
    began = time.monotonic()
    try:
        answer = action._execute_module(module_args=arguments, task_vars=task_vars)
    except AnsibleConnectionFailure as fault:
        return _after_a_cut(action, arguments, task_vars, began, fault)
    pending = answer.get("confirm")
    if answer.get("failed") or not pending:
        return answer
    return {**answer, **confirm(action, {**arguments, **pending}, task_vars)}


def confirm(action, change: dict, task_vars: dict) -> dict:
    """Confirm a change of this token over a new connection. Returns what to add to the task's answer.

    `change` has `token`, `seconds_left` and, where it is not the default, `pin_dir`.
    """
    end = time.monotonic() + change["seconds_left"] + PATIENCE
    said, fault = _ask_until(end, action, "confirmed", change, task_vars)
    if said is None:
        return _failed(f"the change was not confirmed, and the host cannot be reached any more: {fault}")
    if said.get("failed"):
        return _failed(f"{said['msg']}{f' (no new connection: {fault})' if fault else ''}", said)
    return {"confirm": said["confirm"]}


def confirm_alone(action, arguments: dict, task_vars: dict) -> dict:
    """Run tproxy_confirm over a new connection, as often as it takes to reach the host."""
    said, fault = _ask_until(time.monotonic() + PATIENCE, action, "confirmed", arguments, task_vars)
    return said or _failed(f"the change was not confirmed, the host cannot be reached: {fault}")


def _after_a_cut(action, arguments: dict, task_vars: dict, began: float, cut: AnsibleConnectionFailure) -> dict:
    """Return what became of a change during which the connection broke; nobody can have confirmed it."""
    end = began + int(arguments["confirm_timeout"]) + PATIENCE
    change = {**arguments, "token": arguments["confirm_token"]}
    said, fault = _ask_until(end, action, "rolled_back", change, task_vars)
    if said is None:
        return _failed(f"the connection broke during the change, and the host cannot be reached any more: {fault}")
    if said.get("failed"):
        raise cut  # it had not begun
    return _failed(f"the connection broke during the change, which was rolled back: {cut}", said)


def _ask_until(end: float, action, state: str, change: dict, task_vars: dict) -> tuple:
    """Return (what tproxy_confirm said over a new connection or None, why the last attempt but that one failed)."""
    fault = None
    while True:
        try:
            _reset(action._connection)
            return _ask(action, state, change, task_vars), fault
        except AnsibleError as refusal:
            fault = refusal
        if time.monotonic() > end:
            return None, fault
        time.sleep(PAUSE)


def _reset(connection) -> None:
    """Let the next command open a connection of its own, where the plugin keeps one."""
    if type(connection).reset is not ConnectionBase.reset:
        connection.reset()


def _ask(action, state: str, change: dict, task_vars: dict) -> dict:
    arguments = {"state": state, "token": change.get("token")}
    if change.get("pin_dir"):
        arguments["pin_dir"] = change["pin_dir"]
    collection = (action._task.resolved_action or action._task.action).rpartition(".")[0]
    module = f"{collection}.tproxy_confirm".lstrip(".")
    return action._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)


def _failed(message: str, said: dict | None = None) -> dict:
    return {"failed": True, "changed": False, "msg": message, "confirm": (said or {}).get("confirm")}
