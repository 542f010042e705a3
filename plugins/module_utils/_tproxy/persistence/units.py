# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The systemd units of the saved state and of the helper, as texts.

A module ships Python only, so the texts stand here and not in files.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..constants import EXECUTABLE, HELPER_SOCKET, STATE_FILE
from .state_file import closed_path

UNIT_FOLDER = "/etc/systemd/system"
BOOT_UNIT = "tproxy-splicer.service"
INTERFACE_UNIT = "tproxy-splicer@.service"  # a template, whose instances are named after interfaces
WATCH_UNIT = "tproxy-splicer-watch.service"
HELPER_UNIT = "tproxy-splicer-helper.service"
HELPER_SOCKET_UNIT = "tproxy-splicer-helper.socket"

BOOT = f"""\
# Restores the saved state before any network manager brings an interface up.
[Unit]
Description=Transparent proxy splicer: restore the saved state
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=systemd-sysctl.service systemd-modules-load.service
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/tproxy_splicer /usr/local/sbin /sys/fs/bpf
# With fail_closed the second file exists as well, so a deleted state closes the interfaces.
ConditionPathExists=|{STATE_FILE}
ConditionPathExists=|{closed_path(STATE_FILE)}

[Service]
Type=oneshot
RemainAfterExit=yes
LimitMEMLOCK=infinity
ExecStart={EXECUTABLE} restore

[Install]
WantedBy=sysinit.target
"""

INTERFACE = f"""\
# Restores the saved state of one interface each time that the interface appears.
#
# The unit ends after its work and is bound to no device. systemd starts a unit for an interface only if the unit is
# neither active nor stopping. If the interface disappears and returns at once, a bound unit would still be stopping.
[Unit]
Description=Transparent proxy splicer: restore the saved state of %I
DefaultDependencies=no
After=sys-subsystem-net-devices-%i.device tproxy-splicer.service
Before=shutdown.target
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/tproxy_splicer /usr/local/sbin /sys/fs/bpf
ConditionPathExists=|{STATE_FILE}
ConditionPathExists=|{closed_path(STATE_FILE)}

[Service]
Type=oneshot
LimitMEMLOCK=infinity
ExecStart={EXECUTABLE} restore %I

[Install]
WantedBy=sys-subsystem-net-devices-%i.device
"""

WATCH = f"""\
# Restores lost parts of the saved state while the router runs.
[Unit]
Description=Transparent proxy splicer: restore losses
After=tproxy-splicer.service
ConditionPathExists={STATE_FILE}

[Service]
LimitMEMLOCK=infinity
ExecStart={EXECUTABLE} watch
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

HELPER = f"""\
# Executes diverter calls of a router without root privileges (tproxy-splicer -I, -D). Its socket starts it.
[Unit]
Description=Transparent proxy splicer: helper for OpenZiti routers
After=tproxy-splicer.service
Requires=tproxy-splicer-helper.socket

[Service]
LimitMEMLOCK=infinity
ExecStart={EXECUTABLE} helper
Restart=on-failure
RestartSec=1
"""

HELPER_OF_GROUP = """\
[Unit]
Description=Transparent proxy splicer: socket of the helper for OpenZiti routers

[Socket]
ListenStream={socket}
SocketMode=0660
SocketGroup={group}
RemoveOnStop=yes
Backlog=128

[Install]
WantedBy=sockets.target
"""


def persistence_units() -> Mapping[str, str]:
    """Return {name: text} of the units that restore and watch the saved state."""
    return {BOOT_UNIT: BOOT, INTERFACE_UNIT: INTERFACE, WATCH_UNIT: WATCH}


def helper_units(group: str) -> Mapping[str, str]:
    """Return {name: text} of the units of the helper, which serves the members of a group."""
    socket = HELPER_OF_GROUP.format(socket=HELPER_SOCKET, group=group)
    return {HELPER_UNIT: HELPER, HELPER_SOCKET_UNIT: socket}


def instance_of(interface: str) -> str:
    """Return the name of the unit that restores one interface, as systemd-escape(1) writes it.

    br-lan is br\\x2dlan in the name of a unit. With another name the unit waits for a device that never appears.
    """
    return INTERFACE_UNIT.replace("@.", f"@{escaped(interface)}.")


def escaped(name: str) -> str:
    """Return a name as systemd escapes it for the name of a unit (systemd.unit(5), unit_name_escape)."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
    found = []
    for number, byte in enumerate(name.encode()):
        letter = chr(byte)
        if letter == "/":
            found.append("-")
        elif letter in plain and not (letter == "." and number == 0):
            found.append(letter)
        else:
            found.append(f"\\x{byte:02x}")
    return "".join(found)
