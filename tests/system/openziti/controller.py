# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an OpenZiti controller: logs in by password, and sends export.json in pages, as the edge management
API does. It listens on 127.0.0.1 without TLS, says on which port, and ends with its standard input.
"""

from __future__ import annotations

import http.server
import json
import pathlib
import sys
import threading
import urllib.parse

ROOT = "/edge/management/v1/"
EXPORT = json.loads(pathlib.Path(__file__).with_name("export.json").read_text(encoding="utf-8"))
USER = {"username": "reader", "password": "only for tests"}
TOKEN = "5d1f0c1e-test-token"
LIMIT, LIMIT_MAX = 10, 500


class Controller(http.server.BaseHTTPRequestHandler):
    """The few requests that a playbook makes."""

    def do_POST(self) -> None:
        """Log in."""
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"{ROOT}authenticate?method=password" or given != USER:
            self._answer(401, {"error": {"code": "INVALID_AUTH"}, "meta": {}})
        else:
            self._answer(200, {"data": {"token": TOKEN}, "meta": {}})

    def do_GET(self) -> None:
        """Send one page of a list."""
        asked = urllib.parse.urlsplit(self.path)
        options = dict(urllib.parse.parse_qsl(asked.query))
        kind = asked.path.removeprefix(ROOT)
        if self.headers["zt-session"] != TOKEN:
            self._answer(401, {"error": {"code": "UNAUTHORIZED"}, "meta": {}})
        elif kind not in EXPORT:
            self._answer(404, {"error": {"code": "NOT_FOUND"}, "meta": {}})
        else:
            self._answer(200, page(EXPORT[kind], int(options.get("limit", LIMIT)), int(options.get("offset", 0))))

    def _answer(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def page(entities: list, limit: int, offset: int) -> dict:
    """Return a part of a list as the API sends it."""
    limit = min(limit, LIMIT_MAX)
    pagination = {"limit": limit, "offset": offset, "totalCount": len(entities)}
    return {"data": entities[offset : offset + limit], "meta": {"filterableFields": [], "pagination": pagination}}


def main() -> None:
    """Serve until standard input ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Controller) as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
