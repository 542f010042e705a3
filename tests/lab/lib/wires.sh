# shellcheck shell=bash
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Network namespaces and their links: $LAB_NAME-ctl (management), -cli (client), -srv (server) and -rI (router I).
#
# Every MAC is fixed: a rebooted router with a new one would be out of reach until its neighbours' ARP entries expire.

management_address() { echo "10.99.0.$((10 + ${1#r}))"; }

exec_in_namespace() {  # not `ip netns exec`: that hides /sys/fs/bpf and /sys/fs/cgroup behind a new /sys
  local part=$1
  shift
  shared_is_whole || fail "is down"
  (( $# )) || set -- bash
  exec nsenter --net="/run/netns/$LAB_NAME-$part" -- "$@"
}

lab_namespaces() {
  local path
  for path in /run/netns/"$LAB_NAME"-*; do
    [[ ! ${path##*/} =~ ^$LAB_NAME-(ctl|cli|srv|r[0-9]+)$ ]] || echo "${path##*/}"
  done
}

make_namespace() {  # part, further sysctl settings
  local name=$LAB_NAME-$1
  shift
  ip netns add "$name"
  # No duplicate address detection: an address is of use at once. The rest undoes what a machine may preset.
  nsenter --net="/run/netns/$name" sysctl --quiet --write \
    net.ipv6.conf.{all,default}.{accept_dad,disable_ipv6}=0 net.ipv4.conf.{all,default}.rp_filter=0 "$@"
  ip -n "$name" link set lo up
}

remove_namespace() {
  local name=$LAB_NAME-$1
  [[ -e /run/netns/$name ]] || return 0
  end_namespace_processes "$name"
  ip netns delete "$name"
}

end_namespace_processes() {  # whatever was started inside by hand; ours beyond doubt, for the namespace is
  local pids
  while pids=$(ip netns pids "$1" 2> /dev/null) && [[ -n $pids ]]; do
    xargs --no-run-if-empty kill -KILL <<< "$pids" 2> /dev/null || true
    sleep 0.02
  done
}

make_shared() {
  local part
  for part in ctl cli srv; do
    make_namespace "$part"
  done
  # The bridge's own MAC, or it would take the lowest of its ports and change it as routers come and go.
  ip -n "$LAB_NAME-ctl" -batch - <<END
    link add br0 address 02:99:00:00:00:fe type bridge
    addr add 10.99.0.1/24 dev br0
    link set br0 up
END
  ip -n "$LAB_NAME-ctl" link set br0 alias "${LAB_WORK:0:255}"  # whose lab this is: see lab_owner
}

shared_is_whole() {
  [[ -e /run/netns/$LAB_NAME-cli && -e /run/netns/$LAB_NAME-srv && -n $(lab_owner) ]]
}

lab_owner() {  # the LAB_WORK of the checkout whose `up` made the running lab of this name
  ip -n "$LAB_NAME-ctl" link show br0 2> /dev/null | sed -n 's/^ *alias //p' || true
}

wire_router() {
  local i=${1#r}
  local mac table=$((100 + i))
  mac=00:00:00:$(printf %02x "$i")
  make_namespace "$1" net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  ip -n "$LAB_NAME-$1" -batch - <<END
    link add mgmt0 address 02:99:$mac type veth peer name m-$1 address 02:9a:$mac netns $LAB_NAME-ctl
    link add lan0 address 02:01:$mac type veth peer name c-$1 address 02:11:$mac netns $LAB_NAME-cli
    link add wan0 address 02:02:$mac type veth peer name s-$1 address 02:12:$mac netns $LAB_NAME-srv
    addr add $(management_address "$1")/24 dev mgmt0
    addr add 10.$i.1.1/24 dev lan0
    addr add fd00:$i:1::1/64 dev lan0
    addr add 10.$i.2.1/24 dev wan0
    addr add fd00:$i:2::1/64 dev wan0
    link set mgmt0 up
    link set lan0 ${LAB_LAN:-up}
    link set wan0 up
    route add default via 10.$i.2.2
    route add ::/0 via fd00:$i:2::2
END
  ip -n "$LAB_NAME-ctl" link set "m-$1" master br0 up
  ip -n "$LAB_NAME-srv" -batch - <<END
    link set s-$1 up
    addr add 10.$i.2.2/24 dev s-$1
    addr add fd00:$i:2::2/64 dev s-$1
    route add 10.$i.1.0/24 via 10.$i.2.1
    route add fd00:$i:1::/64 via fd00:$i:2::1
END
  ip -n "$LAB_NAME-cli" -batch - <<END
    link set c-$1 up
    addr add 10.$i.1.2/24 dev c-$1
    addr add fd00:$i:1::2/64 dev c-$1
    route add 10.$i.2.0/24 via 10.$i.1.1
    route add fd00:$i:2::/64 via fd00:$i:1::1
    route add default via 10.$i.1.1 table $table
    route add ::/0 via fd00:$i:1::1 table $table
END
  # Not in the batch: unlike addr and route, rule does not tell the family by the address.
  ip -n "$LAB_NAME-cli" -4 rule add from "10.$i.1.2" lookup "$table" priority "$((1000 + i))"
  ip -n "$LAB_NAME-cli" -6 rule add from "fd00:$i:1::2" lookup "$table" priority "$((1000 + i))"
  [[ $1 != r1 ]] || ip -n "$LAB_NAME-cli" -batch - <<END
    route add default via 10.1.1.1
    route add ::/0 via fd00:1:1::1
END
}

unwire_router() {  # links first: deleting a namespace alone leaves its links to the kernel's own time
  local end
  for end in ctl:m cli:c srv:s; do
    ip -n "$LAB_NAME-${end%:*}" link delete "${end#*:}-$1" 2> /dev/null || true
  done
  ip -n "$LAB_NAME-cli" -4 rule delete priority $((1000 + ${1#r})) 2> /dev/null || true
  ip -n "$LAB_NAME-cli" -6 rule delete priority $((1000 + ${1#r})) 2> /dev/null || true
  remove_namespace "$1"
}
