# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper as systemd runs it: its socket outlives it, and a new helper can start on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path


class Helper:
    """A helper for one pin folder. Any user may connect, unless the mode of the socket says otherwise."""

    def __init__(self, folder: Path, pin_dir: str, path: Path, mode: int = 0o666):
        self.path = path
        self._command, self._pin_dir = folder / "tproxy-splicer", pin_dir
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        path.chmod(mode)

    def start(self) -> None:
        """Start it with the listening socket as descriptor 3 (sd_listen_fds(3))."""
        # As standard input first, because a shell accepts only descriptors of one digit.
        script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{self._command}" helper 3<&0 < /dev/null'
        environment = {"PATH": os.defpath, "TPROXY_SPLICER_PIN_DIR": self._pin_dir}
        self._process = subprocess.Popen(["/bin/sh", "-c", script], stdin=self._listening, env=environment)

    def kill(self) -> None:
        """Kill it at any point of its work."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it: it answers nobody, and its socket still takes clients."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close_socket(self) -> None:
        """Kill it, and stop to listen as systemd does with a stopped socket unit. The file of the socket stays."""
        self.kill()
        self._listening.close()

    def close(self) -> None:
        """Kill it and close its socket."""
        self.close_socket()
