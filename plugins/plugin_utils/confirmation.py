# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confirm a pending change from the controller over a new connection, or report its rollback.

Over a remote connection a module is given the time limit of DEFAULT_SECONDS, unless the task has its own. The module
then begins a pending change only where its change can cut the operator off. It knows the state of the router.

An established connection proves nothing, because the program passes the packets of its session. The file imports
nothing of the collection by name, because the checkout loads its plugins also outside of any collection.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

# The time limit in seconds of each module that is confirmed without being asked to. A single module leads to one change
# of some seconds. tproxy_router compiles and saves as well.
DEFAULT_SECONDS = {"tproxy_router": 300, "tc_bpf_attach": 60, "tproxy_rule": 60, "ifindex_ip": 60}
PATIENCE = 60  # seconds after the deadline until which the controller tries to reach the router again
PAUSE = 1

Options = dict[str, Any]
Answer = dict[str, Any]  # the result of a module


def run(action: ActionBase, module: str, arguments: Options, task_vars: Options | None) -> Answer:
    """Run the module of the task, and confirm its change if the change is pending."""
    asynchronous = bool(action._task.async_val) and not action._connection.has_native_async
    arguments = _with_time_limit(action, module, arguments, asynchronous)
    if str(arguments.get("confirm_timeout") or 0).strip() == "0":
        return action._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=asynchronous)
    if asynchronous:
        return _failed("confirm_timeout: cannot be used with async, which cannot confirm; nothing was changed")
    arguments = {"confirm_token": secrets.token_hex(8), **arguments}
    action._low_level_execute_command("true", sudoable=False)  # a host that is down is reported as unreachable
    began = time.monotonic()
    try:
        answer = action._execute_module(module_args=arguments, task_vars=task_vars)
    except AnsibleConnectionFailure as fault:
        return _after_a_cut(action, arguments, task_vars, began, fault)
    pending = answer.get("confirm")
    if answer.get("failed") or not pending:
        return answer
    return {**answer, **confirm(action, {**arguments, **pending}, task_vars)}


def _with_time_limit(action: ActionBase, module: str, arguments: Options, asynchronous: bool) -> Options:
    """Return the options with the default time limit where the task has none of its own.

    A task with a token is part of a larger change, which has a time limit.
    """
    is_local = action._connection.transport == "local"
    if arguments.get("confirm_timeout") is not None:
        if is_local and str(arguments["confirm_timeout"]).strip() != "0":
            _warn(
                f"{module}: the connection to this host is local, so its confirmation does not show that another"
                " machine reaches the host. Confirm from that machine (tproxy_confirm), or set confirm_timeout: 0"
            )
        return arguments
    if is_local or arguments.get("confirm_token"):
        return arguments
    if asynchronous:
        _warn(
            f"{module}: async cannot confirm a change, so the host keeps a change that locks this controller out."
            " Run the task without async, begin the change with tproxy_confirm, or set confirm_timeout: 0"
        )
        return arguments
    return {**arguments, "confirm_timeout": DEFAULT_SECONDS[module], "confirm_by_default": True}


def _warn(text: str) -> None:
    """Show a warning at once: a task with async loses the warnings of its first result."""
    Display().warning(text)


def confirm(action: ActionBase, change: Options, task_vars: Options | None) -> Answer:
    """Confirm a change over a new connection. Return the keys to add to the result of the task.

    `change` has `token`, `seconds_left` and, if it is not the default, `pin_dir`.
    """
    end = time.monotonic() + change["seconds_left"] + PATIENCE
    answer, fault = _retry_until(end, action, "confirmed", change, task_vars)
    if answer is None:
        return _failed(f"the change was not confirmed, and the host cannot be reached any more: {fault}")
    if answer.get("failed"):
        return _failed(f"{answer['msg']}{f' (no new connection: {fault})' if fault else ''}", answer)
    return {"confirm": answer["confirm"]}


def confirm_alone(action: ActionBase, arguments: Options, task_vars: Options | None) -> Answer:
    """Run tproxy_confirm over a new connection. Retry until the host is reached."""
    answer, fault = _retry_until(time.monotonic() + PATIENCE, action, "confirmed", arguments, task_vars)
    return answer or _failed(f"the change was not confirmed, the host cannot be reached: {fault}")


def _after_a_cut(
    action: ActionBase, arguments: Options, task_vars: Options | None, began: float, cut: AnsibleConnectionFailure
) -> Answer:
    """Return the result of a change during which the connection broke: no run can have confirmed it."""
    end = began + int(arguments["confirm_timeout"]) + PATIENCE
    change = {**arguments, "token": arguments["confirm_token"]}
    answer, fault = _retry_until(end, action, "rolled_back", change, task_vars)
    if answer is None:
        return _failed(f"the connection broke during the change, and the host cannot be reached any more: {fault}")
    if answer.get("failed"):
        raise cut  # the change had not begun
    return _failed(f"the connection broke during the change, which was rolled back: {cut}", answer)


def _retry_until(
    end: float, action: ActionBase, state: str, change: Options, task_vars: Options | None
) -> tuple[Answer | None, AnsibleError | None]:
    """Run tproxy_confirm over new connections until one works. Return its result or None, and the last failure."""
    fault = None
    while True:
        try:
            _reset(action._connection)
            return _run_confirm(action, state, change, task_vars), fault
        except AnsibleError as refusal:
            fault = refusal
        if time.monotonic() > end:
            return None, fault
        time.sleep(PAUSE)


def _reset(connection: ConnectionBase) -> None:
    """Make the next command open a new connection, if the plugin keeps one open."""
    if type(connection).reset is not ConnectionBase.reset:
        connection.reset()


def _run_confirm(action: ActionBase, state: str, change: Options, task_vars: Options | None) -> Answer:
    arguments = {"state": state, "token": change.get("token")}
    if change.get("pin_dir"):
        arguments["pin_dir"] = change["pin_dir"]
    collection = (action._task.resolved_action or action._task.action).rpartition(".")[0]
    module = f"{collection}.tproxy_confirm".lstrip(".")
    return action._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)


def _failed(message: str, answer: Answer | None = None) -> Answer:
    return {"failed": True, "changed": False, "msg": message, "confirm": (answer or {}).get("confirm")}
