# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf/lib/addr.h compares prefixes rightly on little-endian and on big-endian machines.

A host compiler builds the header in both byte orders. The order of this machine gets the addresses byte by byte. The
other order gets the numbers that a machine of that order would load from the same bytes.
"""

from __future__ import annotations

import ipaddress
import pathlib
import shutil
import subprocess
import sys

import pytest

HEADER = pathlib.Path(__file__).resolve().parents[2] / "bpf" / "lib" / "addr.h"
ORDERS = {"little": "__ORDER_LITTLE_ENDIAN__", "big": "__ORDER_BIG_ENDIAN__"}

# prefix, length, address
CASES = [
    ("2001:db8::", 32, "2001:db8:1::1"),
    ("2001:db8::", 32, "2001:db9::1"),
    ("2001:db8:0:1::", 64, "2001:db8:0:1:ffff::"),
    ("2001:db8:0:1::", 64, "2001:db8:0:2::"),
    ("a01::", 16, "a01:ffff::"),
    ("a01::", 16, "0:0:a01::"),
    ("fd00:0:0:10::", 60, "fd00:0:0:1f::"),
    ("fd00:0:0:10::", 60, "fd00:0:0:20::"),
    ("fd00::1:0:0:0", 80, "fd00::1:ffff:0:0"),
    ("fd00::1:0:0:0", 80, "fd00::2:0:0:0"),
    ("::ffff:10.1.0.0", 112, "::ffff:10.1.255.255"),
    ("::ffff:10.1.0.0", 112, "::ffff:10.2.0.0"),
    ("::ffff:10.1.0.0", 127, "::ffff:10.1.0.1"),
    ("::ffff:10.1.0.0", 127, "::ffff:10.1.0.2"),
    ("::ffff:0.0.0.0", 96, "::ffff:203.0.113.1"),
    ("::ffff:0.0.0.0", 96, "::fffe:203.0.113.1"),
    ("fd00::1", 128, "fd00::1"),
    ("fd00::1", 128, "fd00::2"),
    ("::", 0, "2001:db8::1"),
    ("8000::", 1, "ffff::"),
    ("8000::", 1, "7fff::"),
]


def contains(prefix: str, length: int, address: str) -> bool:
    """Return the answer of Python's own library."""
    return ipaddress.IPv6Address(address) in ipaddress.IPv6Network((prefix, length))


def as_loaded(address: str, order: str) -> str:
    """Return an address as a C initialiser: the two u64 that a machine of that byte order loads."""
    raw = ipaddress.IPv6Address(address).packed
    high, low = (int.from_bytes(part, order) for part in (raw[:8], raw[8:]))
    return f"{{.addr64 = {{{high:#x}ULL, {low:#x}ULL}}}}"


def program(order: str) -> str:
    """Return a C program that prints one digit for each case, and port 80 as bpf_ntohs() reads it."""
    rows = [f"{{{as_loaded(prefix, order)}, {as_loaded(addr, order)}, {length}}}," for prefix, length, addr in CASES]
    port = int.from_bytes(b"\x00\x50", order)
    return "\n".join(
        [
            "#include <stdbool.h>",
            "#include <stdio.h>",
            f'#include "{HEADER}"',
            "static const struct { union ip_addr prefix, addr; int length; } cases[] = {",
            *rows,
            "};",
            "int main(void) {",
            "for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++)",
            "putchar('0' + prefix_contains(cases[i].prefix.addr8, cases[i].length, &cases[i].addr));",
            f'printf(" %d\\n", bpf_ntohs((unsigned short){port}));',
            "return 0; }",
        ]
    )


@pytest.mark.skipif(not shutil.which("cc"), reason="NO C COMPILER HERE: the byte orders were NOT compared")
@pytest.mark.parametrize("order", ORDERS)
def test_prefixes_and_ports_in_each_byte_order(order, tmp_path):
    source, made = tmp_path / "program.c", tmp_path / "program"
    source.write_text(program(order), encoding="utf-8")
    flags = [] if order == sys.byteorder else ["-U__BYTE_ORDER__", f"-D__BYTE_ORDER__={ORDERS[order]}"]
    subprocess.run(["cc", "-Wall", "-Werror", *flags, "-o", str(made), str(source)], check=True)
    told = subprocess.run([str(made)], check=True, capture_output=True, text=True).stdout
    assert told == "".join(str(int(contains(*case))) for case in CASES) + " 80\n"
