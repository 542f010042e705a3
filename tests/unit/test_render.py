# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook render and docs/reference/render.md, by ansible-playbook: no root, no pyroute2, no BCC, no router."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "reference" / "render.md"
NOBODY = 65534
ROUTERS = ("edge1", "edge2")
# A connection to one of these addresses (RFC 5737) would fail.
INVENTORY = {"routers": {"hosts": {name: {"ansible_host": "192.0.2.1"} for name in ROUTERS}}}
VOICE = {"name": "voice", "destination": "172.16.240.0/24", "protocol": "udp", "ports": "5060", "tproxy_port": 58997}
VARIABLES = {"tproxy_splicer_interfaces": ["lan0"], "tproxy_splicer_rules": [VOICE]}


@pytest.fixture(scope="module")
def compiled():
    """Return a folder for compiled Python files, which the runs share."""
    with tempfile.TemporaryDirectory(prefix="tproxy-render-compiled-") as folder:
        pathlib.Path(folder).chmod(0o777)
        yield folder


@pytest.fixture
def site(compiled):
    """Return a folder with an inventory, which an unprivileged user may use."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tproxy-render-"))
    write(folder / "inventory.yml", INVENTORY)
    for library in ("pyroute2", "bcc"):
        (folder / "without").mkdir(exist_ok=True)
        (folder / "without" / f"{library}.py").write_text(f"raise ImportError('there is no {library} here')\n")
    (folder / "collections" / "ansible_collections" / "netedge").mkdir(parents=True)
    (folder / "collections" / "ansible_collections" / "netedge" / "tproxy").symlink_to(ROOT)
    (folder / "compiled").symlink_to(compiled)
    yield folder
    shutil.rmtree(folder)


def write(path: pathlib.Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def play(site: pathlib.Path, playbook: str, *words: str) -> tuple[int, str]:
    """Run a playbook without root; return exit status and output."""
    for path in (site, *site.rglob("*")):
        if os.geteuid() == 0 and not path.is_symlink():
            os.chown(path, NOBODY, NOBODY)
    unprivileged = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    ran = subprocess.run(
        [pathlib.Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", "inventory.yml", *words],
        cwd=site,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(site),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(site / "without"),
            "PYTHONPYCACHEPREFIX": str(site / "compiled"),
            "ANSIBLE_COLLECTIONS_PATH": str(site / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_COMMON_ARGS": "-o ProxyCommand=false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **unprivileged,
    )
    return ran.returncode, ran.stdout


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return the numbers of the recap by router."""
    found = re.findall(r"^(\S+) +: (ok=.*)$", output, flags=re.MULTILINE)
    return {name: {word: int(n) for word, n in re.findall(r"(\w+)=(\d+)", line)} for name, line in found}


def example(title: str) -> list:
    """Return the playbook of the guide in the block that begins below a heading."""
    block = re.search(rf"^## {title}\n.*?^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.S | re.M)
    assert block, title
    return yaml.safe_load(block[1])


def test_each_router_gets_its_difference(site):
    write(site / "group_vars" / "routers.yml", VARIABLES)
    status, output = play(site, "netedge.tproxy.render", "--diff")
    assert status == 0, output
    assert {name: (each["changed"], each["failed"]) for name, each in recap(output).items()} == dict.fromkeys(
        ROUTERS, (1, 0)
    )
    assert output.count('+  - {destination: "172.16.240.0/24"') == len(ROUTERS)


def test_a_bad_rule_set_is_refused_with_all_faults(site):
    write(site / "group_vars" / "routers.yml", VARIABLES)
    bad = [{**VOICE, "ports": "70000"}, {**VOICE, "name": "mail", "protocol": "tpc"}]
    write(site / "host_vars" / "edge2.yml", {"tproxy_splicer_rules": bad})
    status, output = play(site, "netedge.tproxy.render")
    assert status == 2, output
    assert {name: each["failed"] for name, each in recap(output).items()} == {"edge1": 0, "edge2": 1}
    assert "rule 'voice' (number 1): ports: " in output
    assert "rule 'mail' (number 2): protocol: " in output


def test_the_example_of_the_guide_compares_with_saved_states(site):
    write(site / "check.yml", example("Without the role"))
    write(site / "group_vars" / "routers.yml", {"splices": [VOICE]})
    saved = {"interfaces": [{"name": "lan0"}], "rules": [VOICE], "routes": [{"interfaces": ["lan0"]}], "persist": True}
    write(site / "exports" / "edge1.yml", saved)
    write(site / "exports" / "edge2.yml", {**saved, "rules": [{**VOICE, "ports": "5061"}]})
    status, output = play(site, "check.yml")
    assert status == 0, output
    assert {name: each["changed"] for name, each in recap(output).items()} == {"edge1": 0, "edge2": 1}
    changes = [line for line in output.splitlines() if re.match("[+-]  ", line)]
    assert [(line[0], re.findall('ports: "([0-9]+)"', line)) for line in changes] == [("-", ["5061"]), ("+", ["5060"])]


def test_the_playbook_reads_the_folder_of_saved_states(site):
    write(site / "group_vars" / "routers.yml", VARIABLES)
    _status, output = play(site, "netedge.tproxy.render", "--limit", "edge1", "-e", f"tproxy_splicer_exports={site}")
    assert recap(output)["edge1"]["changed"] == 1, "a router without a file is a new one"
    write(site / "edge1.yml", {"interfaces": ["lan0"], "ruels": []})
    status, output = play(site, "netedge.tproxy.render", "--limit", "edge1", "-e", "tproxy_splicer_exports=.")
    assert status == 2, "a relative path begins in the current folder"
    assert "running_config: there is no option 'ruels'; did you mean rules?" in output
