# shellcheck shell=bash
# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The way in for ssh and Ansible from the machine's own namespace: a key of this lab, an ssh_config and an inventory.

make_key() {
  mkdir -p "$STATE"
  ssh-keygen -q -t ed25519 -N '' -C "lab $LAB_NAME" -f "$STATE/key"
}

write_ssh_config() {
  local router python
  # The system's own first: version managers put slow scripts of that name on PATH.
  python=$(command -v /usr/bin/python3 || command -v python3)
  for router in "$@"; do
    printf 'Host %s\n  HostName %s\n' "$router" "$(management_address "$router")"
  done
  cat <<END
Host *
  User root
  IdentityFile "$STATE/key"
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 5
  ServerAliveInterval 10
  ProxyUseFdpass yes
  ProxyCommand "$python" -IS "$HERE/nsdial.py" $LAB_NAME-ctl %h %p
END
}

write_hosts() {
  local router i
  for router in "$@"; do
    i=${router#r}
    cat <<END
    $router:
      ansible_host: $(management_address "$router")
      client_address: 10.$i.1.2
      client_address6: fd00:$i:1::2
      lan_address: 10.$i.1.1
      lan_address6: fd00:$i:1::1
      wan_address: 10.$i.2.1
      wan_address6: fd00:$i:2::1
      server_address: 10.$i.2.2
      server_address6: fd00:$i:2::2
END
  done
}

write_inventory() {
  local lab
  # All labs have the same addresses and Ansible names its shared connections by address: ours need names of their own.
  lab=$LAB_NAME-$(cksum < "$STATE/key.pub" | cut -d' ' -f1)
  write_ssh_config "$@" > "$STATE/ssh_config"
  cat > "$STATE/inventory.yml" <<END
# Written by tests/lab/lab up, removed by tests/lab/lab down.
routers:
  vars:
    ansible_user: root
    ansible_python_interpreter: /usr/bin/python3
    ansible_ssh_private_key_file: $STATE/key
    ansible_ssh_common_args: '-F "$STATE/ssh_config"'
    ansible_control_path: '%(directory)s/$lab-%%h'
    management_interface: mgmt0
    lan_interface: lan0
    wan_interface: wan0
    client_namespace: $LAB_NAME-cli
    server_namespace: $LAB_NAME-srv
  hosts:
$(write_hosts "$@")
END
}
