# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""AnsibleModule for options with very long lists, and with the texts of a program.

AnsibleModule copies the options three times, validates each item in 25 us, writes all of them into the system log, and
copies the answer to search it for secrets. For 131,071 rules that is a third of the time and more than the memory of
the work itself.

1. The options are read without the deep copy of them that ansible-core 2.19 keeps for an internal option.
2. A long list whose items Ansible would take as they are is kept out of its validation. Any other list is Ansible's.
3. The system log and `invocation` have the number of items in place of a long list, and the number of files or
   characters in place of a program. Else each run, check mode included, would write 110 KiB of C there.
4. An answer is searched for secrets only if an option is secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from ansible.module_utils import basic

from ..model.long_list import LongList

LONG = 1000  # items
PROGRAM_TEXTS = ("source_files", "compiled", "blob_content")


class Module(basic.AnsibleModule):  # type: ignore[misc]
    """AnsibleModule, with long lists as LongList. It repeats neither these nor the texts of a program."""

    def __init__(self, **arguments: Any) -> None:
        self._long: dict[str, LongList | dict[str, Any] | str] = {}
        super().__init__(**arguments)
        self.params.update(self._long)

    def _load_params(self) -> None:
        with _without_copies():
            super()._load_params()
        for name, about in self.argument_spec.items():
            items = self.params.get(name)
            if isinstance(items, list) and len(items) > LONG and _are_final(items, about.get("options")):
                self._long[name] = LongList(items)
                self.params[name] = []
                # ansible-core 2.19 keeps a copy, of which it reads one internal option.
                (getattr(basic, "_PARSED_MODULE_ARGS", None) or {}).pop(name, None)

    def _log_invocation(self) -> None:
        self._long.update({name: self.params[name] for name in PROGRAM_TEXTS if self.params.get(name)})
        self._count_long_values()
        super()._log_invocation()

    def exit_json(self, **values: Any) -> None:
        """Print the result, and exit."""
        self._count_long_values()
        with _without_search(bool(self.no_log_values)):
            super().exit_json(**values)

    def fail_json(self, msg: str, **values: Any) -> None:
        """Print the error, and exit."""
        self._count_long_values()
        super().fail_json(msg, **values)

    def _count_long_values(self) -> None:
        self.params.update({name: _size(value) for name, value in self._long.items()})


def _size(value: LongList | dict[str, Any] | str) -> str:
    return f"{len(value)} {'characters' if isinstance(value, str) else 'items'}"


def _are_final(items: list[Any], spec: Mapping[str, Mapping[str, Any]] | None) -> bool:
    """Return whether Ansible would only add the options that were left out, and write numbers as texts."""
    if spec is None or any(about["type"] not in ("str", "list", "raw") for about in spec.values()):
        return False
    return all(
        item.__class__ is dict and all(name in spec and _is_final(value, spec[name]) for name, value in item.items())
        for item in items
    )


def _is_final(value: Any, about: Mapping[str, Any]) -> bool:
    kind = type(value)
    if about["type"] == "raw":
        return True
    if about["type"] == "str":
        return kind is str or kind is int or value is None
    return value is None or (kind is list and all(text.__class__ is str and text == text.strip(" ") for text in value))


@contextmanager
def _without_copies() -> Iterator[None]:
    """Let AnsibleModule copy the options without their values. ansible-core 2.18 copies nothing."""
    original = getattr(basic, "copy", None)
    if original is None:
        yield
        return
    basic.copy = SimpleNamespace(deepcopy=dict)
    try:
        yield
    finally:
        basic.copy = original


@contextmanager
def _without_search(has_secrets: bool) -> Iterator[None]:
    """Let AnsibleModule print an answer without secrets as it is."""
    search = basic.remove_values
    if not has_secrets:
        basic.remove_values = lambda value, _secrets: value
    try:
        yield
    finally:
        basic.remove_values = search
