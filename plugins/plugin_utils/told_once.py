# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of many hosts, each told once with the list of its hosts."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 119
MOST_TEXTS = 5
MOST_NAMES = 50
MOST_CHARACTERS = 400


class ToldOnce:
    """Texts and their hosts, in the order of arrival.

    Two texts are equal if they differ in the name and the address of their host only.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._hosts: dict[str, list[str]] = {}

    def add(self, text: str, host: str, address: str = "") -> None:
        """Add the text of a host, which has this name and this address."""
        names = sorted(filter(None, {host, address}), key=len, reverse=True)
        kind = re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)", "<host>", text)
        self._first.setdefault(kind, text)
        hosts = self._hosts.setdefault(kind, [])
        if host not in hosts:
            hosts.append(host)

    def take(self, order: Iterable[str] = ()) -> list[tuple[list[str], str]]:
        """Return each text with its hosts in this order, and forget all.

        A text of several hosts says <host> for name and address.
        """
        places = {name: place for place, name in enumerate(order)}
        found = [
            (
                sorted(hosts, key=lambda name: places.get(name, len(places))),
                self._first[kind] if len(hosts) == 1 else kind,
            )
            for kind, hosts in self._hosts.items()
        ]
        self._first, self._hosts = {}, {}
        return found


def lines(label: str, texts: list[tuple[list[str], str]]) -> list[str]:
    """Return the lines of a report: at most MOST_TEXTS texts, each cut after MOST_CHARACTERS characters."""
    found = []
    for hosts, text in texts[:MOST_TEXTS]:
        words = " ".join(text.split())
        cut = words if len(words) <= MOST_CHARACTERS else words[:MOST_CHARACTERS].rstrip() + " ..."
        found += wrapped(f"{label}: {names_of(hosts)}: {cut}")
    if texts[MOST_TEXTS:]:
        hosts = list(dict.fromkeys(host for some, _text in texts[MOST_TEXTS:] for host in some))
        found += wrapped(f"{label}: {names_of(hosts)}: {len(texts) - MOST_TEXTS} other texts, in the details")
    return found


def names_of(hosts: list[str]) -> str:
    """Return the names as text, and after MOST_NAMES names the number of the others."""
    others = len(hosts) - MOST_NAMES
    return " ".join(hosts[:MOST_NAMES]) + (f" and {others} others" if others > 0 else "")


def wrapped(text: str) -> list[str]:
    """Return the lines of an indented text."""
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)


def fault_of(result: Mapping[str, Any]) -> str:
    """Return the cause of a failure from the result of a task, one part for each failed item of its loop."""
    results = result.get("results")
    failed = [one for one in results if one.get("failed")] if isinstance(results, list) else []
    if not failed:
        return _cause(result)
    return "; ".join(f"{_label(one)}{_cause(one)}" for one in failed)


def _cause(result: Mapping[str, Any]) -> str:
    texts = [result.get("msg") or result.get("censored"), result.get("stdout"), result.get("stderr")]
    return ", ".join(str(text).strip() for text in texts if text) or "the task gave no reason"


def _label(result: Mapping[str, Any]) -> str:
    item = result.get("item")
    name = item.get("name") if isinstance(item, Mapping) else result.get("_ansible_item_label", item)
    return f"{name}: " if name else ""


def warnings_of(found: Iterable[Any] | None) -> list[str]:
    """Return the warnings of a result as texts."""
    return [str(one).strip() for one in found or []]
