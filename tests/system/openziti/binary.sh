# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced: exports ZITI, the path of the executable: $binary, else $ZITI, else `ziti` on the PATH. Ends with 3 without one.
# tools/env.sh shortens PATH, so the caller may give the place.
# shellcheck shell=bash
binary=${binary:-${ZITI:-$(command -v ziti || true)}}
if [[ -z $binary || ! -x $binary || -d $binary ]]; then
  cat >&2 <<END
openziti: expected the executable of OpenZiti (2.0 or newer), got '$binary'; download it from
https://github.com/openziti/ziti/releases and give it as ZITI=/path/to/ziti. No scenario ran.
END
  exit 3
fi
ZITI=$(realpath "$binary")
export ZITI
