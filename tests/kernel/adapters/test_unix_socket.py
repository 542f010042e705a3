# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unix socket adapter with real sockets: a slow client blocks no other client, and a hostile one is refused."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import unix_socket

SILENT = 50


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture
def queue(path, monkeypatch):
    """Return a queue without late clients, even on a slow machine."""
    monkeypatch.setattr(unix_socket, "REQUEST_SECONDS", 600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(4 * unix_socket.CLIENTS_MAX)
        listening.setblocking(False)
        yield unix_socket.Queue(listening)


@pytest.fixture
def connect(path):
    """Return a function that connects a client and sends its data. The client disconnects after the test."""
    opened = []

    def connected(data: bytes = b"", is_all: bool = False) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        opened.append(client)
        client.connect(path)
        client.send(data)
        if is_all:
            client.shutdown(socket.SHUT_WR)
        return client

    yield connected
    for client in opened:
        client.close()


def test_a_request_has_its_user_and_is_answered(queue, connect):
    client = connect(b"-I\0-c", is_all=True)
    request = queue.next(60)
    assert (request.data, request.user) == (b"-I\0-c", os.getuid())
    request.answer("0 done\n")
    assert client.makefile().read() == "0 done\n"


def test_silent_clients_block_no_other_client(queue, connect):
    for _client in range(SILENT):
        connect(b"-I")
    connect(b"good", is_all=True)
    assert queue.next(60).data == b"good"


def test_too_many_silent_clients_block_no_other_client(queue, connect):
    silent = [connect() for _client in range(unix_socket.CLIENTS_MAX + 9)]
    connect(b"good", is_all=True)
    assert queue.next(60).data == b"good"
    assert [silent[number].recv(1) for number in range(9)] == [b""] * 9
    silent[9].send(b"late")
    silent[9].shutdown(socket.SHUT_WR)
    assert queue.next(60).data == b"late"


def test_a_slow_client_is_refused_and_the_others_are_served_meanwhile(queue, connect, monkeypatch):
    monkeypatch.setattr(unix_socket, "REQUEST_SECONDS", 0.5)
    slow, served = connect(), 0
    request = None
    while request is None or request.data is not None:
        slow.send(b"x")
        connect(b"good", is_all=True)
        request = queue.next(60)
        served += request.data == b"good"
    assert served > 0


def test_the_whole_request_of_a_client_in_time_is_read(queue, connect):
    client = connect()
    for byte in b"slow":
        client.send(bytes([byte]))
        assert queue.next(0.01) is None
    client.shutdown(socket.SHUT_WR)
    assert queue.next(60).data == b"slow"


def test_a_request_that_is_too_long_is_refused_with_its_size(queue, connect):
    connect(b"x" * (unix_socket.REQUEST_BYTES + 1), is_all=True)
    request = queue.next(60)
    assert request.data is None
    assert request.refusal == "the request is too long: expected at most 4096 bytes, got 4097"
    connect(b"x" * unix_socket.REQUEST_BYTES, is_all=True)
    assert len(queue.next(60).data) == unix_socket.REQUEST_BYTES


@pytest.mark.parametrize("size", [5000, 1 << 20])
def test_a_client_whose_request_is_too_long_gets_the_answer(queue, path, size):
    def serve():
        request = queue.next(60)
        request.answer(f"2 {request.refusal}\n")

    served = threading.Thread(target=serve)
    served.start()
    answer = unix_socket.ask(path, ["-I", "x" * size], "")
    served.join()
    assert answer == (2, f"the request is too long: expected at most 4096 bytes, got {size + 3}")


def test_a_client_that_never_ends_its_request_is_refused(queue, path, monkeypatch):
    monkeypatch.setattr(unix_socket, "DROPPED_BYTES", 1 << 16)

    def serve():
        request = queue.next(60)
        request.answer(f"2 {request.refusal}\n")

    served = threading.Thread(target=serve)
    served.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                client.send(b"x" * 4096)
    served.join()
    assert queue._clients == {}


def test_disconnected_clients_leave_nothing(queue, connect):
    for _client in range(9):
        connect(b"-I").close()
    assert {queue.next(60).data for _client in range(9)} == {b"-I"}
    request = queue.next(0)
    assert request is None
    assert queue._clients == {}


def test_an_answer_to_a_disconnected_client_raises_nothing(queue, connect):
    client = connect(b"-I", is_all=True)
    request = queue.next(60)
    client.close()
    request.answer("0 done\n")


def test_a_client_in_python_gets_the_answer_of_perls_client(queue, path):
    served = threading.Thread(target=lambda: queue.next(60).answer("2 wrong\n"))
    served.start()
    assert unix_socket.ask(path, ["-I", "-c"], "") == (2, "wrong")
    served.join()


def test_a_client_without_a_server_gets_none(path):
    assert unix_socket.ask(path, ["-I"], "") is None


def test_a_self_test_ends_in_time_and_says_where_it_ended(path):
    assert unix_socket.reach(path, 60) == ("connect", errno.ENOENT, -1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        assert unix_socket.reach(path, 0.01) == ("answer", errno.ETIMEDOUT, os.stat(path).st_gid)
        listening.accept()[0].close()
        answering = threading.Thread(target=lambda: answer(listening.accept()[0]))
        answering.start()
        assert unix_socket.reach(path, 60)[0] == ""
        answering.join()
    assert unix_socket.reach(path, 60)[:2] == ("connect", errno.ECONNREFUSED)


def answer(client: socket.socket) -> None:
    """Read a request to its end and answer it."""
    with client:
        while client.recv(99):
            pass
        client.send(b"0 1\n")
