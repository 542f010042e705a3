# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenZiti network of the scenarios: a controller beside the lab, a router under test and a router that hosts."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import yaml

from ansible_collections.netedge.tproxy.tests.system.openziti import guide, lab
from ansible_collections.netedge.tproxy.tests.system.openziti.clients import Client
from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import (
    ADDRESS,
    HOST,
    PORT,
    USER,
    Api,
    Refused,
)

HERE = pathlib.Path(__file__).parent
UNIT = "ziti-router"
DIVERTER = "tproxy:/usr/local/sbin/tproxy-splicer"
BUILT_IN = "tproxy"
HOSTS = f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n"


def configuration(management: str, **changes: str) -> str:
    """Return the configuration of a router: the guide's options of the tunneller, with changes."""
    text = (HERE / "router.yml").read_text(encoding="utf-8").replace("@MANAGEMENT@", management)
    config = yaml.safe_load(text)
    listener = guide.tunnel_listener()
    listener["options"] |= changes
    config["listeners"].append(listener)
    return yaml.safe_dump(config, sort_keys=False)


class EdgeRouter(lab.Router):
    """A router of the lab that runs OpenZiti's router, as its package does."""

    def install(self, binary: bytes) -> None:
        """Put executable, user and unit in place, as the package does; for the user's capabilities see the guide."""
        self.run("groupadd", "--system", "--force", "ziti-router")
        self.run("useradd", "--system", "--gid", "ziti-router", "--home-dir", "/var/lib/ziti-router", "ziti-router")
        self.put("/usr/bin/ziti", binary, "755")
        self.put("/etc/hosts", HOSTS)
        self.put(f"/etc/systemd/system/{UNIT}.service", (HERE / "ziti-router.service").read_bytes())
        self.run("install", "-d", f"/etc/systemd/system/{UNIT}.service.d")
        drop_in = guide.block("4. Configuration of the router", "ini")
        self.put(f"/etc/systemd/system/{UNIT}.service.d/override.conf", drop_in)
        self.run("install", "-d", "-o", "ziti-router", "-g", "ziti-router", "-m", "700", "/var/lib/ziti-router")

    def configure(self, **changes: str) -> None:
        """Write the router's configuration: the guide's options of the tunneller, with changes."""
        self.put("/var/lib/ziti-router/config.yml", configuration(self.management, **changes))
        self.run("chown", "ziti-router:ziti-router", "/var/lib/ziti-router/config.yml")

    def enrol(self, token: str) -> None:
        """Enrol once, and give all files to the router's user."""
        self.put("/var/lib/ziti-router/token", token, "600")
        self.shell("cd /var/lib/ziti-router && ziti router enroll config.yml --jwt token && rm token")
        self.shell("chown -R ziti-router:ziti-router /var/lib/ziti-router; chmod -R u=rwX,go= /var/lib/ziti-router")

    def start(self) -> None:
        """Read the unit again, and start the router anew, at boots too."""
        self.shell(f"systemctl daemon-reload; systemctl --quiet enable {UNIT}; systemctl restart {UNIT}")

    def control(self, word: str, limit: float = 200) -> float:
        """Start, stop or restart the unit; return the seconds."""
        start = time.monotonic()
        self.run("systemctl", word, UNIT, limit=limit)
        return time.monotonic() - start

    def kill(self) -> None:
        """End the router at once, as a crash does."""
        self.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT)

    def calls(self) -> list[str]:
        """Return the lines of its journal about the diverter."""
        journal = self.run("journalctl", "--quiet", "--output=cat", f"--unit={UNIT}")
        return [line for line in journal.splitlines() if "diverter" in line]


class Network:
    """The whole network. `r1` is under test, `r2` hosts."""

    def __init__(self) -> None:
        self.folder = lab.ROOT / ".work" / "openziti" / lab.NAME
        self.binary = pathlib.Path(os.environ["ZITI"])
        self.r1, self.r2 = EdgeRouter("r1"), EdgeRouter("r2")
        self.client = Client(self.r1.client)
        self.api: Api

    def up(self) -> None:
        """Boot the lab, run the role, start the controller and enrol both routers. A network that was kept is used."""
        lab.lab("up", "--routers", "2")
        kept = self._log_in()
        if kept:
            self.api = kept
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        content = self.binary.read_bytes()
        for command in guide.commands("1. User and group"):
            self.r1.shell(command)
        for router in (self.r1, self.r2):
            router.install(content)
        self.role()
        lab.lab("server", "ip", "route", "add", "local", "172.17.0.0/16", "dev", "lo")  # services of create_many
        self._spawn("srv", "hosted.log", "python3", HERE / "hosted.py", self.r2.server, self.r1.server)
        lab.eventually(lambda: "ready" in (self.folder / "hosted.log").read_text(encoding="utf-8"))
        self.start_controller()
        self.api = lab.eventually(self._log_in)
        self.api.let_all_meet()
        self.r1.configure()
        self.r2.configure(mode="host")
        for router in (self.r1, self.r2):
            router.enrol(self.api.edge_router(router.name))
        for kind, router in (("Dial", self.r1), ("Bind", self.r2)):
            self.api.policy(f"lab-{kind}", kind, [self.api.id_of("identities", router.name)], "lab")
        for router in (self.r1, self.r2):
            router.start()
        lab.eventually(self.all_online)

    def role(self, limit: str = "r1", **variables: object) -> str:
        """Run the guide's playbook, with changes. The lab's routers have the packages and no way to get others."""
        path = self.folder / "site.yml"
        path.write_text(guide.block("2. Role", "yaml"), encoding="utf-8")
        given = {"tproxy_splicer_packages": False, "tproxy_splicer_purge": True, **variables}
        return lab.play(path, "--limit", limit, "-e", json.dumps(given))

    def down(self) -> None:
        """End all processes in the namespaces of the lab, the controller too."""
        lab.lab("down")

    def start_controller(self, part: str = "ctl") -> None:
        """Start the controller. Its certificate holds for a name, not for an address, so it gets a file of hosts."""
        words = ["run", "quickstart", "--home", self.folder / "controller", "--no-router"]
        words += ["--ctrl-address", HOST, "--ctrl-port", PORT]
        self._spawn(part, "controller.log", *self._with_hosts(self.binary, *words))

    def beside_controller(self, *words: object) -> str:
        """Run a command of this machine where the controller has its name; return what it prints."""
        return lab.run(["nsenter", f"--net=/run/netns/{lab.NAME}-ctl", *self._with_hosts(*words)])

    def export(self, entities: str, form: str) -> str:
        """Return what `ziti ops export` writes of these entities. Its progress goes to standard error."""
        script = 'exec "$0" "$@" 2> /dev/null'
        words = ["ops", "export", entities, "--output-format", form, "--controller-url", f"https://{HOST}:{PORT}"]
        words += ["-u", USER["username"], "-p", USER["password"], "--ca", self.certificate, "--yes", "--ignore-config"]
        return self.beside_controller("env", f"HOME={self.folder}", "sh", "-c", script, self.binary, *words)

    @property
    def certificate(self) -> pathlib.Path:
        """Return the certificate of the controller's authority."""
        return self.folder / "controller" / "pki" / "root-ca" / "certs" / "root-ca.cert"

    def _with_hosts(self, *words: object) -> list[object]:
        """Return a command that runs with a file of hosts of its own."""
        hosts = self.folder / "hosts"
        hosts.write_text(HOSTS, encoding="utf-8")
        return ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$0" "$@"', *words]

    def restart_controller(self, part: str = "ctl") -> None:
        """End the controller as systemd would, and start it on the same files, beside a router if `part` is one."""
        for pid in self._controllers():
            os.kill(pid, signal.SIGTERM)
        lab.eventually(lambda: not self._controllers())
        address = self.r1.management if part == "r1" else ADDRESS
        for router in (self.r1, self.r2):
            router.put("/etc/hosts", HOSTS.replace(ADDRESS, address))
        self.start_controller(part)
        self.api = lab.eventually(lambda: self._log_in(address))
        lab.eventually(self.all_online)

    def _controllers(self) -> list[int]:
        """Return the processes of the controller, wherever they run."""
        words = [b"quickstart", str(self.folder / "controller").encode()]
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if set(words) <= set(entry.read_bytes().split(b"\0")):
                    found.append(int(entry.parent.name))
        return found

    def _spawn(self, part: str, log: str, *words: object) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            command = ["nsenter", f"--net=/run/netns/{lab.NAME}-{part}", *map(str, words)]
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _log_in(self, address: str = ADDRESS) -> Api | None:
        try:
            return Api(address)
        except (OSError, Refused, json.JSONDecodeError):
            return None

    def all_online(self) -> bool:
        """Return whether the controller sees all routers."""
        return all(router["isOnline"] for router in self.api.all("edge-routers"))
