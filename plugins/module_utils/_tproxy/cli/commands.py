# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The commands of `tproxy-splicer`: for each its help, its arguments, its operation and its printer.

An operation and its printer are imported when their command runs, so that no command waits for the imports of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..constants import FAIL_CLOSED, FAIL_OPEN, STATE_FILE

if TYPE_CHECKING:  # at run time the functions import them
    from argparse import ArgumentParser

    from ..resources.operation import Answer, Operation, Options
    from ..system.system import System


class Runnable(NamedTuple):
    """An operation, and the function that formats its answer."""

    operation: Operation
    printer: Callable[[Answer, Options], str]


class Stream(NamedTuple):
    """A function that yields lines while it runs."""

    function: Callable[[Options, System, bool], Iterator[str]]


def _nothing(_parser: ArgumentParser) -> None:
    """Add no argument."""


def _never(_answer: Answer) -> bool:
    return False


class Command(NamedTuple):
    """One command. `load` imports its operation; `add` adds its own arguments; `has_failed` makes the exit status 1."""

    summary: str
    load: Callable[[], Runnable | Stream]
    details: str = ""
    add: Callable[[ArgumentParser], None] = _nothing
    has_failed: Callable[[Answer], bool] = _never


def _show() -> Runnable:
    from ..operations.info import LOOK
    from .output import show_text

    def text(answer: Answer, options: Options) -> str:
        unused = options["unused"]
        sections = options["sections"] or (["rules"] if unused else [])
        return show_text(answer, sections, options["pin_dir"], unused)

    return Runnable(LOOK, text)


def _add_show(parser: ArgumentParser) -> None:
    from .output import SECTIONS, section

    names = f"{{{','.join(SECTIONS)}}}"  # not as `choices`: older versions of argparse then require at least one
    parser.add_argument("sections", nargs="*", type=section, metavar=names, help="default: all of them")
    about = "of the rules show those without a hit; default: this section alone"
    parser.add_argument("--unused", action="store_true", help=about)


def _explain() -> Runnable:
    from ..operations.verdict import ASK_VERDICT
    from .output import explain_text

    return Runnable(ASK_VERDICT, lambda answer, _options: explain_text(answer))


def _add_explain(parser: ArgumentParser) -> None:
    parser.set_defaults(flows=None)
    parser.add_argument("--interface", required=True, help="the interface that receives the packet")
    parser.add_argument("--source", required=True, metavar="ADDRESS", help="its source address")
    parser.add_argument("--destination", required=True, metavar="ADDRESS", help="its destination address")
    parser.add_argument("--protocol", required=True, help="its protocol: tcp, udp, or an IANA name or number")
    parser.add_argument("--port", help="its destination port; required for tcp and udp")
    parser.add_argument("--source-port", metavar="PORT", help="its source port; default: 49152")
    about = "a verdict (pass, drop) or a reason (spliced, default, ...): exit 1 if the answer is another one"
    parser.add_argument("--expect", metavar="WORD", help=about)


def _drops() -> Stream:
    from .drops import drops

    return Stream(drops)


def _add_drops(parser: ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="print a line for each further packet, without end")
    about = "show so many entries, the last seen ones; default: %(default)s"
    parser.add_argument("--limit", type=int, default=100, metavar="N", help=about)


def _suggest() -> Stream:
    from .suggest import print_suggestion

    return Stream(print_suggestion)


def _add_suggest(parser: ArgumentParser) -> None:
    widths = "join entries by prefixes of this length, of IPv4 or of both families; default: %(default)s"
    parser.add_argument("--sources", default="32,128", metavar="LENGTH[,LENGTH]", help=widths)
    parser.add_argument("--destinations", default="32,128", metavar="LENGTH[,LENGTH]", help="likewise")
    gap = "join ports to a range if they are at most so far apart; default: %(default)s"
    parser.add_argument("--port-gap", type=int, default=1, metavar="N", help=gap)
    parser.add_argument("--all", action="store_true", help="take flows without an answer too, but no refused ones")


def _doctor() -> Runnable:
    from ..operations.info import INSPECT
    from .output import doctor_text

    return Runnable(INSPECT, lambda answer, _options: doctor_text(answer))


def _has_errors(answer: Answer) -> bool:
    return any(finding["severity"] == "error" for finding in answer["findings"])


def _metrics() -> Runnable:
    from ..operations.info import LOOK
    from .metrics import metrics_text, written

    return Runnable(LOOK, lambda answer, options: written(metrics_text(answer, options["rules"]), options["output"]))


def _add_metrics(parser: ArgumentParser) -> None:
    about = "write them to a file that all users may read, as a whole, and print nothing"
    parser.add_argument("--output", metavar="FILE", help=about)
    parser.add_argument("--rules", action="store_true", help="print the counters of each rule too, not of owners alone")


def _export() -> Runnable:
    from ..operations.gather import GATHER
    from .export import export_text

    return Runnable(GATHER, lambda answer, _options: export_text(answer))


def _diff() -> Runnable:
    from .export import COMPARE, difference_text

    return Runnable(COMPARE, lambda answer, _options: difference_text(answer))


def _add_diff(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file that export wrote, on this router or another one")


def _differs(answer: Answer) -> bool:
    return bool(answer["differences"])


def _save() -> Runnable:
    from ..operations.state import SAVE_STATE

    return Runnable(
        SAVE_STATE, lambda answer, _options: f"{'saved to' if answer['changed'] else 'unchanged:'} {answer['file']}"
    )


def _add_save(parser: ArgumentParser) -> None:
    parser.set_defaults(state="present")
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="the file to write; default: %(default)s")
    about = "action of a boot that cannot restore the state; default: %(default)s"
    parser.add_argument("--failure", choices=[FAIL_OPEN, FAIL_CLOSED], default=FAIL_OPEN, help=about)


def _restore() -> Runnable:
    from ..operations.restore import RESTORE

    return Runnable(RESTORE, _restored_text)


def _restored_text(answer: Answer, options: Options) -> str:
    if options["interface"] and not answer["interfaces"]:
        return f"nothing is saved for {options['interface']}"
    absent = [f"{name}: does not exist yet" for name in answer["absent"]]
    return "\n".join([*answer["changes"], *absent]) or "the saved state is in force"


def _add_restore(parser: ArgumentParser) -> None:
    parser.add_argument("interface", nargs="?", metavar="INTERFACE", help="restore this one only; default: all")
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="the saved state; default: %(default)s")


def _watch() -> Stream:
    from ..operations.watch import watch

    return Stream(watch)


def _add_watch(parser: ArgumentParser) -> None:
    parser.add_argument("--path", default=STATE_FILE, metavar="FILE", help="the saved state; default: %(default)s")


def _confirm() -> Runnable:
    from ..operations.confirm import CONFIRM

    return Runnable(CONFIRM, _confirmation_text)


def _rollback() -> Runnable:
    from ..operations.confirm import ROLL_BACK

    return Runnable(ROLL_BACK, _confirmation_text)


def _confirmation_text(answer: Answer, _options: Options) -> str:
    if not answer["changed"]:
        return "no change is pending"
    shown = answer["confirm"]
    return "\n".join([f"{shown['state'].replace('_', ' ')}: the change of token {shown['token']}", *answer["changes"]])


def _add_confirmation(parser: ArgumentParser) -> None:
    about = "token of the change; default: that of the pending change"
    parser.add_argument("token", nargs="?", metavar="TOKEN", help=about)


def _gc() -> Runnable:
    from ..openziti.divert import COLLECT
    from .output import collected_text

    return Runnable(COLLECT, lambda answer, _options: collected_text(answer))


def _helper() -> Stream:
    from ..openziti.helper import run_helper

    return Stream(run_helper)


COMMANDS = {
    "show": Command(
        "interfaces, rules, reasons of passes and drops, flows, routes",
        _show,
        "Shows the state in force, with its counters. Changes nothing.\n\n"
        "  tproxy-splicer show\n"
        "  tproxy-splicer show rules --unused\n"
        "  tproxy-splicer show rules --json",
        _add_show,
    ),
    "explain": Command(
        "verdict, rule and reason for a packet",
        _explain,
        "Runs the loaded program on the first packet of a flow. It sends no packet, and\n"
        "no counter changes.\n\n"
        "  tproxy-splicer explain --interface lan0 --source 10.1.1.2 \\\n"
        "      --destination 172.16.240.9 --protocol udp --port 5060",
        _add_explain,
    ),
    "drops": Command(
        "the last packets that were dropped, or would have been",
        _drops,
        "Lists distinct packets: interface, reason, protocol, addresses and port. With\n"
        "`default_action: audit` the verdict of packets that the default action would\n"
        "have dropped is would_drop. Each CPU notes a limited number of packets, so the\n"
        "counts of a flood are samples.\n\n"
        "  tproxy-splicer drops --follow",
        _add_drops,
    ),
    "suggest": Command(
        "rules for the packets that would have been dropped",
        _suggest,
        "Prints rules and management entries for the would-be drops of\n"
        "`default_action: audit`, as YAML for host_vars. A flow needs an answer. A source\n"
        "with more refused flows than answered ones gets nothing. Read each line before\n"
        "you take it. Changes nothing.\n\n"
        "  tproxy-splicer suggest --sources 24,64 --port-gap 10 > observed.yml",
        _add_suggest,
    ),
    "doctor": Command(
        "faults of now and later, each with its remedy",
        _doctor,
        "Lists the findings, errors first. Exits with 1 if one of them is an error.",
        has_failed=_has_errors,
    ),
    "confirm": Command(
        "confirm the pending change",
        _confirm,
        "The router rolls back a change with confirm_timeout unless it is confirmed in\n"
        "time. Confirm over a new connection, to show that you can reach the router.",
        _add_confirmation,
    ),
    "rollback": Command(
        "restore the state before the pending change",
        _rollback,
        "The router does so by itself at the deadline.",
        _add_confirmation,
    ),
    "metrics": Command(
        "all counters in Prometheus' text format",
        _metrics,
        "For the textfile collector of node_exporter:\n\n"
        "  tproxy-splicer metrics --output \\\n"
        "      /var/lib/prometheus/node-exporter/tproxy_splicer.prom",
        _add_metrics,
    ),
    "export": Command(
        "the state in force as options of tproxy_router, in YAML",
        _export,
        "Prints the state without counters, as tproxy_router with state: gathered returns\n"
        "it. The same state gives the same text. Changes nothing.\n\n"
        "  tproxy-splicer export > edge1.yml",
        _nothing,
    ),
    "diff": Command(
        "the state in force, compared with a file of export",
        _diff,
        "Prints the lines that the file alone has (-), and those that export would write\n"
        "now (+). Exits with 1 if there are any. Comments do not count.",
        _add_diff,
        has_failed=_differs,
    ),
    "save": Command(
        "save the state in force for the next boot",
        _save,
        "Works as the module tproxy_state. While the file at its default path exists, the\n"
        "modules update it after each change.\n\n"
        "  tproxy-splicer save --failure fail_closed",
        _add_save,
    ),
    "restore": Command(
        "restore the saved state",
        _restore,
        "Needs neither a compiler nor Ansible. A boot runs it before the network is up.\n"
        "Exits with 1 if the state cannot be restored. Then it has applied the failure\n"
        "policy, and the message says so.",
        _add_restore,
    ),
    "watch": Command(
        "restore lost parts of the saved state at once",
        _watch,
        "Runs until it is stopped. The kernel notifies it of changes of filters,\n"
        "interfaces, addresses, policy rules and routes.",
        _add_watch,
    ),
    "gc": Command(
        "remove the rules of OpenZiti routers that have no listener",
        _gc,
        "A router that crashed leaves its rules behind. This command removes the rules\n"
        "without a listener at their port, in one commit.",
    ),
    "helper": Command(
        "execute the calls of unprivileged OpenZiti routers",
        _helper,
        "systemd starts it by tproxy-splicer-helper.socket at the first connection.\nNot for the console.",
    ),
}


def add_common(parser: ArgumentParser, pin_dir: str) -> None:
    """Add the arguments of every command."""
    parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")
    about = "pin folder of the maps, as in the modules; default: $TPROXY_SPLICER_PIN_DIR or %(default)s"
    parser.add_argument("--pin-dir", default=pin_dir, metavar="FOLDER", help=about)
