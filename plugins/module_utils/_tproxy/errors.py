# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Errors, one class for each party that must act.

All packages raise them, and only the front ends translate them. A message names the request, the finding and the
remedy. `details` holds long texts by name (e.g. {"log": ...}).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import errorcode
from typing import Any

Details = dict[str, Any]

LOG_LINES = 12


def _with_log(message: str, details: Details) -> str:
    """Return the message with the last lines of the log in `details`, because some callers print the message alone."""
    lines: list[str] = details.get("log", "").strip().splitlines()[-LOG_LINES:]
    return "\n".join([message + ":", *lines]) if lines else message


class TproxyError(Exception):
    """Base of every error that this collection raises on purpose."""

    def __init__(self, message: str, details: Details | None = None):
        super().__init__(message)
        self.message = message
        self.details = details or {}


class InvalidInput(TproxyError):
    """The user must correct the input. Raised before any change, with every fault of that input at once."""

    def __init__(self, faults: Iterable[str], details: Details | None = None):
        self.faults = list(faults)
        count = f"{len(self.faults)} faults: " if len(self.faults) > 1 else ""
        super().__init__(count + "; ".join(self.faults), details)


class MissingLibrary(TproxyError):
    """The host's administrator must install a library. Raised by the adapter that needs it."""

    def __init__(self, library: str, remedy: str, details: Details | None = None):
        self.library = library
        super().__init__(f"{library} is not installed: {remedy}", details)


class Unsupported(TproxyError):
    """The host cannot do it (kernel, architecture, tool): choose another host, kernel or option."""


class NotMounted(TproxyError):
    """The host's administrator must mount a bpffs, or the user must name a folder inside one."""


class LayoutMismatch(TproxyError):
    """The operator must recreate or upgrade: a release with another layout made the pins."""


class Conflict(TproxyError):
    """A foreign object is in the place of ours: its owner must remove it, or the user must choose another place."""


class LimitExceeded(TproxyError):
    """The user must want less, or a release with larger limits. Raised before anything changes."""

    def __init__(self, what: str, wanted: int, allowed: int, advice: str = ""):
        self.wanted, self.allowed = wanted, allowed
        super().__init__(f"{what}: {wanted} wanted, at most {allowed} fit" + (f"; {advice}" if advice else ""))


class KernelRefused(TproxyError):
    """The kernel said no: the operator must look at the errno (rights, memory, a race with another writer)."""

    def __init__(self, errno: int, operation: str, subject: str, details: Details | None = None):
        self.errno, self.operation, self.subject = errno, operation, subject
        name = errorcode.get(errno, f"errno {errno}")
        super().__init__(_with_log(f"the kernel refused to {operation} {subject}: {name}", details or {}), details)

    @classmethod
    def of(cls, refusal: OSError, operation: str, subject: str, details: dict[str, str] | None = None) -> KernelRefused:
        """Return the error for a refused system call."""
        return cls(refusal.errno or 0, operation, subject, details)


@contextmanager
def kernel_refusals(operation: str, subject: str) -> Iterator[None]:
    """Raise KernelRefused for an OSError of the block."""
    try:
        yield
    except OSError as refusal:
        raise KernelRefused.of(refusal, operation, subject) from refusal


class CompileFailed(TproxyError):
    """The author of the C source must act; the compiler's words are in details["log"]."""

    def __init__(self, message: str, log: str = ""):
        super().__init__(_with_log(message, {"log": log}), {"log": log})


class VerificationFailed(TproxyError):
    """A result differs from the request when it is read back: a bug, damage, or another writer. Report it."""


class Unconfirmed(TproxyError):
    """An operator must confirm a change or roll it back first, or it is too late to confirm it."""


class ChangePending(Unconfirmed):
    """The change of another run waits for confirmation: wait for its end, and run again."""


class Busy(TproxyError):
    """Another run holds the lock: wait, and run again."""


class Refused(TproxyError):
    """Preflight found a reason against the change: the operator must remove it, or insist by `force`.

    Raised before any change, with all findings; details["findings"] has them.
    """

    def __init__(self, findings: Sequence[Any], sentences: Iterable[str]):
        end = ". Nothing was changed; `force: true` does it all the same"
        super().__init__("; ".join(sentences) + end, {"findings": findings})
