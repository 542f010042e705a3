# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save and restore on the real kernel, and the verdicts for packets afterwards."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused, VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.restore import restore_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import files
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import lose_program
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, SERVER, transparent, without_counters

TCP, PROXY_PORT = socket.SOCK_STREAM, 8443
RULE = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": PROXY_PORT}


class Kept:
    """A router with a saved state, and the faults that the tests cause."""

    def __init__(self, router, folder):
        self.router, self.path = router, str(folder / "kept" / "state.json")

    def save(self, **given) -> dict:
        """Run tproxy_state."""
        given = options("tproxy_state", path=self.path, pin_dir=self.router.pin_dir, **given)
        return save_state(given, self.router.system(), False).as_dict()

    def restore(self, interface: str | None = None) -> dict:
        """Restore the saved state."""
        return restore_state({"path": self.path, "interface": interface}, self.router.system(), False).as_dict()

    def lose_everything(self) -> None:
        """Lose the state that a reboot deletes: pins, programs, rules and routes."""
        lose_program(self.router)
        self.router.folder.clear()
        for family in ("-4", "-6"):
            self.router.netns.run(f"ip {family} rule delete table 1080")
            self.router.netns.run(f"ip {family} route flush table 1080")

    def is_spliced(self, client) -> bool:
        """Whether a connection of the client's reaches the proxy with its own destination."""
        with transparent(TCP, PROXY_PORT) as proxy, client.socket(TCP) as asking:
            asking.settimeout(1)
            try:
                asking.connect((SERVER, 443))
            except OSError:
                return False
            with proxy.accept()[0] as answering:
                return answering.getsockname() == (SERVER, 443)


@pytest.fixture
def kept(router, tmp_path):
    """Return a router with a saved state that splices port 443 of the net behind it."""
    router.route()
    router.rules(RULE)
    router.record(interfaces=[LAN])
    router.attach(policy={"default_action": "drop", "allow_echo": True})
    found = Kept(router, tmp_path)
    assert found.save(failure="fail_closed")["changed"]
    assert not found.save(failure="fail_closed")["changed"]
    return found


def lasting(info: dict) -> dict:
    """Return the answer of tproxy_info without counters and ids."""
    attachments = [{**entry, "program_id": None} for entry in without_counters(info)["attachments"]]
    return {"attachments": attachments, "rules": without_counters(info)["rules"], "routes": info["routes"]}


def test_after_everything_is_lost_a_restore_splices_again(kept, client):
    before = lasting(kept.router.info())
    assert kept.is_spliced(client)
    kept.lose_everything()
    assert not kept.is_spliced(client)
    assert kept.restore()["changed"]
    assert kept.is_spliced(client)
    assert lasting(kept.router.info()) == before
    again = kept.restore()
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], {"before": "", "after": ""})
    assert not kept.save(failure="fail_closed")["changed"]


def test_an_interface_that_was_made_anew_gets_its_program_policy_and_addresses(kept):
    netns = kept.router.netns
    netns.run(f"ip link delete {LAN}")
    assert kept.restore(LAN)["absent"] == [LAN]
    netns.run(f"ip link add {LAN} type veth peer name {LAN}-peer")
    netns.run(f"ip address add 10.1.0.99/24 dev {LAN}")
    netns.run(f"ip link set {LAN} up")
    assert kept.restore(LAN)["changed"]
    entry = kept.router.info()["attachments"][0]
    assert (entry["interface"], entry["drift"], entry["policy"]["allow_echo"]) == (LAN, [], True)
    assert "10.1.0.99" in entry["addresses"]
    assert OWN not in entry["addresses"]


@pytest.mark.parametrize(
    "loss",
    [f"tc qdisc del dev {LAN} clsact", "ip -4 rule delete table 1080", "ip -4 route flush table 1080"],
)
def test_what_was_deleted_by_hand_is_put_back(kept, client, loss):
    if "clsact" in loss:
        kept.router.attach(hook="clsact")
        kept.save(failure="fail_closed")
    kept.router.netns.run(loss)
    assert not kept.is_spliced(client)
    assert kept.restore()["changed"]
    assert kept.is_spliced(client)


@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_a_program_that_was_detached_by_hand_is_put_back_on_its_hook(kept, client, hook):
    kept.router.attach(hook=hook)
    kept.save(failure="fail_closed")
    before = lasting(kept.router.info())
    lose_program(kept.router)
    assert not kept.is_spliced(client)
    assert kept.restore()["changed"]
    assert kept.is_spliced(client)
    assert lasting(kept.router.info()) == before


@pytest.mark.parametrize("end", [0, 1000, -2], ids=["empty", "half", "last byte"])
def test_a_file_that_is_cut_changes_nothing(kept, end):
    before = kept.router.pinned(), without_counters(kept.router.info())
    with open(kept.path, "r+", encoding="utf-8") as file:
        file.truncate(end if end >= 0 else os.path.getsize(kept.path) + end)
    with pytest.raises(VerificationFailed):
        kept.restore()
    assert (kept.router.pinned(), without_counters(kept.router.info())) == before


# ---- the file -----------------------------------------------------------------------------------------------------


def test_a_file_is_for_root_alone_and_goes_with_its_folder(tmp_path):
    path = str(tmp_path / "folder" / "file")
    files.write(path, "text\n")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert files.read(path) == "text\n"
    assert files.remove(path, True)
    assert not files.remove(path)
    assert not os.listdir(tmp_path)


def test_a_full_disk_leaves_the_old_text(netns, tmp_path):
    """On a tmpfs with space for one page besides the old text."""
    netns.run(f"mount -t tmpfs -o size=8k tmpfs {tmp_path}")
    try:
        path = str(tmp_path / "file")
        files.write(path, "old")
        with pytest.raises(KernelRefused, match=r"refused to write .*: ENOSPC"):
            files.write(path, "new" * 5000)
        assert files.read(path) == "old"
        assert os.listdir(tmp_path) == ["file"]
    finally:
        netns.run(f"umount {tmp_path}")


def test_bytes_that_are_no_text_are_read_as_damage(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    assert "\N{REPLACEMENT CHARACTER}" in files.read(str(tmp_path / "file"))


def test_nothing_that_lies_in_the_way_is_written_to(tmp_path):
    """In a folder where others may write, a link would lead root to any file, and a file would stay theirs to read."""
    path, victim, open_to_all = (tmp_path / name for name in ("state.json", "victim", "other"))
    victim.write_text("untouched")
    for lay in (lambda aside: aside.symlink_to(victim), lambda aside: aside.hardlink_to(open_to_all)):
        open_to_all.write_text("")
        lay(tmp_path / "state.json.new")
        files.write(str(path), "secret")
        assert (path.read_text(), path.is_symlink(), path.stat().st_nlink) == ("secret", False, 1)
    assert (victim.read_text(), open_to_all.read_text()) == ("untouched", "")
