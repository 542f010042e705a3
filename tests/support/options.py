# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options as an operation gets them from AnsibleModule: given values, and the argspec's defaults for the rest."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module import argspec


def options(module: str, **given) -> dict:
    """Return the parameters of a module."""
    return _filled(getattr(argspec, module)()["argument_spec"], given)


def _filled(spec: dict, given: dict) -> dict:
    unknown = set(given) - set(spec)
    assert not unknown, f"no such options: {unknown}"
    return {name: _value(about, given.get(name, about.get("default"))) for name, about in spec.items()}


def _value(about: dict, value):
    if value is None or "options" not in about:
        return value
    if about["type"] == "list":
        return [_filled(about["options"], item) for item in value]
    return _filled(about["options"], value)
