# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller of OpenZiti in a namespace of its own, with a wire to the namespace of the router.

router mgmt0 10.99.0.11 ---- 10.99.0.1 controller, echo server
"""

from __future__ import annotations

import pathlib
import subprocess
import threading

from ansible_collections.netedge.tproxy.tests.support.namespaces import Namespace
from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import ADDRESS, HOST, PORT, Api, Refused

NAMESPACE = f"{lab.NAME}-ctl"
MANAGEMENT = "10.99.0.11"
FOLDER = pathlib.Path("/tmp/openziti")  # its files name each other by their paths
QUICKSTART = ["run", "quickstart", "--home", str(FOLDER / "controller"), "--no-router"]
QUICKSTART += ["--ctrl-address", HOST, "--ctrl-port", str(PORT)]
RUN = ["controller", "run", str(FOLDER / "controller" / "instance-1" / "ctrl.yaml")]
ECHO_PORT = 7000
PATIENCE = 600.0  # with an emulated processor


class Controller:
    """A controller that runs, and the session of its administrator."""

    def __init__(self, netns: Namespace, ziti: str, words: list[str]) -> None:
        _lay_wire(netns)
        FOLDER.mkdir(exist_ok=True)
        self._log = FOLDER / "controller.log"
        with self._log.open("wb") as log:
            command = ["ip", "netns", "exec", NAMESPACE, ziti, *words]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.api: Api = lab.eventually(self._log_in, PATIENCE, 1)

    def _log_in(self) -> Api | None:
        if self._process.poll() is not None:
            raise lab.Failed(self._log.read_text(encoding="utf-8", errors="replace")[-3000:])
        try:
            return Api(ADDRESS)
        except (OSError, Refused, ValueError):
            return None

    def stop(self) -> None:
        """End it as systemd would: it closes its database."""
        self._process.terminate()
        self._process.wait(PATIENCE)


def _lay_wire(netns: Namespace) -> None:
    netns.run(f"ip netns add {NAMESPACE}")
    netns.run(f"ip link add mgmt0 type veth peer name mgmt0 netns {NAMESPACE}")
    netns.run(f"ip address add {MANAGEMENT}/24 dev mgmt0")
    netns.run("ip link set mgmt0 up")
    for words in (f"address add {ADDRESS}/24 dev mgmt0", "link set mgmt0 up", "link set lo up"):
        netns.run(f"ip -n {NAMESPACE} {words}")


def serve_echo() -> None:
    """Send back the first bytes of each connection to the echo server."""
    listening = lab.socket_in("ctl")
    listening.bind((ADDRESS, ECHO_PORT))
    listening.listen(9)

    def serve() -> None:
        while True:
            with listening.accept()[0] as made:
                made.sendall(made.recv(1000))

    threading.Thread(target=serve, daemon=True).start()
