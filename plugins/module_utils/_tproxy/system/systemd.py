# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to systemd: it reloads, starts and stops units. Whether a unit is active is read from a file."""

from __future__ import annotations

import os
import subprocess

from ..errors import Unsupported

RUNNING = "/run/systemd/system"  # exists where systemd is the service manager: sd_booted(3)
# systemd keeps a link here for each unit with an invocation, and removes it when the unit ends (src/core/unit.c).
INVOCATIONS = "/run/systemd/units"
TIMEOUT_SECONDS = 90


def is_present() -> bool:
    """Return whether systemd manages the services of this machine."""
    return os.path.isdir(RUNNING)


def is_active(unit: str) -> bool:
    """Return whether a unit is active. Starts no process."""
    return os.path.lexists(f"{INVOCATIONS}/invocation:{unit}")


def reload() -> None:
    """Make systemd read the unit files again."""
    _systemctl("daemon-reload")


def start(unit: str) -> None:
    """Start a unit; one that is active is started again."""
    _systemctl("restart", unit)


def stop(unit: str) -> None:
    """Stop a unit. A unit that systemd does not know is stopped."""
    _systemctl("stop", unit)


def _systemctl(*words: str) -> None:
    """Run systemctl. Raises Unsupported with its words when it fails; without systemd it does nothing."""
    if not is_present():
        return
    command = ["systemctl", *words]
    try:
        # The adapters serve the command line, too, which has no AnsibleModule.run_command.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command, check=False, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unsupported(f"`{' '.join(command)}` failed: {fault}") from fault
    if done.returncode and "not loaded" not in done.stderr:
        raise Unsupported(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
