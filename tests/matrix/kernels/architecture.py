# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processors that are emulated."""

from __future__ import annotations

import platform
from typing import NamedTuple


class Architecture(NamedTuple):
    """An architecture by Debian's name, and the kernel's: `machine` is that of uname(2)."""

    name: str
    machine: str
    qemu: tuple
    console: str
    options: str  # on the kernel's command line
    crypto: str  # the folder of its modules in arch/

    @property
    def is_own(self) -> bool:
        """Return whether a guest can run this machine's Python."""
        return platform.machine() == self.machine

    @property
    def flavour(self) -> str:
        """Return the end of the name of its kernels: small ones, for virtual machines."""
        return f"-cloud-{self.name}"


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture(
            "amd64",
            "x86_64",
            # A plain processor: with all that qemu can emulate (-cpu max) the guest takes half as long again.
            ("qemu-system-x86_64", "-cpu", "qemu64,+rdrand"),
            "ttyS0",
            # No check of the timer: check_timer() in arch/x86/kernel/apic/io_apic.c panics when it sees no tick, and on
            # a busy machine an emulated processor may well stand still for a while.
            "no_timer_check",
            "x86",
        ),
        Architecture(
            "arm64", "aarch64", ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57"), "ttyAMA0", "", "arm64"
        ),
    )
}
