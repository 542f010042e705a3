# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of preflight on a real machine: each is provoked, and goes with its cause."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.findings import (
    KERNEL_REUSEPORT,
    kernel_version,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Refused, Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import LOOK
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, procfs
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, eventually, transparent

LINK_CREATE, ATTACH_TCX_INGRESS = 28, 46  # include/uapi/linux/bpf.h
PROXY_PORT, NOBODY = 8443, 65534
RULE = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": PROXY_PORT}
REUSEPORT_WORKS = kernel_version(os.uname().release) >= KERNEL_REUSEPORT


NOT_OF_THESE_TESTS = {"kernel_without_reuseport", "not_persistent", "ssh_from_anywhere"}


def codes(router) -> set:
    return {finding["code"] for finding in router.info()["findings"]} - NOT_OF_THESE_TESTS


def setting(name: str, value: int) -> None:
    for interface in ("all", LAN):
        with open(f"/proc/sys/net/ipv4/conf/{interface}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))


@pytest.fixture
def whole(router):
    """Return a router on which nothing is amiss."""
    setting("rp_filter", 0)
    setting("src_valid_mark", 0)
    router.route()
    router.attach()
    router.record()
    router.rules(RULE)
    with transparent(socket.SOCK_STREAM, PROXY_PORT):
        assert codes(router) == set()
        yield router
        eventually(lambda: codes(router) == set())


@contextmanager
def listening(*options: int):
    with socket.socket() as made:
        for option in (socket.SO_REUSEADDR, *options):
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind(("127.0.0.1", PROXY_PORT))
        made.listen()
        yield


# ---- the hook --------------------------------------------------------------------------------------


def test_a_filter_ahead(whole):
    whole.attach(hook="clsact")
    whole.netns.run(f"tc filter add dev {LAN} ingress prio 5 protocol ip u32 match u32 0 0 flowid 1:1")
    assert codes(whole) == {"filter_ahead"}
    assert any("u32 filter at priority 5 on lan0" in line for line in whole.attach(check=True)["warnings"])
    whole.netns.run(f"tc filter delete dev {LAN} ingress prio 5")


def test_an_xdp_program_ahead(whole, tmp_path):
    source = tmp_path / "xdp.c"
    source.write_text(
        '__attribute__((section("xdp"), used)) int pass_all(void *c) { return 2; }\n'
        'char licence[] __attribute__((section("license"), used)) = "GPL";\n',
        encoding="ascii",
    )
    clang = shutil.which("clang") or pytest.skip("no clang to make an XDP program with")
    subprocess.run([clang, "-O2", "-target", "bpf", "-c", source, "-o", tmp_path / "xdp.o"], check=True)
    whole.netns.run(f"ip link set dev {LAN} xdpgeneric obj {tmp_path}/xdp.o sec xdp")
    assert codes(whole) == {"xdp_ahead"}
    assert any("XDP program" in line for line in whole.attach(check=True)["warnings"])
    whole.netns.run(f"ip link set dev {LAN} xdpgeneric off")


def test_a_tcx_program_ahead(whole, program):
    whole.attach(hook="clsact")
    ifindex = whole.netns.judge(f"ip link show dev {LAN}")[0]["ifindex"]
    request = struct.pack("=IIII", program(0).fd, ifindex, ATTACH_TCX_INGRESS, 0)
    try:
        link, _left = bpf._call(LINK_CREATE, request)
    except OSError as refusal:
        assert refusal.errno == errno.EINVAL and not REUSEPORT_WORKS, "TCX came with Linux 6.6 as well"
        return
    assert codes(whole) == {"tcx_ahead"}
    assert any("TCX program" in line for line in whole.attach(check=True)["warnings"])
    os.close(link)


@pytest.mark.parametrize("interface", [LAN, None])
def test_a_packet_socket_for_ipv4(whole, interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0 if interface else socket.htons(0x0800)) as opened:
        if interface:
            opened.bind((interface, 0x0800))
        assert codes(whole) == {"packet_socket"}
        assert any("[packet_socket]" in line for line in whole.attach(check=True)["warnings"])


@pytest.mark.parametrize(
    ("policy", "is_told"), [({}, True), ({"allow_ssh": False}, False), ({"default_action": "pass"}, False)]
)
def test_ssh_to_a_closed_interface_from_any_source_is_a_note(whole, policy, is_told):
    answer = whole.attach(policy=policy)
    found = {finding["code"]: finding["severity"] for finding in whole.info()["findings"]}
    assert found.get("ssh_from_anywhere") == ("note" if is_told else None)
    assert not any("ssh_from_anywhere" in warning for warning in answer["warnings"])
    whole.attach()


def test_a_port_of_a_bridge(whole):
    whole.netns.run("ip link add br0 type bridge")
    whole.netns.run(f"ip link set {LAN} master br0")
    assert codes(whole) == {"port"}
    assert any("[port]" in line for line in whole.attach(check=True)["warnings"])
    whole.netns.run("ip link delete br0")


# ---- the way to the stack ----------------------------------------------------------------------------


def test_a_strict_rp_filter(whole):
    setting("rp_filter", 1)
    assert codes(whole) == {"rp_filter_strict"}
    assert any("rp_filter of lan0 is strict" in line for line in whole.route(check=True)["warnings"])
    setting("rp_filter", 0)


def test_a_firewall_that_drops_what_it_does_not_know(whole):
    chain = "{ type filter hook input priority 0; policy drop; ip protocol icmp accept; }"
    whole.netns.run_words("nft", f"table inet firewall {{ chain input {chain}; }}")
    assert codes(whole) == {"input_drops"}
    (finding,) = [each for each in whole.info()["findings"] if each["code"] == "input_drops"]
    assert finding["remedy"] == "nft insert rule inet firewall input meta mark and 0x10000000 == 0x10000000 accept"
    whole.netns.run(finding["remedy"])
    assert codes(whole) == set()
    whole.netns.run("nft delete table inet firewall")


def test_src_valid_mark_with_a_mark_route_without_an_interface(whole):
    setting("src_valid_mark", 1)
    assert codes(whole) == set()
    whole.netns.run("ip rule add fwmark 0x10000000/0x10000000 lookup 1080 priority 900")
    assert codes(whole) == {"src_valid_mark", "mark_shared"}
    assert any("martians" in line for line in whole.route(check=True)["warnings"])
    whole.netns.run("ip rule delete priority 900")


def test_src_valid_mark_with_a_mark_route_of_the_loopback(whole):
    setting("src_valid_mark", 1)
    whole.netns.run("ip rule add iif lo fwmark 0x10000000/0x10000000 lookup 1080 priority 900")
    assert codes(whole) == {"src_valid_mark"}
    whole.netns.run("ip rule delete priority 900")


def test_a_mark_that_somebody_else_uses(whole):
    whole.netns.run("ip rule add fwmark 0x30000000/0x30000000 lookup 99 priority 900")
    assert codes(whole) == {"mark_shared"}
    whole.netns.run("ip rule delete priority 900")


def test_networkd_that_deletes_a_mark_route(whole, tmp_path, monkeypatch):
    daemon = tmp_path / "systemd-networkd"
    shutil.copy(shutil.which("sleep"), daemon)
    monkeypatch.setattr(procfs.keeps_foreign_rules, "__defaults__", ((str(tmp_path),),))
    whole.netns.run(f"ip rule add iif {LAN} fwmark 0x10000000/0x10000000 lookup 1080 priority 900")
    assert codes(whole) == {"mark_shared"}
    with subprocess.Popen([daemon, "60"]) as running:
        eventually(lambda: codes(whole) == {"mark_shared", "networkd_prunes"})
        (tmp_path / "networkd.conf").write_text("[Network]\nManageForeignRoutingPolicyRules=no\n", encoding="ascii")
        assert codes(whole) == {"mark_shared"}
        running.kill()
    whole.netns.run("ip rule delete priority 900")


# ---- rules and listeners -------------------------------------------------------------------------------


def test_an_intercept_of_an_own_address_is_refused_unless_it_is_forced(whole):
    rule = {**RULE, "destination": OWN}
    before = whole.info()["rules"]
    for check in (True, False):
        with pytest.raises(
            Refused, match=rf"own address {OWN} of lan0 to the proxy: .*\[intercepts_own\]. Nothing was changed"
        ):
            whole.rules(rule, check=check)
    assert whole.info()["rules"] == before
    assert any("[intercepts_own]" in line for line in whole.rules(rule, force=True)["warnings"])
    assert codes(whole) == {"intercepts_own"}
    assert reason(whole, OWN) == "spliced"
    whole.rules(rule, state="absent")


def reason(router, destination: str) -> str:
    """Return the reason of the program's verdict for a connection to this address of the rule."""
    flow = {"source": "10.1.0.2", "destination": destination, "protocol": "tcp", "port": RULE["ports"]}
    return router._run(ask_verdict, "tproxy_verdict", False, interface=LAN, **flow)["reason"]


def test_an_intercept_of_the_subnet_is_a_warning_and_leaves_own_addresses(whole):
    rule = {**RULE, "destination": "10.1.0.0/24"}
    assert ["[covers_own]" in line for line in whole.rules(rule)["warnings"]] == [True]
    assert codes(whole) == {"covers_own"}
    assert reason(whole, OWN) == "local"
    whole.rules(rule, state="absent")


def test_a_rule_for_the_gateway_is_no_fault(whole):
    whole.netns.run("ip route add default via 10.1.0.254")
    rule = {**RULE, "destination": "10.1.0.254"}
    assert whole.rules(rule)["warnings"] == []
    assert codes(whole) == set()
    whole.rules(rule, state="absent")


def test_all_such_rules_are_refused_together(whole):
    with pytest.raises(Refused) as refusal:
        whole.rules(*({**RULE, "destination": OWN, "ports": ports} for ports in ("80", "81")))
    assert str(refusal.value).count("[intercepts_own]") == 2
    assert len(refusal.value.details["findings"]) == 2


def test_the_first_attachment_warns(router):
    router.rules({**RULE, "destination": OWN})
    assert any("[covers_own]" in line for line in router.attach()["warnings"])
    assert "intercepts_own" in codes(router)


def test_an_intercept_that_is_wider_than_ones_own(whole):
    wide = {**RULE, "destination": "10.0.0.0/8"}
    assert any("[covers_own]" in line for line in whole.rules(wide)["warnings"])
    assert codes(whole) == {"covers_own"}
    whole.rules(wide, state="absent")
    assert whole.rules({**RULE, "destination": "0.0.0.0/0"})["warnings"] == []


def test_a_listener_that_is_missing(whole):
    assert whole.rules({**RULE, "ports": "80", "tproxy_port": 8081})["warnings"] == []
    assert codes(whole) == {"listener_missing"}
    with transparent(socket.SOCK_STREAM, 8081, "0.0.0.0"):
        assert codes(whole) == set()
    whole.rules({**RULE, "ports": "80"}, state="absent")


def test_rules_of_a_router_that_crashed(whole):
    left = {**RULE, "ports": "80", "tproxy_port": 8081, "owner": "ziti:web"}
    assert any("[left_behind]" in line for line in whole.rules(left)["warnings"])
    assert codes(whole) == {"left_behind"}
    with transparent(socket.SOCK_STREAM, 8081, "0.0.0.0"):
        assert codes(whole) == set()
    whole.rules(left, state="absent")


def test_a_listener_that_is_not_transparent(router):
    with listening():
        assert any("[listener_not_transparent]" in line for line in router.rules(RULE)["warnings"])
        assert "listener_not_transparent" in codes(router)


def test_a_listener_with_reuseport_where_the_kernel_cannot_splice_to_it(router):
    with listening(socket.SO_REUSEPORT):
        warned = any("[listener_reuseport]" in line for line in router.rules(RULE)["warnings"])
        assert warned == ("listener_reuseport" in codes(router)) == (not REUSEPORT_WORKS)


# ---- the machine ------------------------------------------------------------------------------------------


def test_without_capabilities_doctor_says_so_and_modules_fail(router):
    os.seteuid(NOBODY)
    try:
        assert codes(router) >= {"missing_capability"}
        with pytest.raises(Unsupported, match=r"missing: run it as root \(a task with become: true\)"):
            LOOK.execute(options("tproxy_info", pin_dir=router.pin_dir), router.system(), False)
        with pytest.raises(Unsupported, match="CAP_NET_ADMIN and CAP_SYS_ADMIN missing"):
            router.attach()
    finally:
        os.seteuid(0)


def test_a_kernel_that_is_too_old_is_refused(router, monkeypatch):
    monkeypatch.setattr(router.system().sysctl, "kernel_release", lambda: "5.4.0")
    with pytest.raises(Refused, match=r"kernel 5.4.0: .*\[kernel_too_old\]"):
        router.attach()
    assert router.pinned() == {}


def test_a_pin_folder_in_no_bpffs_is_a_note(router, tmp_path):
    router.pin_dir = str(tmp_path / "nowhere")
    assert codes(router) == {"bpffs_not_mounted"}
