# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel tests remove only the pin folder that they made."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.tests.support.pin_folder import NotOurs, PinFolder


@pytest.fixture
def folder(tmp_path):
    return PinFolder(str(tmp_path))


@pytest.fixture
def other(tmp_path):
    """Return a folder with a file, which the fixture `folder` did not make."""
    made = tmp_path / "other"
    made.mkdir()
    (made / "file").touch()
    return made


def test_the_own_folder_is_removed_with_everything_in_it(folder):
    os.makedirs(f"{folder.path}/pins/v1")
    os.symlink("/", f"{folder.path}/link")
    folder.remove()
    assert not os.path.exists(folder.path)
    assert os.listdir("/")


def test_a_cleared_folder_stays(folder):
    os.makedirs(f"{folder.path}/pins/v1")
    folder.clear()
    assert os.listdir(folder.path) == []


def test_a_folder_that_has_gone_needs_no_removal(folder):
    os.rmdir(folder.path)
    folder.clear()
    folder.remove()


@pytest.mark.parametrize("way", ["clear", "remove"])
def test_another_path_is_refused(folder, other, way):
    folder.path = str(other)
    with pytest.raises(NotOurs, match=f"{other} is not the folder that this test made; nothing was removed"):
        getattr(folder, way)()
    assert os.listdir(other) == ["file"]


@pytest.mark.parametrize("way", ["clear", "remove"])
def test_another_folder_at_the_same_path_is_refused(folder, other, way):
    os.rmdir(folder.path)
    os.mkdir(folder.path)
    (other / "file").rename(f"{folder.path}/file")
    with pytest.raises(NotOurs):
        getattr(folder, way)()
    assert os.listdir(folder.path) == ["file"]


def test_a_link_to_another_folder_is_refused(folder, other):
    os.rmdir(folder.path)
    os.symlink(other, folder.path)
    with pytest.raises(NotOurs):
        folder.remove()
    assert os.listdir(other) == ["file"]
