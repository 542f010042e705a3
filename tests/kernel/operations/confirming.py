# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router on which changes wait for their confirmation, with real guards."""

from __future__ import annotations

import os
import signal

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.commit_confirm import change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import attach
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import record_path
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import daemon
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, SERVER, eventually

LONG = 3600
PASS = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "action": "pass"}
DROP = {**PASS, "action": "drop"}


class Confirming:
    """A router on which changes wait for their confirmation."""

    def __init__(self, router):
        self.router = router

    # ---- what is done ------------------------------------------------------------------

    def rules(self, *rules: dict, seconds: int = LONG, **given) -> dict:
        """Change rules."""
        return self._change(apply_rules, "tproxy_rule", seconds, rules=list(rules), purge=True, **given)

    def attach(self, seconds: int = LONG, **given) -> dict:
        """Attach our program, or change its policy."""
        given = {"blob_content": self.router.blob.to_json(), **given}
        return self._change(attach, "tc_bpf_attach", seconds, interface=LAN, **given)

    def say(self, state: str, **given) -> dict:
        """Run tproxy_confirm."""
        return self.router._run(confirm_change, "tproxy_confirm", False, state=state, **given)

    def kill_guard(self) -> None:
        """As the OOM killer would, if it could."""
        os.kill(self.guard()[0], signal.SIGKILL)
        eventually(lambda: not self.is_guarded())

    def _change(self, operation, module: str, seconds: int, **given) -> dict:
        change = Operation(module, operation, execute, confirmable=True)
        return self.router._run(change.execute, module, False, confirm_timeout=seconds, **given)

    # ---- what is seen ------------------------------------------------------------------

    def verdict(self, port: int = 443, destination: str = SERVER) -> str:
        """Return the program's verdict for a packet, "unfiltered" without a program."""
        flow = {"interface": LAN, "source": CLIENT, "destination": destination, "protocol": "tcp", "port": str(port)}
        try:
            return self.router.verdict(**flow)["verdict"]
        except Unsupported:
            return "unfiltered"

    def outcome(self) -> str:
        """Return the outcome of the latest change."""
        return self.latest().outcome

    def is_guarded(self) -> bool:
        """Whether the guard lives."""
        pid, start = self.guard()
        return daemon.started(pid) == start

    def guard(self) -> tuple:
        """Return (pid, start) of the guard."""
        return self.latest().watchdog

    def latest(self):
        """Return the record of the latest change, or None."""
        return change.latest_change(self.router.system(), self.router.pin_dir)

    def forget(self) -> None:
        """End the guard, and forget the change."""
        if self.latest():
            if self.is_guarded():
                self.kill_guard()
            os.unlink(record_path(self.router.pin_dir))
