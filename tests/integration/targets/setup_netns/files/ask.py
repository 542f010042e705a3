# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask hosts, all at once, and compare: ask.py tcp/172.16.1.1/80=proxy:5001 udp/fd00:9::1/53=silence ...

An answer is one of sockets.py: who answered, and the address that it believes to have been asked, which must be the one
that was. Where silence is awaited it waits but a moment. Fails with every answer that was another one.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
SILENCE = "silence"
PATIENCE, MOMENT = 10.0, 0.6


def answer(question: str, seconds: float) -> str:
    """Return the reply, without its destination if that is the requested one."""
    protocol, host, port = question.split("/")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, KINDS[protocol]) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((host, int(port)))
            if protocol == "udp":
                sock.send(b"?")
            return sock.recv(256).decode().replace(f" for {host}/{port}", "")
        except TimeoutError:
            return SILENCE
        except OSError as refusal:
            return str(refusal)


def main() -> None:
    """Ask, and compare."""
    awaited = dict(argument.split("=") for argument in sys.argv[1:])
    waits = [MOMENT if wanted == SILENCE else PATIENCE for wanted in awaited.values()]
    with ThreadPoolExecutor(len(awaited)) as pool:
        answers = dict(zip(awaited, pool.map(answer, awaited, waits)))
    wrong = [f"{question}: {answers[question]}, not {awaited[question]}" for question in awaited]
    sys.exit("\n".join(text for question, text in zip(awaited, wrong) if answers[question] != awaited[question]) or 0)


if __name__ == "__main__":
    main()
