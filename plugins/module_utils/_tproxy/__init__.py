# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The library of netedge.tproxy: pure values and compilers, adapters to the operating system, operations, front ends.

Packages, from the bottom: errors and constants, abi, model, ruleset and program, system, resources, checks,
commit_confirm and persistence, operations, openziti, cli, ansible_module. A package imports packages before it only
(docs/ARCHITECTURE.md).
"""
