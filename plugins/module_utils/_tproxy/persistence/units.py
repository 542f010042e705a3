# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The systemd units of the saved state and of the helper, as texts.

A module ships Python only, so the texts stand here and not in files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..constants import (
    BOOT_UNIT,
    EXECUTABLE,
    HELPER_SOCKET,
    HELPER_SOCKET_UNIT,
    RUN_DIR,
    STATE_FILE,
    WATCH_UNIT,
)
from .state_file import closed_path

INTERFACE_UNIT = "tproxy-splicer@.service"  # a template, whose instances are named after interfaces
HELPER_UNIT = "tproxy-splicer-helper.service"

# The capabilities: CAP_NET_ADMIN for filters and routes. CAP_SYS_ADMIN to open a map or a program by its id, which the
# kernel grants to no process with CAP_BPF and CAP_PERFMON alone (BPF_MAP_GET_FD_BY_ID: EPERM on 6.18).
# The watcher reads the descriptors of processes of other users (proc_pid_fd(5)): CAP_DAC_READ_SEARCH for the folder,
# CAP_SYS_PTRACE for a duplicate.
# ProtectKernelTunables is missing: it makes the bpffs below /sys read-only (systemd 252).
# MemoryMax: 131,072 rules took 894 MiB at the peak.
SANDBOX = f"""\
LimitMEMLOCK=infinity
MemoryMax=1536M
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/sys/fs/bpf
ReadWritePaths=-{os.path.dirname(STATE_FILE)}
RuntimeDirectory={os.path.basename(RUN_DIR)}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK
IPAddressDeny=any
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @keyring @setuid
SystemCallFilter=bpf
SystemCallErrorNumber=EPERM
UMask=0077
"""
# systemd.exec(5): PrivateTmp would order a unit of the early boot behind the cleaning of /tmp. PrivateDevices makes a
# folder in /tmp, which that cleaning deletes: the unit failed with 226/NAMESPACE at three of eight boots of a busy
# machine (tried with 252).
EARLY_TMP = "DevicePolicy=closed\nInaccessiblePaths=-/tmp -/var/tmp\n"
LATE_TMP = "PrivateDevices=yes\nPrivateTmp=yes\n"

# systemd mounts the BPF file system at boot, and refuses a mount unit for it (tried with 252). After an unmount, the
# next start of a unit mounts it again, in the namespace of systemd itself: in the unit's own mount namespace no other
# process would see the mount and the pins. The plus sign lifts the sandbox, but not that namespace (tried with 252).
MOUNT = """\
ExecStartPre=+/usr/bin/nsenter --target 1 --mount /bin/sh -c 'mountpoint -q /sys/fs/bpf || \\
    mount -t bpf -o mode=0700,nosuid,nodev,noexec bpf /sys/fs/bpf'
"""

BOOT = f"""\
# Restores the saved state before any network manager brings an interface up.
[Unit]
Description=Transparent proxy splicer: restore the saved state
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=systemd-sysctl.service systemd-modules-load.service local-fs.target sys-fs-bpf.mount
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/tproxy_splicer /usr/local/sbin
# With fail_closed the second file exists as well, so a deleted state closes the interfaces.
ConditionPathExists=|{STATE_FILE}
ConditionPathExists=|{closed_path(STATE_FILE)}
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
{MOUNT}ExecStart={EXECUTABLE} restore
{SANDBOX}{EARLY_TMP}
[Install]
WantedBy=sysinit.target
"""

INTERFACE = f"""\
# Restores the saved state of one interface each time that the interface appears.
#
# The unit ends after its work and is bound to no device. systemd starts a unit for an interface only if the unit is
# neither active nor stopping. If the interface disappears and returns at once, a bound unit would still be stopping.
# An interface may come any number of times, so the unit has no start limit.
[Unit]
Description=Transparent proxy splicer: restore the saved state of %I
DefaultDependencies=no
After=sys-subsystem-net-devices-%i.device tproxy-splicer.service sys-fs-bpf.mount
Before=shutdown.target
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/tproxy_splicer /usr/local/sbin
ConditionPathExists=|{STATE_FILE}
ConditionPathExists=|{closed_path(STATE_FILE)}
StartLimitIntervalSec=0

[Service]
Type=oneshot
{MOUNT}ExecStart={EXECUTABLE} restore %I
{SANDBOX}{EARLY_TMP}
[Install]
WantedBy=sys-subsystem-net-devices-%i.device
"""

# However often a process dies, systemd starts it again half a second later: StartLimitIntervalSec, and in the socket
# TriggerLimitIntervalSec. With the limits of systemd it would stay dead after five deaths in ten seconds.
WATCH = f"""\
# Restores lost parts of the saved state while the router runs.
[Unit]
Description=Transparent proxy splicer: restore losses
After=tproxy-splicer.service sys-fs-bpf.mount
ConditionPathExists={STATE_FILE}
StartLimitIntervalSec=0

[Service]
{MOUNT}ExecStart={EXECUTABLE} watch
Restart=always
RestartSec=500ms
{SANDBOX}{LATE_TMP}# It duplicates the listening sockets of proxies of any user (socket_lookups.py).
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE
SystemCallFilter=pidfd_getfd

[Install]
WantedBy=multi-user.target
"""

HELPER = f"""\
# Executes diverter calls of a router without root privileges (tproxy-splicer -I, -D). Its socket starts it.
[Unit]
Description=Transparent proxy splicer: helper for OpenZiti routers
After=tproxy-splicer.service sys-fs-bpf.mount
Requires={HELPER_SOCKET_UNIT}
StartLimitIntervalSec=0

[Service]
{MOUNT}ExecStart={EXECUTABLE} helper
Restart=always
RestartSec=500ms
{SANDBOX}{LATE_TMP}# It binds a socket to 127.0.0.1 to learn whether the kernel reports sockets (sock_diag.py).
RestrictAddressFamilies=AF_INET
"""

HELPER_OF_GROUP = """\
[Unit]
Description=Transparent proxy splicer: socket of the helper for OpenZiti routers
StartLimitIntervalSec=0

[Socket]
ListenStream={socket}
SocketMode=0660
SocketGroup={group}
RemoveOnStop=yes
Backlog=128
TriggerLimitIntervalSec=0

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
