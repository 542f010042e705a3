# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The management API of the controller: services, configurations, policies, edge routers."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable
from typing import Any

from ansible_collections.netedge.tproxy.tests.system.openziti import lab

HOST, ADDRESS, PORT = "ctl.lab", "10.99.0.1", 1280
USER = {"username": "admin", "password": "admin"}
PAGE = 500
NO_LEADER = "CLUSTER_NO_LEADER"  # the code of the answer (503)


class Refused(AssertionError):
    """The controller refused a request."""


class _Connection(http.client.HTTPSConnection):
    """A connection that begins in the management namespace of the lab."""

    address = ADDRESS

    def connect(self) -> None:
        plain = lab.socket_in("ctl")
        plain.settimeout(60)
        plain.connect((self.address, PORT))
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]


class Api:
    """A session of the administrator."""

    def __init__(self, address: str = ADDRESS) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False  # the certificates of a controller that is seconds old
        context.verify_mode = ssl.CERT_NONE
        self._connection = _Connection(HOST, PORT, context=context)
        self._connection.address = address
        self._token = ""
        self._types: dict[str, str] = {}
        self._token = self.call("POST", "authenticate?method=password", USER)["data"]["token"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send one request and return its answer. It waits for a restarted controller, which first elects a leader."""
        status, data = lab.eventually(lambda: self._answer(method, path, body))
        if status >= 300:
            raise Refused(f"{method} {path}: {status} {data[:600]}")
        return json.loads(data or "{}")

    def _answer(self, method: str, path: str, body: object) -> tuple[int, str] | None:
        """Send one request. Return status and text of the answer, or None from a controller that has no leader."""
        headers = {"Content-Type": "application/json", "zt-session": self._token}
        content = None if body is None else json.dumps(body)
        for last in (False, True):
            try:
                self._connection.request(method, f"/edge/management/v1/{path}", content, headers)
                answer = self._connection.getresponse()
                data = answer.read().decode()
                break
            except (http.client.HTTPException, OSError):
                self._connection.close()  # the controller has closed an idle connection, or was restarted
                if last:
                    raise
        return None if NO_LEADER in data else (answer.status, data)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return all entities of a kind, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.call("GET", f"{kind}?limit={PAGE}&offset={len(found)}")
            found += answer["data"]
            if not answer["data"] or len(found) >= answer["meta"]["pagination"]["totalCount"]:
                return found

    def id_of(self, kind: str, name: str) -> str:
        """Return the id of an entity."""
        return next(one["id"] for one in self.all(kind) if one["name"] == name)

    def create(self, kind: str, body: dict[str, Any]) -> str:
        """Make an entity and return its id."""
        return self.call("POST", kind, body)["data"]["id"]

    def delete(self, kind: str, identifier: str) -> None:
        """Remove an entity."""
        self.call("DELETE", f"{kind}/{identifier}")

    def config(self, name: str, kind: str, data: dict[str, Any]) -> str:
        """Make a configuration of a type and return its id."""
        if not self._types:
            self._types = {one["name"]: one["id"] for one in self.all("config-types")}
        return self.create("configs", {"name": name, "configTypeId": self._types[kind], "data": data})

    def policy(self, name: str, kind: str, identities: Iterable[str], attribute: str) -> str:
        """Let identities dial or bind (`kind`) the services of an attribute."""
        roles = [f"@{identifier}" for identifier in identities]
        body = {"name": name, "type": kind, "semantic": "AnyOf", "identityRoles": roles}
        return self.create("service-policies", body | {"serviceRoles": [f"#{attribute}"]})

    def edge_router(self, name: str) -> str:
        """Make an edge router with a tunneller and return its one-time token."""
        made = self.create("edge-routers", {"name": name, "isTunnelerEnabled": True, "roleAttributes": ["edge"]})
        return self.call("GET", f"edge-routers/{made}")["data"]["enrollmentJwt"]

    def let_all_meet(self) -> None:
        """Let all identities use all routers for all services."""
        roles = {"edgeRouterRoles": ["#all"], "semantic": "AnyOf"}
        self.create("edge-router-policies", {"name": "all", "identityRoles": ["#all"], **roles})
        self.create("service-edge-router-policies", {"name": "all", "serviceRoles": ["#all"], **roles})
