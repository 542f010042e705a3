# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text output: it has every fact of an answer, in 80 columns."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.structs import REASON_NAMES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.output import (
    SECTIONS,
    WHY,
    count,
    doctor_text,
    explain_text,
    show_text,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.tests.support.command_line import answer_of_info


def test_show_fits_80_columns_and_is_complete():
    text = show_text(answer_of_info(), [], "/pins")
    assert max(map(len, text.splitlines())) <= 80
    for fact in ("lan0", "in force", "no_filter", "SSH, ping", "127.0.0.1:58997", "voice", "0123456789ab", "6120"):
        assert fact in text, fact
    assert "Rules: 2, generation 7, image 548 KiB of 1024 KiB" in text
    assert "Own addresses of other interfaces\n  NAME  ADDRESSES\n  lo    192.0.2.7\n" in text
    assert "Findings: 1 error" in text


def test_without_recorded_addresses_of_other_interfaces_there_is_no_such_table():
    assert "Own addresses" not in show_text({**answer_of_info(), "own_addresses": []}, ["interfaces"], "/pins")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_shown_alone(section):
    text = show_text(answer_of_info(), [section], "/pins")
    assert text.lower().startswith(section)
    assert "\n\n" not in text


def test_rules_without_a_hit_are_shown_alone():
    answer = answer_of_info()
    answer["rules"][1]["hits"] = {"packets": 0, "bytes": 0}
    text = show_text(answer, ["rules"], "/pins", unused=True)
    assert text.startswith("Rules without a hit: 1 of 2\n")
    assert "30000-40000" in text
    assert "5060" not in text
    answer["rules"][1]["hits"]["packets"] = 1
    assert show_text(answer, ["rules"], "/pins", unused=True) == "Rules without a hit: 0 of 2"


def test_any_source_is_omitted():
    answer = answer_of_info()
    assert "0.0.0.0/0" not in show_text(answer, ["rules"], "/pins")
    assert show_text({**answer, "rules": answer["rules"][:1]}, ["rules"], "/pins").endswith("\n      voice")


def test_doctor_prints_finding_and_remedy():
    assert doctor_text(answer_of_info()) == (
        "error: lan1 has no filter of ours [no_filter]\n    run tc_bpf_attach again"
    )
    assert doctor_text({**answer_of_info(), "findings": []}) == "Nothing is wrong."
    note = {"severity": "note", "code": "ssh_from_anywhere", "found": "lan0 lets SSH in", "remedy": "add the networks"}
    assert doctor_text({**answer_of_info(), "findings": [note]}) == (
        "Nothing is wrong.\nnote: lan0 lets SSH in [ssh_from_anywhere]\n    add the networks"
    )
    assert doctor_text({"attachments": [], "findings": []}) == "Nothing is wrong, but no interface has the splicer."


def test_a_folder_without_a_program_is_named():
    assert show_text({**answer_of_info(), "program": None}, [], "/pins").endswith("\n\nNo program is pinned in /pins.")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9_999_999, "9999999"), (10_000_000, "10000K"), (2**64 - 1, "18446P")]
)
def test_a_counter_of_any_size_stays_short(number, text):
    assert count(number) == text


def test_every_reason_has_a_sentence():
    assert set(WHY) == set(REASON_NAMES.values())


@pytest.mark.parametrize("reason", WHY)
def test_an_explanation_names_flow_verdict_reason_and_rule(reason):
    flow = {"interface": "lan0", "source": "fd00::1", "source_port": 49152, "destination": "fd00::2", "port": 443}
    rule = answer_of_info()["rules"][0]
    answer = {"verdict": "pass", "reason": reason, "rule": rule, "flows": [{**flow, "protocol": "tcp"}]}
    text = explain_text(answer)
    assert text.startswith("tcp [fd00::1]:49152 to [fd00::2]:443 on lan0\nverdict: pass\nreason:  " + reason)
    assert "'voice' of owner ansible" in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 80


def test_an_explanation_names_the_rule_of_other_interfaces_in_place_of_new_entries():
    flow = {"interface": "lan0", "source": "10.0.0.1", "source_port": 1, "destination": "10.0.0.2", "port": 2}
    answer = {"verdict": "drop", "reason": "default", "rule": None, "flows": [{**flow, "protocol": "udp"}]}
    elsewhere = {**answer_of_info()["rules"][0], "interfaces": ["wan0", "wan1"]}
    text = explain_text({**answer, "rule_elsewhere": elsewhere}).replace("\n", " ")
    assert "A rule has this flow on wan0, wan1, and not on this interface: udp 172.16.240.0/24 ports 5060" in text
    assert "To let it in" not in text


def test_an_explanation_without_a_rule():
    flow = {"interface": "lan0", "source": "10.0.0.1", "source_port": 1, "destination": "10.0.0.2", "port": 2}
    answer = {"verdict": "drop", "reason": "default", "rule": None, "flows": [{**flow, "protocol": "udp"}]}
    text = explain_text(answer)
    assert "\nNo rule matches this flow: the default action of the interface is drop.\n" in text
    assert "rule:" not in text


def test_an_explanation_has_the_entries_that_would_let_the_flow_in():
    flow = {"interface": "lan0", "source": "10.0.0.1", "source_port": 1, "destination": "10.0.0.2", "port": 161}
    answer = {"verdict": "drop", "reason": "default", "rule": None, "flows": [{**flow, "protocol": "udp"}]}
    lines = explain_text(answer).splitlines()
    management, *rule = (line.strip() for line in lines if line.startswith("    "))
    assert yaml.safe_load(management) == {"source": "10.0.0.1", "protocol": "udp", "port": 161}
    assert rules_from_params([yaml.safe_load(" ".join(rule))])[1] == []
    assert "To let it in" not in explain_text({**answer, "verdict": "pass"})
