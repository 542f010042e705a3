# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by each scenario: a lab of its own, and one line of output for each check.
#
#   . "$(dirname "$0")/../runner.sh"
#   start_lab NAME ROUTERS       boots the lab and takes it down when the script ends
#   check "text" COMMAND...      prints the text, and the output of a command that fails
#   finish                       prints the sum; exit status 1 if a check failed
# shellcheck shell=bash

ROOT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
HERE=$(dirname "$(realpath "$0")")
LAB=$ROOT/tests/lab/lab
export LC_ALL=C.UTF-8 ANSIBLE_CONFIG=$ROOT/tests/system/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$ROOT/.work/tree
PASSED=0 FAILED=0

say() { printf '\n==> %s\n' "$*"; }
note() { echo "        $*"; }

start_lab() { # NAME ROUTERS
  [[ $EUID == 0 ]] || { echo "needs root: it makes network namespaces and loads a BPF program" >&2; exit 1; }
  export LAB_NAME=${LAB_NAME:-$1}
  mkdir -p "$ROOT/.work/log"
  WORK=$(mktemp -d "$ROOT/.work/log/$1.XXXXXX")
  trap clean_up EXIT
  "$LAB" up --routers "$2"
  INVENTORY=$("$LAB" inventory)
}

clean_up() {
  local status=$?
  trap - EXIT
  "$LAB" down # with every process in its namespaces
  rm -rf "$WORK"
  exit "$status"
}

check() { # TEXT COMMAND...
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $text"
    PASSED=$((PASSED + 1))
  else
    echo "NOT ok  $text"
    note "${output//$'\n'/$'\n'        }"
    FAILED=$((FAILED + 1))
  fi
}

# A busy machine is slow, so it gets a minute, or $PATIENCE seconds.
eventually() { # COMMAND...
  local end=$((SECONDS + ${PATIENCE:-60}))
  until "$@" > "$WORK/eventually.log" 2>&1; do
    (( SECONDS < end )) || { cat "$WORK/eventually.log"; return 1; }
    sleep 0.1
  done
}

finish() {
  printf '\n%d passed, %d failed (%d s)\n' "$PASSED" "$FAILED" "$SECONDS"
  (( FAILED == 0 ))
}

# ---- router and playbook ------------------------------------------------------------------------------------

router() { "$LAB" exec r1 "$@"; }
put() { router dd "of=$2" status=none < "$1"; } # FILE PATH_IN_THE_ROUTER

# Its output is in $WORK/play.log.
play() { # PLAYBOOK [OPTION...]
  ansible-playbook -i "$INVENTORY" "$HERE/$1" "${@:2}" > "$WORK/play.log" 2>&1 || { cat "$WORK/play.log"; return 1; }
}
