# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of the input of tproxy_router on the controller, before anything is sent to a router.

It reads the options by the code that the module uses. It imports nothing of the collection by name, because the
checkout loads its plugins also outside of any collection.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

COLLECTION = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "netedge_tproxy_package"
ALIASES = {"port": "ports"}


def refusal(faults: Iterable[str]) -> str:
    """Return the message of a task that is refused for these faults."""
    faults = list(faults)
    count = f"{len(faults)} faults: " if len(faults) > 1 else ""
    text = f"{count}{'; '.join(faults)}"
    return f"{text}{'' if text.endswith('?') else '.'} Nothing was changed"


def checked(arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options in the form that the module takes, and every fault of them."""
    options, constants, errors = (load(name) for name in ("model.router_options", "constants", "errors"))
    specification = load("ansible_module.argspec").tproxy_router()["argument_spec"]
    arguments = plain(arguments)
    faults: list[str] = []
    if arguments.get("interfaces") is not None:
        arguments["interfaces"] = named(arguments["interfaces"])
    faults += _unknown_names(arguments, specification)
    is_rendered = arguments.get("state") == constants.RENDERED
    if not faults:
        found = ArgumentSpecValidator(specification).validate(arguments)
        faults += found.error_messages
        state = arguments.get("rendered_as" if is_rendered else "state") or constants.MERGED
        if not faults and state in (constants.MERGED, constants.REPLACED):
            try:
                options.router_from_params({**found.validated_parameters, "state": state}, _any_user)
            except errors.InvalidInput as wrong:
                faults += wrong.faults
    if is_rendered:
        faults += _faults_of_saved(arguments.get("running_config"))
    return arguments, faults


def plain(value: Any) -> Any:
    """Return a value with plain dictionaries and lists.

    A template gives the lazy containers of ansible-core 2.19. The validator copies each with the templar in it, which
    has all variables: 3 s for ten rules.
    """
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _faults_of_saved(config: Any) -> list[str]:
    """Return every fault of the option `running_config`, which state=gathered has returned."""
    if not config or not isinstance(config, Mapping):
        return []  # Ansible refuses another type
    known = ("interfaces", "rules", "routes", "flow_tables", *load("operations.render").NOTHING)
    faults = unknown(config, known, "running_config")
    return faults or [f"running_config: {fault}" for fault in checked(_as_options(config))[1]]


def _as_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run that makes a saved state."""
    return {"persist": False, **config, "state": "replaced"}


def rendered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of state=rendered, for options without faults. It needs no router."""
    render, errors, runner = (load(name) for name in ("operations.render", "errors", "ansible_module.runner"))
    specification = load("ansible_module.argspec").tproxy_router()["argument_spec"]
    given = runner.trimmed(_validated(arguments, specification), specification)
    if given.get("running_config"):
        saved = checked(_as_options(given["running_config"]))[0]  # with interfaces as dictionaries
        given["running_config"] = runner.trimmed(_validated(saved, specification), specification)
    try:
        return render.render(given).as_dict()
    except errors.InvalidInput as wrong:
        return {"failed": True, "changed": False, "msg": refusal(wrong.faults), "faults": wrong.faults}


def _validated(arguments: Mapping[str, Any], specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with their types and defaults."""
    return dict(ArgumentSpecValidator(specification).validate(arguments).validated_parameters)


def _any_user(_name: str) -> int:
    """Return a number: the router alone knows its users."""
    return 0


def named(interfaces: Any) -> Any:
    """Return the interfaces as dictionaries: one name is a list of one, and a name is an entry without options."""
    listed = [interfaces] if isinstance(interfaces, (str, Mapping)) else interfaces
    if not isinstance(listed, (list, tuple)):
        return interfaces
    return [{"name": each} if isinstance(each, str) else each for each in listed]


def _unknown_names(arguments: Mapping[str, Any], specification: Mapping[str, Any]) -> list[str]:
    """Return a fault for each entry that is no dictionary, and for each option that there is not."""
    place_of = load("model.rule_options").place_of
    faults = unknown(arguments, specification, "tproxy_router")
    for name, word in (("interfaces", "interface"), ("rules", "rule"), ("routes", "route")):
        entries = arguments.get(name)
        if entries is None:
            continue
        if not isinstance(entries, (list, tuple)):
            faults.append(f"{name}: expected a list, got {entries!r:.60}")
            continue
        known = specification[name]["options"]
        for index, entry in enumerate(entries):
            place = f"{word} number {index + 1}"
            if not isinstance(entry, Mapping):
                faults.append(f"{place}: expected a dictionary with {', '.join(known)}, got {entry!r:.60}")
                continue
            if name == "rules":
                place = place_of(entry, index)
            elif name == "interfaces" and entry.get("name"):
                place = f"interface {str(entry['name'])!r}"
            faults += unknown(entry, known, place)
            policy = entry.get("policy")
            if name == "interfaces" and isinstance(policy, Mapping):
                options = known["policy"]["options"]
                faults += unknown(policy, options, f"{place}: policy")
                faults += _faults_of_management(policy.get("management"), options["management"]["options"], place)
    return faults


def _faults_of_management(entries: Any, known: Iterable[str], place: str) -> list[str]:
    """Return a fault for each management entry that is no dictionary, and for each of its options that there is not."""
    place, wanted = f"{place}: policy.management", f"with {', '.join(known)}"
    if entries is None:
        return []
    if not isinstance(entries, (list, tuple)):
        return [f"{place}: expected a list of dictionaries {wanted}, got {entries!r:.60}"]
    faults = []
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            faults += unknown(entry, known, f"{place}[{index}]")
        else:
            faults.append(f"{place}[{index}]: expected a dictionary {wanted}, got {entry!r:.60}")
    return faults


def unknown(given: Iterable[str], known: Iterable[str], place: str) -> list[str]:
    """Return a fault for each name that is not known, with the nearest one that is."""
    known = [*known, *ALIASES] if "ports" in known else list(known)
    return [f"{place}: there is no option {name!r}{nearest(name, known)}" for name in given if name not in known]


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the end of a sentence about a name that is not known."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]}?" if close else f"; it takes {', '.join(known)}"


def load(name: str) -> ModuleType:
    """Import a module of module_utils/_tproxy by the path of its package."""
    if PACKAGE not in sys.modules:
        folder = COLLECTION / "plugins" / "module_utils" / "_tproxy"
        spec = importlib.util.spec_from_loader(PACKAGE, None, is_package=True)
        package = importlib.util.module_from_spec(spec)
        package.__path__ = [str(folder)]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")
