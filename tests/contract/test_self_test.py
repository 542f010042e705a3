# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`-V` tells a router at its start whether its calls will be executed, and never stops it."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.launcher import START
from ansible_collections.netedge.tproxy.tests.contract.edge_router import NOBODY, Commands
from ansible_collections.netedge.tproxy.tests.support.router import eventually

GROUP = 54321
LIMIT = 60  # of a hanging call; the self-test has a limit of its own
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}  # asm/unistd.h
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, EAFNOSUPPORT = 0x7FFF0000, 0x00050000 | 97


def forbid_unix_sockets() -> None:
    """Refuse AF_UNIX to this process and its children, as RestrictAddressFamilies of systemd does."""
    steps = [
        (LOAD, 0, 0, 0),  # seccomp_data.nr
        (EQUAL, 0, 3, SOCKET_CALL[platform.machine()]),
        (LOAD, 0, 0, 16),  # the first argument, the family
        (EQUAL, 0, 1, 1),
        (RETURN, 0, 0, EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        os._exit(99)


@pytest.fixture
def ask(installed, bare_router, helper):
    """Return a caller of `-V` that returns its line, without the version."""
    os.chown(helper.path, 0, GROUP)
    helper.path.chmod(0o660)
    commands = Commands(installed, bare_router.pin_dir, str(helper.path))

    def asked(**how) -> str:
        done = commands.divert("-V", timeout=LIMIT, **how)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        assert bare_router.pinned() == {}
        return done.stdout.partition(", helper: ")[2].strip()

    eventually(lambda: asked() == "reachable")  # a helper that starts on a busy machine takes longer than a test
    return asked


def test_a_member_of_the_group_and_root_reach_the_helper(ask):
    assert ask(user=NOBODY, group=GROUP, extra_groups=[]) == "reachable"
    assert ask() == "reachable"


def test_another_user_is_told_of_the_group(ask):
    said = ask(user=NOBODY, group=NOBODY, extra_groups=[])
    assert said.startswith(f"not reachable, this user is not in its group {GROUP}")
    assert said.endswith("calls of this user are refused")


def test_a_unit_without_unix_sockets_is_told_of_its_setting(ask):
    said = ask(user=NOBODY, group=GROUP, extra_groups=[], preexec_fn=forbid_unix_sockets)
    assert said.startswith("not reachable, this process may not use AF_UNIX")
    assert said.endswith("calls of this user are refused")
    assert ask(preexec_fn=forbid_unix_sockets).endswith("calls of this user work without it, in some 0.2 s each")


@pytest.mark.parametrize("start", [[], ["/usr/bin/python3", "-I", "-c", START]], ids=["perl", "python"])
def test_a_call_from_such_a_unit_is_refused_in_one_line(installed, helper, start):
    flow = ("-c", "192.0.2.7", "-m", "32", "-p", "tcp", "-l", "80", "-h", "80")
    call = [*start, str(installed / "tproxy-splicer"), "-I", *flow, "-t", "33401"]
    environment = {"TPROXY_SPLICER_HELPER": str(helper.path)}
    done = subprocess.run(
        call, env=environment, user=NOBODY, preexec_fn=forbid_unix_sockets, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "a member of the helper's group" in done.stderr


def test_a_stopped_helper_is_told_in_time(ask, helper):
    helper.pause()
    try:
        said = ask(user=NOBODY, group=GROUP, extra_groups=[])
    finally:
        helper.resume()
    assert said.startswith("not reachable, it does not answer within 1.5 s")
    assert ask(user=NOBODY, group=GROUP, extra_groups=[]) == "reachable"


def test_a_socket_that_nobody_serves(ask, helper):
    helper.close_socket()
    assert ask(user=NOBODY, group=GROUP, extra_groups=[]).startswith("not reachable, no process listens at ")
    assert ask().endswith("calls of this user work without it, in some 0.2 s each")
