# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by run: the cases of SSH that comes by a tunnel and by a redirected port.
# shellcheck shell=bash

CONTROLLER=10.99.0.1
TUNNEL_CONTROLLER=172.30.0.1 TUNNEL_ROUTER=172.30.0.12
PORT=2222

ssh_by_a_tunnel() {
  say "SSH by a VXLAN tunnel, and the program on the interface that carries it"
  make_tunnels
  WAY=(-e "ansible_host=$TUNNEL_ROUTER")
  refused_and_cured "outer packets of tunnel0" \
    "{\"source\": \"$CONTROLLER\", \"protocol\": \"udp\", \"port\": 4789}"
  router ip link delete tunnel0
  ip netns exec "$LAB_NAME-ctl" ip link delete tunnel0
}

make_tunnels() {
  local options=(type vxlan id 7 dstport 4789)
  router ip link add tunnel0 "${options[@]}" local "$ROUTER" remote "$CONTROLLER"
  router ip address add "$TUNNEL_ROUTER/24" dev tunnel0
  router ip link set tunnel0 up
  ip netns exec "$LAB_NAME-ctl" ip link add tunnel0 "${options[@]}" local "$CONTROLLER" remote "$ROUTER"
  ip netns exec "$LAB_NAME-ctl" ip address add "$TUNNEL_CONTROLLER/24" dev tunnel0
  ip netns exec "$LAB_NAME-ctl" ip link set tunnel0 up
}

ssh_by_a_redirected_port() {
  say "SSH by a port that the router redirects to port 22"
  ip netns exec "$LAB_NAME-r1" nft -f - <<END
table ip redirecting { chain prerouting { type nat hook prerouting priority -100; tcp dport $PORT redirect to :22; }; }
END
  WAY=(-e "ansible_port=$PORT" -e "ansible_control_path=$WORK/redirected-%%h")
  refused_and_cured "port $PORT would not reach sshd" "{\"source\": \"$CONTROLLER\", \"port\": $PORT}"
  ip netns exec "$LAB_NAME-r1" nft delete table ip redirecting
}

refused_and_cured() {  # WORDS ENTRY: on an interface without the program, by $WAY
  local way=("${WAY[@]}") attach="{\"interface\": \"$IF\"}"
  directly tc_bpf_attach "{\"interface\": \"$IF\", \"state\": \"absent\"}"
  check "the router is reached this way" ssh_works
  WAY+=(--check)
  check "check mode refuses it" fails_saying "$1" tc_bpf_attach "$attach"
  WAY=("${way[@]}")
  check "a real run refuses it" fails_saying "$1" tc_bpf_attach "$attach"
  check "no interface has a program" program_is ""
  check "forced, it is rolled back" fails_saying "rolled back" tc_bpf_attach \
    "{\"interface\": \"$IF\", \"force\": true, \"confirm_timeout\": 8}"
  check "no interface has a program" program_is ""
  check "the router is reached again" ssh_works
  run tc_bpf_attach "{\"interface\": \"$IF\", \"force\": true, \"confirm_timeout\": 0}" || true
  check "forced without a confirmation, it cuts this way off" stays_cut
  directly tc_bpf_attach "{\"interface\": \"$IF\", \"state\": \"absent\"}"
  check "the named entry of management is the cure" run tc_bpf_attach \
    "{\"interface\": \"$IF\", \"policy\": {\"management\": [$2]}}"
  check "the change is confirmed this way, without being asked to" outcome_is confirmed
  WAY=()
  check "the default policy is back" run tc_bpf_attach "{\"interface\": \"$IF\", \"policy\": {}}"
}

directly() {  # MODULE JSON: run a task by the management address and port 22
  local way=("${WAY[@]}")
  WAY=()
  check "by the other way: $1 $2" run "$@"
  WAY=("${way[@]}")
}

stays_cut() { ! ssh_works; }
