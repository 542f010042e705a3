# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The trackers: our program on egress, beside the one on ingress where the policy tracks flows.

No operation asks for a tracker. It follows from the attachment on ingress and the policy of the interface: same kind of
hook, same priority and handle, same identity. So each way to the state of a router has the trackers right: attach,
router, restore, roll-back, watcher, absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..constants import FUNCTION, TRACKER, TRACKER_SOURCE
from ..errors import Conflict, TproxyError, Unsupported
from ..model.policy import Policy
from ..program.blob import Attached, Blob
from ..system.system import Netlink
from .attachments import Obstacle, point_at
from .current_state import CurrentState
from .hooks import Hook
from .programs import Programs


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
        if attached is not None and tracks(policies.get(hook.ifindex))
    }
    touched = {hook.ifindex for hook in attachments}
    gone: dict[Hook, Attached | None] = {hook: None for hook in standing if hook.ifindex in touched}
    return {**gone, **wanted, **attachments}


def tracks(policy: Policy | None) -> bool:
    """Return whether a policy asks for a tracker."""
    return policy is not None and policy.track != "none"


def obstacle_to_tracker(current: CurrentState, hook: Hook, blob: Blob | None) -> Obstacle | None:
    """Return the reason why the program on a hook of ingress can have no tracker, or None.

    `blob` is the program's, None for that of the pinned one. If the interface has had a tracker, a foreign filter in
    its place is drift, and no obstacle.
    """
    blob, had = blob or current.blob, tracks(current.policies.entries.get(hook.ifindex))
    if blob is not None and blob.tracker is None:
        return Obstacle("this program has no tracker", f"put {TRACKER_SOURCE} beside its source, and build it again")
    return point_at(current.netlink, current.programs, egress_of(hook), TRACKER).obstacle(had)


def untracked(netlink: Netlink, programs: Programs, hook: Hook, policy: Policy | None) -> Obstacle | None:
    """Return the foreign object that keeps a tracker from a closed interface without one, or None."""
    if policy is None or policy.default_action == "pass" or tracks(policy):
        return None
    return point_at(netlink, programs, egress_of(hook), TRACKER).obstacle()


def refusal(obstacle: Obstacle, interface: str, track: str, blob: Blob | None) -> TproxyError:
    """Return the error for a tracker that a policy asks for and that cannot be had."""
    kind = Unsupported if blob is not None and blob.tracker is None else Conflict
    return kind(
        f"policy.track: {track} of {interface} needs our tracker on its egress hook, and {obstacle.found}: nothing was"
        f" changed; {obstacle.remedy}, or set track: none"
    )


def needed(blob: Blob | None) -> Blob:
    """Return the blob of a program that must be loaded."""
    if blob is None:
        raise AssertionError("a plan with attachments has no program")
    return blob


def tracker_in(blob: Blob) -> Blob:
    """Return the tracker of a program that has one."""
    if blob.tracker is None:
        raise AssertionError("a plan with a tracker has a program without one")
    return blob.in_this_build(blob.tracker)
