# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network namespace of the test's own, and a minimal BPF program that needs no compiler.

The tests need root. The namespace has no name and ends with its test.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

CLONE_NEWNET = 0x40000000
BPF_PROG_LOAD, BPF_OBJ_GET_INFO_BY_FD = 5, 15
BPF_PROG_TYPE_SCHED_CLS = 3
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
ROUTED_SECONDS = 30

libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Namespace:
    """The network namespace of the running test, as iproute2 sees it."""

    def run(self, command: str) -> str:
        """Run `ip ...` or `tc ...` and return its output. A failure fails the test."""
        return self.run_words(*command.split())

    def run_words(self, *words: str) -> str:
        """Run a command with blanks in a word."""
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def can(self, command: str) -> bool:
        """Run a command that this kernel may not know; return whether it went well."""
        return subprocess.run(command.split(), capture_output=True, check=False).returncode == 0

    def batch(self, tool: str, lines: list) -> None:
        """Give `ip` or `tc` many commands at once."""
        done = subprocess.run(
            [tool, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{tool}: {done.stderr}"

    def address(self, prefix: str, interface: str) -> None:
        """Give an interface that is up an address that is good at once, without a look for duplicates.

        A worker of the kernel adds the local route of an IPv6 address (addrconf_dad_work). On a busy machine a test is
        faster and gets ENETUNREACH.
        """
        if ":" not in prefix:
            self.run(f"ip address add {prefix} dev {interface}")
            return
        self.run(f"ip address add {prefix} dev {interface} nodad")
        address, deadline = prefix.partition("/")[0], time.monotonic() + ROUTED_SECONDS
        while not self.run(f"ip -6 route show table local {address}"):
            assert time.monotonic() < deadline, f"the kernel adds no local route for {address}; set {interface} up"

    def judge(self, command: str) -> list:
        """Return the parsed output of `ip -j ...` or `tc -j ...`."""
        tool, _space, rest = command.partition(" ")
        return json.loads(self.run(f"{tool} -j {rest}") or "[]")

    def elsewhere(self, ask):
        """Return the result of `ask()` in a thread in another namespace. The process stays here."""
        answers = []

        def move_and_ask() -> None:
            _checked(libc.unshare(CLONE_NEWNET))
            answers.append(ask())

        thread = threading.Thread(target=move_and_ask)
        thread.start()
        thread.join()
        return answers[0]

    def veth(self, name: str = "lan0", peer: str = "lan0-peer", options: str = "") -> int:
        """Make a pair of interfaces that are up; return the ifindex of the first."""
        self.run(f"ip link add name {name} {options} type veth peer name {peer}")
        for end in (name, peer):
            self.run(f"ip link set {end} up")
        return self.judge(f"ip link show dev {name}")[0]["ifindex"]


@contextmanager
def private_namespace():
    """Be in a network namespace of its own, with the loopback interface up, until the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _checked(libc.unshare(CLONE_NEWNET))
    try:
        namespace = Namespace()
        namespace.run("ip link set lo up")
        yield namespace
    finally:
        _checked(libc.setns(home, CLONE_NEWNET))
        os.close(home)


class Program:
    """A SCHED_CLS program that returns one number, loaded by bpf(2)."""

    def __init__(self, value: int) -> None:
        # r0 = value; exit
        code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, value, 0x95, 0, 0, 0)
        instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
        attribute = struct.pack(
            "=IIQQ", BPF_PROG_TYPE_SCHED_CLS, 2, ctypes.addressof(instructions), ctypes.addressof(licence)
        )
        self.fd = self._bpf(BPF_PROG_LOAD, attribute)
        info = ctypes.create_string_buffer(64)
        self._bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", self.fd, 64, ctypes.addressof(info)))
        self.id, self.tag = struct.unpack_from("=I", info, 4)[0], info.raw[8:16].hex()

    @staticmethod
    def _bpf(command: int, attribute: bytes) -> int:
        buffer = ctypes.create_string_buffer(attribute, 128)
        return _checked(libc.syscall(BPF_SYSCALL[platform.machine()], command, buffer, 128))
