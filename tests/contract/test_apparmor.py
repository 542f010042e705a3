# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router that AppArmor confines: the lines of docs/openziti.md let its diverter work. `make kernels` runs this.

Debian's kernels have AppArmor. The paths of the lines are those of an installation, and the test has its own instead.
"""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import executable
from ansible_collections.netedge.tproxy.tests.contract.apparmor import ROOT, lines_of_the_guide, missing, parse
from ansible_collections.netedge.tproxy.tests.contract.helper import Helper
from ansible_collections.netedge.tproxy.tests.contract.router_process import RouterProcess

NAME = "netedge-tproxy-test-router"
# What a router needs for itself. The process in its place takes the name of a router, too.
PROFILE = """\
include <tunables/global>
profile NAME {
  network inet stream,
  capability net_admin,
  @{PROC}/@{pid}/comm rw,
  @{PROC}/@{pid}/attr/current r,
LINES
}
"""
FLOW = ("-c", "192.0.2.7", "-m", "32", "-p", "tcp", "-o", "0.0.0.0", "-n", "0", "-l", "80", "-h", "80")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with tproxy-splicer as on a host with perl."""
    if missing():
        pytest.skip(missing())
    package = ROOT / "plugins" / "module_utils" / "_tproxy"
    command = tmp_path / "tproxy-splicer"
    command.write_bytes(executable(lambda module: (package / f"{module}.py").read_bytes(), lambda _path: True))
    command.chmod(0o755)
    return tmp_path


@pytest.fixture
def confined(folder, bare_router):
    """Return a function that starts a router, confined by a profile with these lines."""
    started = []

    def start(lines: list) -> RouterProcess:
        text = PROFILE.replace("NAME", NAME).replace("LINES", "\n".join(lines))
        text = text.replace("/usr/local/sbin", str(folder)).replace(
            "/run/tproxy-splicer-helper.sock", f"{folder}/socket"
        )
        parse("--replace", text)
        environment = {"TPROXY_SPLICER_PIN_DIR": bare_router.pin_dir, "TPROXY_SPLICER_HELPER": f"{folder}/socket"}
        started.append(RouterProcess(f"{folder}/tproxy-splicer", environment, NAME))
        return started[-1]

    yield start
    for router in started:
        router.stop()
    parse("--remove", PROFILE.replace("NAME", NAME).replace("LINES", ""))


def test_with_the_lines_of_the_guide_self_test_and_calls_reach_the_helper(confined, folder, attached_router):
    """The helper is not confined. It sees the confined router: which listener is whose, and which have no rule."""
    helper = Helper(folder, attached_router.pin_dir, folder / "socket")
    helper.start()
    router = confined(lines_of_the_guide())
    try:
        port = router.listen()
        mode = pathlib.Path(f"/proc/{router.pid}/attr/current").read_text(encoding="ascii").strip()
        assert mode == f"{NAME} (enforce)"
        assert f"({router.pid}) listens transparently on tcp 127.0.0.1:{port}" in findings(attached_router)
        assert router.call("-I", *FLOW, "-t", str(port), "-s", "web") == (0, "", "")
        assert [rule["owner"] for rule in attached_router.info()["rules"]] == ["ziti:web"]
        assert findings(attached_router) == ""
        assert router.call("-V").out.endswith(
            ", helper: reachable\n"
        )  # it has started, which takes an emulated one 2 s
        assert router.call("-D", *FLOW) == (0, "", "")
        assert attached_router.info()["rules"] == []
    finally:
        helper.close()


def findings(router) -> str:
    """Return what the finding about lost calls says, "" without it."""
    return "".join(each["found"] for each in router.info()["findings"] if each["code"] == "listener_without_rule")


def test_without_python_the_self_test_fails_and_a_router_would_end(confined):
    router = confined([line for line in lines_of_the_guide() if "python3" not in line])
    failed = router.call("-V")
    assert failed.status != 0
    assert failed.err == "tproxy-splicer: /usr/bin/python3: Permission denied\n"


def test_without_a_helper_the_self_test_tells_although_it_may_not_read_its_capabilities(confined):
    answer = confined(lines_of_the_guide()).call("-V")
    assert (answer.status, answer.err) == (0, "")
    assert "helper: not reachable, no process listens at " in answer.out
    assert answer.out.endswith("; calls of this user are refused\n")


def test_without_a_helper_a_call_tells_its_reason_although_it_may_not_read_its_capabilities(confined):
    refused = confined(lines_of_the_guide()).call("-I", *FLOW, "-t", "8080", "-s", "web")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("tproxy-splicer: CAP_NET_ADMIN and CAP_SYS_ADMIN missing: call it as root, or as a")
