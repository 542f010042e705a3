# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The trackers: our program on egress, beside the one on ingress where the policy tracks flows. Pure.

No operation asks for a tracker. It follows from the attachment on ingress and the policy of the interface: same kind of
hook, same priority and handle, same identity. So each way to the state of a router has the trackers right: attach,
router, restore, roll-back, watcher, absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..constants import FUNCTION, TRACKER, TRACKER_SOURCE
from ..errors import Unsupported
from ..model.policy import Policy
from ..program.blob import Attached, Blob
from .hooks import Hook


def tracker_of(attached: Attached) -> Attached:
    """Return the tracker that goes with a program."""
    return Attached(attached.name.replace(FUNCTION, TRACKER, 1))


def egress_of(hook: Hook) -> Hook:
    """Return the hook of the tracker that goes with a hook on ingress."""
    return hook._replace(direction="egress")


def is_tracker(hook: Hook, function: str) -> bool:
    """Return whether a hook of our own program is that of a tracker."""
    return function == FUNCTION and hook.direction == "egress"


def with_trackers(
    attachments: Mapping[Hook, Attached | None], policies: Mapping[int, Policy], standing: Iterable[Hook]
) -> dict[Hook, Attached | None]:
    """Return attachments with the trackers that go with them, and without those on `standing` hooks that do not.

    Trackers come first: an answer can come as soon as the program is in force.
    """
    wanted: dict[Hook, Attached | None] = {
        egress_of(hook): tracker_of(attached)
        for hook, attached in attachments.items()
        if attached is not None and _tracks(policies.get(hook.ifindex))
    }
    touched = {hook.ifindex for hook in attachments}
    gone: dict[Hook, Attached | None] = {hook: None for hook in standing if hook.ifindex in touched}
    return {**gone, **wanted, **attachments}


def _tracks(policy: Policy | None) -> bool:
    return policy is not None and policy.track != "none"


def needed(blob: Blob | None) -> Blob:
    """Return the blob of a program that must be loaded."""
    if blob is None:
        raise AssertionError("a plan with attachments has no program")
    return blob


def tracker_in(blob: Blob) -> Blob:
    """Return the tracker of a program. Raises Unsupported for one of an own source that has none."""
    if blob.tracker is None:
        raise Unsupported(
            f"policy.track: this program has no tracker; put {TRACKER_SOURCE} beside its source and build it again, or"
            " set track: none"
        )
    return replace(blob.tracker, source_sha256=blob.source_sha256, compiler=blob.compiler)
