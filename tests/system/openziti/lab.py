# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The router lab as these scenarios use it: commands in a router, sockets in a namespace, playbooks."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[3]
COMMAND = ROOT / "tests" / "lab" / "lab"
NAME = os.environ.get("LAB_NAME", "ziti")
CLONE_NEWNET = 0x40000000
PATIENCE = 90.0

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(AssertionError):
    """A command of the lab failed, or a condition did not come true."""


def run(words: Sequence[object], given: bytes | None = None, check: bool = True, limit: float = 600) -> str:
    """Run a command of this machine and return its output. Raise Failed with all of its output."""
    done = subprocess.run(
        [str(word) for word in words],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"LAB_NAME": NAME},
        timeout=limit,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    if check and done.returncode != 0:
        raise Failed(f"{shlex.join(str(word) for word in words)}: exit status {done.returncode}\n{output[-6000:]}")
    return output


def lab(*words: object, **options: Any) -> str:
    """Run a command of tests/lab/lab."""
    return run([COMMAND, *words], **options)


def eventually(condition: Callable[[], Any], limit: float = PATIENCE, pause: float = 0.2) -> Any:
    """Return the first true answer of the condition. Raise Failed with its last answer."""
    end = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"expected a true answer within {limit:.0f} s, got {answer!r}")
        time.sleep(pause)


def socket_in(
    part: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
) -> socket.socket:
    """Return a socket in the network namespace of a part of the lab: ctl, cli, srv, r1, ..."""
    made: list[socket.socket] = []

    def make() -> None:
        handle = os.open(f"/run/netns/{NAME}-{part}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns to {part}")
            made.append(socket.socket(family, kind, protocol))
        finally:
            os.close(handle)

    thread = threading.Thread(target=make)  # the namespace belongs to the thread, and the socket keeps it
    thread.start()
    thread.join()
    return made[0]


def play(playbook: pathlib.Path, *options: str) -> str:
    """Run a playbook on the routers and return its output."""
    return run(ansible("ansible-playbook", playbook, *options))


def module(name: str, **options: Any) -> str:
    """Run a module of the collection on the router under test and return its output."""
    given = json.dumps(options) if options else ""
    return run(ansible("ansible", "r1", "-m", f"netedge.tproxy.{name}", "-a", given))


def ansible(program: str, *words: object) -> list[object]:
    """Return a command of Ansible with the inventory of the lab."""
    environment = {
        "ANSIBLE_CONFIG": ROOT / "tests" / "system" / "ansible.cfg",
        "ANSIBLE_COLLECTIONS_PATH": ROOT / ".work" / "tree",
        "ANSIBLE_REMOTE_USER": "root",
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    return ["env", *settings, program, "-i", lab("inventory").strip(), *words]


class Router:
    """A router of the lab, with the splicer on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        number = int(name[1:])
        self.management = f"10.99.0.{10 + number}"
        self.lan, self.client = f"10.{number}.1.1", f"10.{number}.1.2"
        self.wan, self.server = f"10.{number}.2.1", f"10.{number}.2.2"

    def run(self, *words: object, **options: Any) -> str:
        """Run a command in the router."""
        return lab("exec", self.name, *words, **options)

    def shell(self, script: str, **options: Any) -> str:
        """Run a script of sh in the router."""
        return self.run("sh", "-c", script, **options)

    def put(self, path: str, content: bytes | str, mode: str = "644") -> None:
        """Write a file in the router."""
        data = content.encode() if isinstance(content, str) else content
        self.run("dd", f"of={path}", "status=none", given=data)
        self.run("chmod", mode, path)

    def unit(self, name: str, key: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={key}", name).strip()

    def show(self, *words: str) -> Any:
        """Return what a command of tproxy-splicer prints as JSON. doctor's exit status tells its errors."""
        output = self.run("tproxy-splicer", *words, "--json", check=False)
        return json.loads(output)

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules of OpenZiti routers that are in force."""
        return [rule for rule in self.show("show", "rules")["rules"] if rule["owner"].startswith("ziti:")]

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the findings of doctor by code."""
        return {finding["code"]: finding for finding in self.show("doctor")["findings"]}
