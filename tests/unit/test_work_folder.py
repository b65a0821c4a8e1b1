"""Input files hold prompts: nobody else on the machine reads them, or puts others in their place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nightbatch.batches.input_file import private_folder
from nightbatch.core.errors import ConfigurationError


@pytest.mark.fault(73)
def test_a_new_folder_is_the_users_own(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "new" / "work")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert private_folder(made) == made, "and used from then on"


@pytest.mark.fault(73)
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777])
def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(mode)
    with pytest.raises(ConfigurationError, match=r"chmod 700.*NIGHTBATCH_WORK_DIR"):
        private_folder(tmp_path / "work")


@pytest.mark.fault(73)
def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        private_folder(tmp_path / "work")


@pytest.mark.fault(73)
def test_a_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "work").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="is a link"):
        private_folder(tmp_path / "work")


@pytest.mark.fault(73)
def test_a_folder_that_others_may_rename_is_refused(tmp_path: Path) -> None:
    above = tmp_path / "shared"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may rename it"):
        private_folder(above / "work")
    above.chmod(0o1777)  # as /tmp is
    private_folder(above / "work")
