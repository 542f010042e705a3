# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in a guest of tests/matrix/kernels as on a host: the router of OpenZiti, our helper, a client.

client eth0 10.1.0.2 ---- lan0 10.1.0.1 router mgmt0 10.99.0.11 ---- 10.99.0.1 controller, echo server
"""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import threading

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import executable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import EXECUTABLE, HELPER_SOCKET
from ansible_collections.netedge.tproxy.tests.contract.edge_router import NOBODY
from ansible_collections.netedge.tproxy.tests.contract.helper import Helper
from ansible_collections.netedge.tproxy.tests.contract.router_process import CONFINED
from ansible_collections.netedge.tproxy.tests.support.router import Client
from ansible_collections.netedge.tproxy.tests.system.apparmor.controller import FOLDER
from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.network import HOSTS
from ansible_collections.netedge.tproxy.tests.system.openziti.services import intercept

ZITI, HOME = "/usr/bin/ziti", pathlib.Path("/var/lib/ziti-router")
PREPARED = pathlib.Path("/openziti")
SYSLOG = pathlib.Path("/dev/log")
DESTINATION = "192.0.2.7"
INTERCEPT = intercept(DESTINATION, 80)
SENT = b"through the network"
LIMIT = 120.0  # an emulated processor starts a router in half a minute
CAPABILITIES = "+net_admin,+net_bind_service"  # those of the guide
SETPRIV = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
SETPRIV += [f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"]


def install() -> None:
    """Put the diverter, the file of hosts and what prepare.py made in their places."""
    package = lab.ROOT / "plugins" / "module_utils" / "_tproxy"
    command = pathlib.Path(EXECUTABLE)
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_bytes(executable(lambda module: (package / f"{module}.py").read_bytes(), lambda _path: True))
    command.chmod(0o755)
    pathlib.Path("/etc/hosts").write_text(HOSTS, encoding="ascii")
    shutil.copytree(PREPARED, FOLDER)
    HOME.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(FOLDER / "router", HOME)
    for path in (HOME, *HOME.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    HOME.chmod(0o700)


def start_helper(pin_dir: str) -> Helper:
    """Return the helper, which nothing confines, once it answers: it has more time than the router gives to it."""
    path = pathlib.Path(HELPER_SOCKET)
    helper = Helper(pathlib.Path(EXECUTABLE).parent, pin_dir, path)
    helper.start()
    lab.eventually(lambda: lab.run([EXECUTABLE, "-V"]).endswith(", helper: reachable\n"), LIMIT)
    return helper


class Syslog:
    """The daemon behind /dev/log. `lines` has its messages."""

    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(SYSLOG))
        SYSLOG.chmod(0o666)
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self.lines.append(self._channel.recv(1 << 16).decode(errors="replace"))


class ConfinedRouter:
    """A router of OpenZiti as a user without root's rights, in a profile of AppArmor. `lines` has its output."""

    def __init__(self, profile: str) -> None:
        # A socket, as systemd gives it: AppArmor asks about an inherited descriptor of a file or socket.
        ours, its = socket.socketpair()
        self._process = subprocess.Popen(
            [*SETPRIV, "/bin/sh", "-c", CONFINED, profile, ZITI, "router", "run", "config.yml"],
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            cwd=HOME,
            env={"PATH": os.defpath, "HOME": str(HOME)},
        )
        its.close()
        self.pid = self._process.pid
        self.lines: list[str] = []
        threading.Thread(target=self._read, args=[ours], daemon=True).start()

    def _read(self, channel: socket.socket) -> None:
        with channel, channel.makefile(encoding="utf-8", errors="replace") as output:
            self.lines.extend(output)

    @property
    def confinement(self) -> str:
        """Return the profile and its mode."""
        return pathlib.Path(f"/proc/{self.pid}/attr/current").read_text(encoding="ascii").strip()

    def says(self, words: str) -> str:
        """Return the first line of its output with these words, once there is one."""
        try:
            return lab.eventually(lambda: next((line for line in [*self.lines] if words in line), ""), LIMIT)
        except lab.Failed as fault:
            raise lab.Failed(f"expected {words!r}, got {''.join(self.lines)[-6000:]}") from fault

    def status(self) -> int:
        """Return the exit status of a router that ends by itself."""
        return self._process.wait(LIMIT)

    def stop(self) -> None:
        """End it as systemd does by the unit of the guide: the signal goes to the router alone."""
        self._process.terminate()
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()


def echo(client: Client) -> bytes:
    """Return what comes back to a client of the service; nothing while no router hosts it."""
    with client.socket(socket.SOCK_STREAM) as made:
        made.settimeout(60)
        try:
            made.connect((DESTINATION, 80))
            made.sendall(SENT)
            return made.recv(1000)
        except OSError:
            return b""
