# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback fleet: a short console for many hosts, and the default output in a file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
type: stdout
short_description: Short console for many hosts, details in a file
version_added: 1.0.0
description:
  - The console has the batches of each play, the names of the tasks as progress, and the messages of C(debug) tasks.
    Failures and warnings of one kind are told once, with the list of their hosts.
  - A file for each run has the complete output of the callback P(ansible.builtin.default#callback), with its options.
  - The number of lines depends on the number of batches and faults, not on the number of hosts. The console has at most
    ten messages and five failures of one task, and five warnings of a batch. A failure that a C(rescue) cures is one,
    too.
author:
  - netedge.tproxy contributors (@netedge)
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  details_dir:
    description: Folder for the details of each run. The callback makes it, and removes no file.
    type: path
    # Without variables, ansible-core leaves a template in the default of a callback as it is.
    default: ~/.ansible/tproxy_runs
    ini:
      - section: callback_fleet
        key: details_dir
    env:
      - name: TPROXY_DETAILS_DIR
requirements:
  - set as stdout in configuration
"""

import os
import pathlib
import time
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

from ansible_collections.netedge.tproxy.plugins.plugin_utils.told_once import (
    WIDTH,
    ToldOnce,
    fault_of,
    lines,
    names_of,
    warnings_of,
    wrapped,
)

DEBUG = {"debug", "ansible.builtin.debug"}
MOST_MESSAGES = 10


class Details:
    """The display of the default callback: it writes to a file. All that is no output comes from the console."""

    def __init__(self, console: Any):
        self._console = console
        self._file: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._console, name)

    def open(self, path: pathlib.Path) -> None:
        """Create the file, for its owner only. Results can have secrets of the inventory."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")

    def display(self, msg: str, *_colour: Any, screen_only: bool = False, newline: bool = True, **_other: Any) -> None:
        """Write a message without colour. Ansible gives some messages twice: for the screen and for a log."""
        if self._file is not None and not screen_only:
            self._file.write(msg + ("\n" if newline else ""))
            self._file.flush()

    def banner(self, msg: str, *_colour: Any, **_other: Any) -> None:
        """Write a heading."""
        self.display(f"\n{msg} {'*' * max(3, 79 - len(msg))}")


class CallbackModule(Default):
    """Write the output of the default callback to the details, and a summary to the console."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "netedge.tproxy.fleet"

    def __init__(self) -> None:
        super().__init__()
        self._console = self._display
        self._display = Details(self._console)
        self._host = self._address = ""
        self._path: pathlib.Path | None = None
        self._heading: str | None = None
        self._order: list[str] = []  # the hosts of the batch
        self._batch: dict[str, set[str]] = {}
        self._task = ""
        self._column = 0
        self._messages, self._faults, self._warnings = ToldOnce(), ToldOnce(), ToldOnce()

    # ---- begin and end ------------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Open the file of the details."""
        name = pathlib.Path(playbook._file_name).stem
        run = f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}.log"
        path = pathlib.Path(self.get_option("details_dir")) / run
        try:
            self._display.open(path)
            self._path = path
        except OSError as error:
            self._console.warning(f"expected a folder for the details, got: {error}; set TPROXY_DETAILS_DIR")
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a batch. Its heading waits for a result, because a play may end before."""
        self._end_batch()
        super().v2_playbook_on_play_start(play)
        known = play.get_variable_manager().get_vars(play=play)
        batch, hosts = known.get("ansible_play_batch", []), known.get("ansible_play_hosts_all", [])
        part = f"{len(batch)} of {len(hosts)} hosts" if len(batch) < len(hosts) else f"{len(hosts)} hosts"
        self._heading = f"{play.get_name().strip()}, {part}: {names_of(list(batch))}"
        self._order = list(batch)
        self._batch = {"changed": set(), "failed": set()}

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Name the file of the details."""
        self._end_batch()
        super().v2_playbook_on_stats(stats)
        if self._path:
            self._console.display(f"Details of this run: {self._path}")

    # ---- tasks --------------------------------------------------------------------------------------------------

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        self._end_task()
        super()._task_start(task, prefix)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell the message of a task debug."""
        task, found = self._note(result, shown=True)
        if task.action in DEBUG and "msg" in found:
            msg = found["msg"]
            for text in msg if isinstance(msg, list) else [msg]:
                self._messages.add(str(text), self._host, self._address)
        if found.get("changed"):
            self._batch["changed"].add(self._host)
        super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Collect the cause."""
        found = self._note(result, shown=True)[1]
        if not ignore_errors:
            self._batch["failed"].add(self._host)
            self._faults.add(fault_of(found), self._host, self._address)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Collect the cause."""
        found = self._note(result, shown=True)[1]
        self._batch["failed"].add(self._host)
        self._faults.add(fault_of(found), self._host, self._address)
        super().v2_runner_on_unreachable(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Collect the warnings of a skipped task."""
        self._note(result)
        super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Collect the warnings of an item."""
        self._note(result)
        super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Collect the warnings of an item. The result of its task has the cause."""
        self._note(result)
        super().v2_runner_item_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Collect the warnings of an item."""
        self._note(result)
        super().v2_runner_item_on_skipped(result)

    def _handle_warnings(self, res: Any) -> None:
        for text in warnings_of(res.pop("warnings", None)):
            self._warnings.add(text, self._host, self._address)
            self._display.display(f"[WARNING]: {text}")
        for text in warnings_of(res.pop("deprecations", None)):
            self._display.display(f"[DEPRECATION WARNING]: {text}")

    def _handle_exception(self, result: Any, use_stderr: bool = False) -> None:
        if text := result.pop("exception", None):
            self._display.display(str(text))

    # ---- the console --------------------------------------------------------------------------------------------

    def _note(self, result: Any, shown: bool = False) -> tuple[Any, Any]:
        """Remember the host of a result, and show the name of its task once. Return the task and the result."""
        host, task, found = (_member(result, name) for name in ("host", "task", "result"))
        self._host, self._address = host.get_name(), str(host.vars.get("ansible_host", ""))
        if shown and task._uuid != self._task:
            self._end_task()
            self._task = task._uuid
            self._progress(task.name or task.action)
        return task, found

    def _progress(self, name: str) -> None:
        """Add a name to the line of progress, or begin the next line."""
        if self._heading:
            self._console.display(self._heading)
            self._heading = None
        if self._column and self._column + len(name) + 2 > WIDTH:
            self._end_line()
        text = ("; " if self._column else "    ") + name
        self._column += len(text)
        self._console.display(text, newline=False)

    def _end_line(self) -> None:
        if self._column:
            self._console.display("")
            self._column = 0

    def _end_task(self) -> None:
        """Tell the messages and faults of a task behind its name."""
        said = [text for _hosts, text in self._messages.take(self._order)]
        left = [f"{len(said) - MOST_MESSAGES} other messages, in the details"] if said[MOST_MESSAGES:] else []
        found = [line for text in said[:MOST_MESSAGES] + left for line in wrapped(text)]
        found += lines("FAILED", self._faults.take(self._order))
        if found:
            self._end_line()
        for line in found:
            self._console.display(line)

    def _end_batch(self) -> None:
        """Tell the warnings and the sum of a batch."""
        self._end_task()
        self._end_line()
        for line in lines("warning", self._warnings.take(self._order)):
            self._console.display(line)
        if not self._heading and self._batch:
            failed, changed = (len(self._batch[name]) for name in ("failed", "changed"))
            good = len(self._order) - failed
            self._console.display(f"    {good} without a fault, {failed} with, {changed} changed")
        self._task, self._batch = "", {}


def _member(result: Any, name: str) -> Any:
    """Return a member of a result. Before ansible-core 2.19 only the name with an underscore exists."""
    return getattr(result, name) if hasattr(result, name) else getattr(result, f"_{name}")
