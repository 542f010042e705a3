# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by every script in this folder: where the tools live and where they may write.
# All that they write is below <checkout>/.work, so that `make clean` leaves no trace of them.
# shellcheck shell=bash

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
WORK=$CHECKOUT/.work
TOOLS=$CHECKOUT/tools
VENV=$WORK/venv
# The distribution's own Python: the only one that bcc and pyroute2 of the distribution are made for.
SYSTEM_PYTHON=/usr/bin/python3
export CHECKOUT WORK TOOLS VENV SYSTEM_PYTHON

export USER_HOME=${USER_HOME:-${HOME:-/}}
export HOME=$WORK/home
export PATH=$VENV/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8
export XDG_CACHE_HOME=$WORK/cache XDG_CONFIG_HOME=$WORK/home/.config
export PIP_CACHE_DIR=$WORK/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1
export RUFF_CACHE_DIR=$WORK/cache/ruff MYPY_CACHE_DIR=$WORK/cache/mypy
export COVERAGE_FILE=$WORK/cache/coverage
export HYPOTHESIS_STORAGE_DIRECTORY=$WORK/cache/hypothesis
# pytest.ini has the other options.
export PYTEST_ADDOPTS="-o cache_dir=$WORK/cache/pytest"
export PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1
export ANSIBLE_HOME=$WORK/ansible
# ssh's control sockets: the kernel takes no path beyond 107 bytes, and ssh and the lab add about 50.
ANSIBLE_SSH_CONTROL_PATH_DIR=$WORK/cp
[ ${#WORK} -le 50 ] || ANSIBLE_SSH_CONTROL_PATH_DIR=/tmp/tproxy-cp-$(cksum <<< "$WORK" | cut -d' ' -f1)
export ANSIBLE_SSH_CONTROL_PATH_DIR
unset PYTHONPATH PYTHONHOME ANSIBLE_CONFIG ANSIBLE_LIBRARY ANSIBLE_COLLECTIONS_PATH ANSIBLE_ROLES_PATH

mkdir -p "$HOME" "$WORK/log" "$WORK/cache"

# Runs a command as a process group of its own. A signal that ends this script ends that whole group first.
supervise() {
  local status=0
  set -m
  "$@" < /dev/null &
  supervised=$!
  set +m
  trap 'kill -TERM -- "-$supervised"' INT TERM HUP
  wait "$supervised" || status=$?
  while kill -0 "$supervised" 2> /dev/null; do # a signal ended the wait, not the command
    status=0
    wait "$supervised" || status=$?
  done
  trap - INT TERM HUP
  return "$status"
}
