# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the files of a controller and of a router that is enrolled, for the guests: `run` calls this.

An emulated processor makes an RSA key in a minute, and `ziti run quickstart` gives up before its controller answers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from ansible_collections.netedge.tproxy.tests.support.namespaces import Namespace
from ansible_collections.netedge.tproxy.tests.support.router import OWN
from ansible_collections.netedge.tproxy.tests.system.apparmor.controller import (
    FOLDER,
    MANAGEMENT,
    QUICKSTART,
    Controller,
)
from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.network import HOSTS, configuration


def main(ziti: str, target: str) -> None:
    """Write the files to the folder `target`. The caller gives private namespaces."""
    FOLDER.mkdir()
    hosts = FOLDER / "hosts"
    hosts.write_text(HOSTS, encoding="ascii")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    controller = Controller(Namespace(), ziti, QUICKSTART)
    api = controller.api
    api.let_all_meet()
    enrol(ziti, api.edge_router("r1"))
    for kind in ("Dial", "Bind"):
        api.policy(f"lab-{kind}", kind, [api.id_of("identities", "r1")], "lab")
    controller.stop()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(FOLDER, target)


def enrol(ziti: str, token: str) -> None:
    """Enrol the router by its token."""
    home = FOLDER / "router"
    home.mkdir()
    (home / "config.yml").write_text(configuration(MANAGEMENT, resolver=f"udp://{OWN}:53"), encoding="utf-8")
    (home / "token").write_text(token, encoding="ascii")
    # Keys of elliptic curves: an emulated processor signs by them in less time.
    lab.run(["env", "-C", home, ziti, "router", "enroll", "config.yml", "--jwt", "token", "--keyAlg", "EC"])


if __name__ == "__main__":
    main(*sys.argv[1:])
