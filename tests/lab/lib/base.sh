# shellcheck shell=bash
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The base folder: one Debian that every router of every lab has as its lower overlay layer. It never runs a router.
#
# 1. It is made in $LAB_BASE.new and renamed when whole: there is no half base.
# 2. One lock, $LAB_BASE.lock: whoever makes the base holds it alone, each running router holds it shared (file
#    descriptor 9, inherited by its supervisor). So it is made once, and never replaced under a router's feet.
# 3. The stamp in it is a hash of the recipe below: other packages or other presets make a new base.

BASE_SUITE=${LAB_SUITE:-bookworm}
BASE_PACKAGES=(
  systemd-sysv udev dbus openssh-server python3 python3-apt iproute2 nftables python3-bpfcc python3-pyroute2 bpftool
  ca-certificates procps kmod iputils-ping netcat-openbsd curl tcpdump haproxy squid unbound
  iperf3 bind9-dnsutils ifupdown libpam-systemd network-manager
)

BASE_MASKED=(
  # These would act on the machine's own devices, or open what the kernel has only once.
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
  proc-sys-fs-binfmt_misc.automount dev-hugepages.mount modprobe@.service
  # These only make noise, or want a network beyond the lab.
  systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
  e2scrub_all.timer e2scrub_reap.service fstrim.timer logrotate.timer getty.target
)

preset_base() {  # before dpkg runs in $1: no fsync per file, no manuals
  mkdir -p "$1/etc/dpkg/dpkg.cfg.d"
  printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/man/*' \
    'path-exclude=/usr/share/locale/*' > "$1/etc/dpkg/dpkg.cfg.d/lab"
}

finish_base() {  # what is the same on every router; boot adds what is its own
  local root=$1 unit
  rm -rf "$root"/etc/ssh/ssh_host_* "$root"/etc/resolv.conf \
    "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  : > "$root/etc/machine-id"
  : > "$root/etc/fstab"
  printf '%s\n' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'PermitRootLogin prohibit-password' \
    'PasswordAuthentication no' 'UsePAM no' 'UseDNS no' 'MaxStartups 200' 'MaxSessions 200' \
    'Subsystem sftp internal-sftp' > "$root/etc/ssh/sshd_config"
  rm -f "$root"/etc/systemd/system/multi-user.target.wants/{cron,haproxy,squid,unbound}.service
  # Network managers: a test enables the one that it needs.
  rm -f "$root"/etc/systemd/system/multi-user.target.wants/{networking,NetworkManager,wpa_supplicant}.service \
    "$root"/etc/systemd/system/network-online.target.wants/{networking,NetworkManager-wait-online}.service
  for unit in "${BASE_MASKED[@]}"; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  keep_udev_to_interfaces "$root"
}

keep_udev_to_interfaces() {  # the kernel tells every network namespace of the machine's other devices, too
  local root=$1 trigger=$1/etc/systemd/system/systemd-udev-trigger.service.d
  find "$root/lib/udev/rules.d" -type f ! -name '*net*' ! -name 99-systemd.rules -delete
  mkdir -p "$trigger"
  printf '%s\n' '[Service]' 'ExecStart=' 'ExecStart=udevadm trigger --action=add --subsystem-match=net' > "$trigger/lab.conf"
}

base_recipe() {
  {
    echo "$BASE_SUITE" "${BASE_PACKAGES[@]}" "${BASE_MASKED[@]}"
    declare -f preset_base finish_base keep_udev_to_interfaces
  } | sha256sum | cut -d' ' -f1
}

base_is_current() {
  [[ -e $LAB_BASE/etc/lab-base && $(< "$LAB_BASE/etc/lab-base") == "$(base_recipe)" ]]
}

hold_base() {  # make the base if need be; the shared lock lasts as long as we or a child have file descriptor 9 open
  mkdir -p "$(dirname "$LAB_BASE")"
  exec 9>> "$LAB_BASE.lock"
  flock --nonblock --shared 9 || { say "base: another run makes it, waiting"; flock --shared 9; }
  until base_is_current; do
    flock --unlock 9
    if flock --wait 5 --exclusive 9; then
      base_is_current || make_base
    elif flock --nonblock --shared 9; then
      fail "$LAB_BASE was made by another recipe and routers still run on it: take their labs down first"
    else
      say "base: another run makes it, waiting"
    fi
    flock --shared 9
  done
}

make_base() {
  local new=$LAB_BASE.new log=$LAB_WORK/base.log mirror
  command -v debootstrap > /dev/null || fail "the base folder wants debootstrap (Debian: debootstrap) on PATH"
  mirror=$(find_mirror)
  say "base: Debian $BASE_SUITE from $mirror into $LAB_BASE, about a minute (log: $log)"
  rm -rf --one-file-system "$new"
  mkdir -p "$new" "$LAB_WORK/debs"
  # Own mount and pid namespaces: debootstrap's mounts and processes end with it, however it ends.
  unshare --mount --pid --mount-proc --fork --kill-child "$HERE/lab" _fill_base "$new" "$mirror" > "$log" 2>&1 &
  MAKER=$!
  trap 'drop_half_base "$LAB_BASE.new"' EXIT
  follow_base "$MAKER" "$log"
  wait "$MAKER" || fail "base: debootstrap failed, see $log; its last lines:"$'\n'"$(tail -n 5 "$log")"
  rm -rf --one-file-system "$LAB_BASE"
  mv -T "$new" "$LAB_BASE"
  trap - EXIT
  say "base: made in $SECONDS s"
}

fill_base() {  # the child of make_base
  local root=$1 mirror=$2 packages
  packages=$(IFS=,; echo "${BASE_PACKAGES[*]}")
  preset_base "$root"
  LC_ALL=C debootstrap --variant=minbase --force-check-gpg --cache-dir="$LAB_WORK/debs" --include="$packages" \
    "$BASE_SUITE" "$root" "$mirror" || { cat "$root/debootstrap/debootstrap.log"; return 1; }
  finish_base "$root"
  base_recipe > "$root/etc/lab-base"
}

follow_base() {  # a line every few seconds while process $1 runs: the newest one in its log
  local tick=0
  while sleep 0.5; kill -0 "$1" 2> /dev/null; do
    (( ++tick % 10 )) || say "base: $SECONDS s, $(grep -a '^I: ' "$2" | tail -n 1)"
  done
}

drop_half_base() {
  kill -KILL "$MAKER" 2> /dev/null || true
  wait "$MAKER" 2> /dev/null || true
  rm -rf --one-file-system "$1" || { sleep 1; rm -rf --one-file-system "$1"; }
}

find_mirror() {  # LAB_MIRROR, or the first of this machine's own apt sources that carries the suite, from Debian itself
  local uri
  [[ -z ${LAB_MIRROR:-} ]] || { echo "$LAB_MIRROR"; return; }
  # apt reads both forms of its sources; --print-uris lists what it would fetch and fetches nothing.
  for uri in $(apt-get update --print-uris | sed -nE "s,^'(https?://[^']*)/dists/[^']*/(In)?Release'.*,\1,p" | uniq); do
    if wget --quiet --timeout=10 --tries=2 -O - "$uri/dists/$BASE_SUITE/InRelease" |
      grep -x 'Origin: Debian' > /dev/null; then
      echo "$uri"
      return
    fi
  done
  fail "no apt source of this machine carries Debian $BASE_SUITE: set LAB_MIRROR to a mirror that does"
}
