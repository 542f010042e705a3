# shellcheck shell=bash
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The life of one router: $CGROUPS/$LAB_NAME-rI holds its supervisor, the folder "router" below holds all that it runs.

REBOOT_STATUS=129  # reboot(2) in a pid namespace ends its pid 1 by SIGHUP, power off by SIGINT (pid_namespaces(7))
BOOT_SECONDS=60

router_cgroup() { echo "$CGROUPS/$LAB_NAME-$1"; }

router_runs() {  # its supervisor lives; booting and rebooting count
  grep -qs . "$(router_cgroup "$1")/cgroup.procs"
}

router_pid() {  # the number that the router's pid 1 has on this machine
  local pids pid
  pids=$(find "$(router_cgroup "$1")" -name cgroup.procs -exec cat {} + 2> /dev/null) || true
  for pid in $pids; do
    if grep -qsE $'^NSpid:\t[0-9]+\t1$' "/proc/$pid/status"; then
      echo "$pid"
      return
    fi
  done
  return 1
}

router_settles() {  # true if it then runs: a router with a supervisor and no pid 1 is about to boot or to be off
  while router_runs "$1"; do
    ! router_pid "$1" > /dev/null || return 0
    sleep 0.05
  done
  return 1
}

start_router() {
  local cgroup
  cgroup=$(router_cgroup "$1")
  remove_router "$1"
  mkdir -p "$STATE/$1"/{upper,work,lower,root} "$cgroup"
  setsid "$HERE/lab" _supervise "$1" >> "$STATE/$1/log" 2>&1 < /dev/null 8<&- &
  echo $! > "$cgroup/cgroup.procs"
  disown  # or bash reports its end as a job of ours
}

supervise() {  # boot, and boot again for as long as the router asks for a reboot
  local status
  while :; do
    wire_router "$1"
    status=0
    run_router "$1" || status=$?
    unwire_router "$1"
    say "$1 ended with status $status"
    (( status == REBOOT_STATUS )) || break
  done
}

run_router() {
  local cgroup
  cgroup=$(router_cgroup "$1")/router
  remove_cgroup "$cgroup"
  mkdir "$cgroup"
  (
    echo "$BASHPID" > "$cgroup/cgroup.procs"
    # unshare reports its child's end by dying of the same signal, which an inherited "ignore" would hide.
    exec env --default-signal=HUP,INT nsenter --net="/run/netns/$LAB_NAME-$1" \
      unshare --mount --uts --ipc --pid --cgroup --fork --kill-child \
      "$HERE/boot" "$1" "$STATE" "$LAB_BASE" 9>&-
  )
}

remove_router() {  # all but its disk
  remove_cgroup "$(router_cgroup "$1")"
  unwire_router "$1"
}

remove_cgroup() {
  [[ -d $1 ]] || return 0
  echo 1 > "$1/cgroup.kill"
  while grep -qsx 'populated 1' "$1/cgroup.events"; do
    sleep 0.02
  done
  find "$1" -depth -type d -exec rmdir {} +
}

wait_router() {  # router, when the wait began
  local give_up=$((SECONDS + BOOT_SECONDS))
  until router_answers "$1"; do
    router_runs "$1" || fail "$1 is off; the end of its log:"$'\n'"$(tail -n 20 "$STATE/$1/log")"
    (( SECONDS < give_up )) ||
      fail "$1 does not answer ssh after $BOOT_SECONDS s: look inside with exec, or at $STATE/$1/log"
    sleep 0.1
  done
  say "$1: answers ssh ($(since "$2") s)"
}

router_answers() {  # a time limit per attempt: a connect to a router that died in the meantime hangs for minutes
  # shellcheck disable=SC2016  # for the inner shell
  timeout 2 nsenter --net="/run/netns/$LAB_NAME-ctl" bash -c \
    'exec 3<> "/dev/tcp/$0/22" && read -r -u 3 banner && [[ $banner == SSH-* ]]' \
    "$(management_address "$1")" 2> /dev/null
}

exec_in_router() {
  local router=$1 pid
  shift
  (( $# )) || set -- bash
  pid=$(router_pid "$router") || fail "$router is off"
  echo $$ > "$(router_cgroup "$router")/router/cgroup.procs"
  exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup -- \
    /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root LANG=C.UTF-8 "TERM=${TERM:-dumb}" "$@"
}
