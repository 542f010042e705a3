# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to systemd-networkd's settings, as networkd.conf(5) has them found."""

from __future__ import annotations

import configparser
import os

FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
PROCESS = "systemd-networkd"
OFF = ("no", "false", "off", "0", "n", "f")


def keeps_foreign_rules(folders: tuple = FOLDERS) -> bool:
    """Whether ManageForeignRoutingPolicyRules is off; else networkd deletes policy rules that it did not make.

    Those of protocol kernel it leaves alone in any case.
    """
    settings = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    for path in _files(folders):
        try:
            settings.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # networkd warns and goes on as well
    value = settings.get("Network", "ManageForeignRoutingPolicyRules", fallback="yes") or "yes"
    return value.strip().lower() in OFF


def _files(folders: tuple) -> list:
    """Return the files that count, in the order in which each overrides the one before."""
    main = [path for path in (f"{folder}/networkd.conf" for folder in folders) if os.path.exists(path)][:1]
    parts = {}
    for folder in (f"{each}/networkd.conf.d" for each in folders):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(".conf"):
                parts.setdefault(name, f"{folder}/{name}")
    return main + [parts[name] for name in sorted(parts)]
