# shellcheck shell=bash
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced. Unpacks packages of another Debian release. Nothing is installed: apt works on a state of its own, and each
# program runs with the libc of its own release.
#
# begin_release SUITE FOLDER [ARCHITECTURE]: asks the mirror; apt-cache then knows the packages of the release. 1: no mirror answers
# unpack PACKAGE...: unpacks them to FOLDER/root, with all that they depend on. 1: a package is missing
# wrap NAME: lets a program of the release run here
# end_release: renames FOLDER.new to FOLDER, so that there is never half of it
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# The mirror that this machine gets its own Debian release from.
mirror() {
  local release
  release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  apt-get update --print-uris | sed -n "s|^'\([^']*\)/dists/$release/InRelease'.*|\1|p" | head -n1
}

begin_release() { # SUITE FOLDER [ARCHITECTURE]
  local uri
  RELEASE_FOLDER=$2 RELEASE_ROOT=$2.new/root RELEASE_APT=$2.new/apt
  rm -rf "$2.new"
  uri=$(mirror)
  [ -n "$uri" ] || { echo "the apt sources name no mirror"; return 1; }
  configure_apt "$uri" "$1" "${3:-$(dpkg --print-architecture)}"
  apt-get update || { echo "$uri does not answer"; return 1; }
}

# With an empty list of installed packages apt resolves every dependency within the suite.
configure_apt() { # MIRROR SUITE ARCHITECTURE
  local apt=$RELEASE_APT
  mkdir -p "$apt"/etc/{sources.list.d,preferences.d,apt.conf.d,trusted.gpg.d} \
    "$apt"/state/lists/partial "$apt"/cache/archives/partial
  : > "$apt/status"
  echo "deb [arch=$3 signed-by=$KEYS] $1 $2 main" > "$apt/etc/sources.list"
  cat > "$apt/apt.conf" << END
Dir::Etc "$apt/etc";
Dir::Etc::SourceList "$apt/etc/sources.list";
Dir::Etc::SourceParts "$apt/etc/sources.list.d";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "$3";
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
END
  export APT_CONFIG=$apt/apt.conf
}

unpack() { # PACKAGE...
  local package
  apt-get install --yes --download-only "$@" || { echo "a package is missing"; return 1; }
  mkdir "$RELEASE_ROOT"
  for package in "$RELEASE_APT"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$RELEASE_ROOT"; done
}

# A program of another release needs that release's loader. --argv0 lets Python find its own library.
wrap() { # NAME
  local program=$RELEASE_ROOT/usr/bin/$1
  mv "$program" "$program.elf"
  cat > "$program" << END
#!/bin/sh
root=$RELEASE_FOLDER/root/usr
exec "\$root"/lib64/ld-linux-*.so.* --library-path "\$(echo "\$root"/lib/*-linux-gnu)" --argv0 "\$0" "\$root/bin/$1.elf" "\$@"
END
  chmod +x "$program"
}

end_release() {
  rm -rf "$RELEASE_APT"
  mv "$RELEASE_FOLDER.new" "$RELEASE_FOLDER"
}
