# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The commands of `tproxy-splicer`: for each its words, its arguments, its story and its printer.

A story and its printer are imported when their command is run: nobody waits for what is not asked for.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from ..constants import STATE_FILE
from ..model.saved_state import FAIL_CLOSED, FAIL_OPEN


class Command(NamedTuple):
    """One command. `load` returns (story, printer), `add` gives an argparse parser what others have not.

    A story that `streams` yields answers for as long as it runs, each for the printer.
    """

    summary: str
    load: Callable
    details: str = ""
    add: Callable = lambda parser: None
    has_failed: Callable = lambda answer: False
    streams: bool = False


def _show() -> tuple:
    from ..operations.info import look
    from .output import show_text

    return look, lambda answer, options: show_text(answer, options["sections"], options["pin_dir"])


def _add_show(parser) -> None:
    from .output import SECTIONS, section

    words = f"{{{','.join(SECTIONS)}}}"  # not as `choices`: older ones of argparse then want at least one
    parser.add_argument("sections", nargs="*", type=section, metavar=words, help="all when none is given")


def _explain() -> tuple:
    from ..operations.verdict import ask_verdict
    from .output import explain_text

    return ask_verdict, lambda answer, _options: explain_text(answer)


def _add_explain(parser) -> None:
    parser.set_defaults(flows=None)
    parser.add_argument("--interface", required=True, help="the interface that the packet comes in by")
    parser.add_argument("--source", required=True, metavar="ADDRESS", help="its source address")
    parser.add_argument("--destination", required=True, metavar="ADDRESS", help="its destination address")
    parser.add_argument("--protocol", required=True, choices=["tcp", "udp"], help="its protocol")
    parser.add_argument("--port", required=True, help="its destination port")
    parser.add_argument("--source-port", metavar="PORT", help="its source port; 49152 when not given")
    told = "a verdict (pass, drop) or a reason (spliced, default, ...): exit 1 when the answer is another one"
    parser.add_argument("--expect", metavar="WORD", help=told)


def _doctor() -> tuple:
    from ..operations.info import inspect
    from .output import doctor_text

    return inspect, lambda answer, _options: doctor_text(answer)


def _has_errors(answer: dict) -> bool:
    return any(finding["severity"] == "error" for finding in answer["findings"])


def _metrics() -> tuple:
    from ..operations.info import look
    from .metrics import metrics_text

    return look, lambda answer, _options: metrics_text(answer).rstrip("\n")


def _save() -> tuple:
    from ..operations.state import save_state

    return save_state, lambda answer, _options: f"{'saved to' if answer['changed'] else 'unchanged:'} {answer['file']}"


def _add_save(parser) -> None:
    parser.set_defaults(state="present")
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="where to; %(default)s when not given")
    told = "what a boot does when the state cannot be put back; %(default)s when not given"
    parser.add_argument("--failure", choices=[FAIL_OPEN, FAIL_CLOSED], default=FAIL_OPEN, help=told)


def _restore() -> tuple:
    from ..persistence.restore import restore_state
    from ..persistence.state_file import state_file_lock

    def story(options: dict, system, check: bool) -> dict:
        with state_file_lock(system):
            return restore_state(options, system, check)

    return story, _restored_text


def _restored_text(answer: dict, options: dict) -> str:
    if options["interface"] and not answer["interfaces"]:
        return f"nothing is saved for {options['interface']}"
    absent = [f"{name}: not there yet" for name in answer["absent"]]
    return "\n".join([*answer["changes"], *absent]) or "all of it is in force"


def _add_restore(parser) -> None:
    parser.add_argument("interface", nargs="?", metavar="INTERFACE", help="this one only; all when none is given")
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="where from; %(default)s when not given")


def _watch() -> tuple:
    from ..persistence.watch import watch

    return watch, lambda line, _options: line


def _add_watch(parser) -> None:
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="the state; %(default)s when not given")


def _confirm() -> tuple:
    from ..commit_confirm.change import confirm

    return confirm, _confirmation_text


def _rollback() -> tuple:
    from ..commit_confirm.change import rollback

    return rollback, _confirmation_text


def _confirmation_text(answer: dict, _options: dict) -> str:
    if not answer["changed"]:
        return "nothing waits for confirmation"
    shown = answer["confirm"]
    return "\n".join([f"{shown['state'].replace('_', ' ')}: the change of token {shown['token']}", *answer["changes"]])


def _add_confirmation(parser) -> None:
    told = "of the change that is meant; the one that waits when not given"
    parser.add_argument("token", nargs="?", metavar="TOKEN", help=told)
    parser.set_defaults(state="present")


def _gc() -> tuple:
    from ..openziti.divert import collect
    from .output import collected_text

    return collect, lambda answer, _options: collected_text(answer)


def _serve() -> tuple:
    from ..openziti.helper import serve

    return serve, lambda line, _options: line


COMMANDS = {
    "show": Command(
        "interfaces, rules with hits, reasons of passes and drops, routes",
        _show,
        "Shows what is in force and what it has seen. Changes nothing.\n\n"
        "  tproxy-splicer show\n"
        "  tproxy-splicer show rules --json",
        _add_show,
    ),
    "explain": Command(
        "what would happen to a packet, by which rule, and why",
        _explain,
        "Runs the loaded program on the first packet of a flow. No packet is on any wire,\n"
        "but the counters count it.\n\n"
        "  tproxy-splicer explain --interface lan0 --source 10.1.1.2 \\\n"
        "      --destination 172.16.240.9 --protocol udp --port 5060",
        _add_explain,
    ),
    "doctor": Command(
        "what is wrong, or will be, and what to do",
        _doctor,
        "Lists the findings, errors first. Exits with 1 when one of them is an error.",
        has_failed=_has_errors,
    ),
    "confirm": Command(
        "let a change stay that waits for confirmation",
        _confirm,
        "A change with confirm_timeout is rolled back unless somebody confirms it in\n"
        "time: over a new connection, which shows that the router can be reached.",
        _add_confirmation,
    ),
    "rollback": Command(
        "bring back what was before a change that waits for confirmation",
        _rollback,
        "As it happens by itself when the time is over.",
        _add_confirmation,
    ),
    "metrics": Command(
        "all counters in Prometheus' text format",
        _metrics,
        "For the textfile collector of node_exporter, in the folder that it reads:\n\n"
        "  tproxy-splicer metrics > tproxy.new && mv tproxy.new tproxy.prom",
    ),
    "save": Command(
        "keep what is in force for the next boot",
        _save,
        "As the module tproxy_state does it. While the file at its default path exists,\n"
        "Ansible's runs keep it up to date.\n\n"
        "  tproxy-splicer save --failure fail_closed",
        _add_save,
    ),
    "restore": Command(
        "put back what was saved",
        _restore,
        "Needs neither a compiler nor Ansible; a boot does it before the network is up.\n"
        "Exits with 1 when that cannot be; then the failure policy was followed, and the\n"
        "message says so.",
        _add_restore,
    ),
    "watch": Command(
        "put back what goes, as soon as it goes",
        _watch,
        "Runs until it is stopped. The kernel tells it of filters, interfaces, addresses,\npolicy rules and routes.",
        _add_watch,
        streams=True,
    ),
    "gc": Command(
        "remove the rules of a router's services that listen no more",
        _gc,
        "A router that crashed leaves its rules behind. Those to whose port nobody\n"
        "listens are removed, in one commit.",
    ),
    "helper": Command(
        "do what routers without root's rights ask for (a service of systemd)",
        _serve,
        "Is started by tproxy-splicer-helper.socket when somebody connects.\nNot for the console.",
        streams=True,
    ),
}


def add_common(parser, pin_dir: str) -> None:
    """Add what every command takes."""
    parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")
    told = "the folder of the maps, as the modules have it; $TPROXY_SPLICER_PIN_DIR or %(default)s when not given"
    parser.add_argument("--pin-dir", default=pin_dir, metavar="FOLDER", help=told)
