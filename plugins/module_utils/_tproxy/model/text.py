# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Characters that can forge a line, or the order of a line, where a text is shown.

Input with such a character is refused. Texts of other origins are shown with an escape in its place.
"""

from __future__ import annotations

import re

INTERFACE_BYTES = 15
# C0 and C1 controls, U+2028 and U+2029 (line and paragraph separator), and the bidirectional controls of UAX #9.
_MISLEADING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def misleading_characters(text: str) -> str:
    """Return the misleading characters of a text as U+202E, U+2028, or ""."""
    return ", ".join(dict.fromkeys(f"U+{ord(found):04X}" for found in _MISLEADING.findall(text)))


def fault_of_text(text: str) -> str:
    """Return the fault of a text with misleading characters as a sentence, or ""."""
    found = misleading_characters(text)
    return f"{text!r} contains control, bidirectional or line-separator characters ({found}); remove them" * bool(found)


def escaped(text: str) -> str:
    r"""Return a text with its misleading characters as \uXXXX, as JSON writes them. Tabs and new lines stay."""
    return _MISLEADING.sub(lambda found: found[0] if found[0] in "\t\n" else f"\\u{ord(found[0]):04x}", text)


def replaced(text: str) -> str:
    """Return a text with ? in place of its misleading characters."""
    return _MISLEADING.sub("?", text)


def utf8_bytes(text: str) -> int | None:
    """Return the number of bytes of a text in UTF-8, or None if it has no such form."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return None


def fault_of_interface_name(name: str) -> str:
    """Return the fault of an interface name as a sentence, or "".

    It judges as dev_valid_name() in net/core/dev.c does, and refuses misleading characters besides.
    """
    forbidden = name in ("", ".", "..") or "/" in name or ":" in name or any(map(str.isspace, name))
    too_long = (utf8_bytes(name) or INTERFACE_BYTES + 1) > INTERFACE_BYTES
    if not (forbidden or too_long):
        return fault_of_text(name)
    return (
        f"{name!r} is no interface name; the kernel allows 1 to {INTERFACE_BYTES} bytes without white space,"
        " control characters, '/' or ':', and not '.' or '..'"
    )
