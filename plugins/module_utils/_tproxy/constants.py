# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Constants of our own program that operations and tests share."""

from __future__ import annotations

VERSION = "1.0.0"  # of the collection, as galaxy.yml has it
FUNCTION = "tproxy_splicer"
TRACKER = "tproxy_tracker"  # the function on egress that belongs to FUNCTION
TRACKER_SOURCE = f"{TRACKER}.c"
SK_LOOKUP = "tproxy_sk_lookup"  # the function for socket lookups that belongs to FUNCTION
PIN_DIR = "/sys/fs/bpf/tproxy_splicer"
EXECUTABLE = "/usr/local/sbin/tproxy-splicer"
HELPER_SOCKET = "/run/tproxy-splicer-helper.sock"  # not in RUN_DIR, which is for root alone
STATE_FILE = "/var/lib/tproxy_splicer/state.json"
SERVICE_NAMES = "/etc/tproxy_splicer/service_names.json"  # of OpenZiti, by id
RUN_DIR = "/run/tproxy_splicer"
# Exists while the state file is older than the state in force, because it could not be written or is being written. It
# lies in RUN_DIR, which is never removed: the sandbox of the watcher (persistence/units.py) would keep the old folder.
UNSAVED = f"{RUN_DIR}/unsaved"
WATCHER_LOCK = f"{RUN_DIR}/watcher"  # a running watcher holds it
WATCHER_CHANGES = f"{RUN_DIR}/watcher_changes"  # the number of its changes since the boot
UNIT_FOLDER = "/etc/systemd/system"
BOOT_UNIT = "tproxy-splicer.service"
WATCH_UNIT = "tproxy-splicer-watch.service"
HELPER_SOCKET_UNIT = "tproxy-splicer-helper.socket"
METRICS_TIMER = "tproxy-splicer-metrics.timer"
METRICS_FILE = "tproxy_splicer.prom"  # in the folder of node_exporter
METRICS_INTERVAL = 30  # seconds, half of the usual interval between two scrapes
PRIORITY = 10
HANDLE = 1
ROUTE_TABLE = 1080
ROUTE_PRIORITY = 1080
CONFIRM_MIN, CONFIRM_MAX = 5, 3600  # seconds
# of tproxy_router
MERGED, REPLACED, GATHERED, RENDERED, ABSENT = ROUTER_STATES = ("merged", "replaced", "gathered", "rendered", "absent")
DEFAULT_OWNER = "ansible"  # of rules
FAIL_OPEN, FAIL_CLOSED = "fail_open", "fail_closed"  # the failure policies of a boot
CHANGED, ALL, NONE = RETURN_RULES = ("changed", "all", "none")  # of tproxy_rule
AUTO = "auto"  # the addresses that an interface has
FAMILY_NAMES = ("ipv4", "ipv6")
FLOW_TABLES = ("own", "forwarded", "outside")  # of tracked flows

# The members that tproxy_info returns on request, in the order of its documentation.
INFO_MEMBERS = ("attachments", "program", "rules", "flows", "drops", "routes", "findings")
