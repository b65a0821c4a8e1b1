"""Choose who runs the server. Postgres refuses to be root; root hands it to an account that may do nothing else."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nightbatch.core.errors import ConfigurationError

_NOBODY = 65534  # where no account is called so
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group. ``switch`` is false where this process is that user already."""

    uid: int
    gid: int
    switch: bool

    @classmethod
    def of_this_process(cls) -> Account:
        """Return the account that this process runs as."""
        return cls(os.geteuid(), os.getegid(), switch=False)

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with its output captured."""
        return subprocess.run(
            command, cwd="/", env=_ENVIRONMENT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            user=self.uid if self.switch else None, group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )  # fmt: skip

    def popen(
        self, command: Sequence[str | Path], *, stdout: IO[bytes], preexec_fn: Callable[[], None] | None
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that a Ctrl-C meant for us does not reach it."""
        return subprocess.Popen(
            command, cwd="/", env=_ENVIRONMENT, stdout=stdout, stderr=stdout, stdin=subprocess.DEVNULL,
            user=self.uid if self.switch else None, group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None, start_new_session=True, preexec_fn=preexec_fn,
        )  # fmt: skip

    def make_dir(self, path: Path) -> None:
        """Make a folder that only this account (and root) can enter."""
        path.mkdir(mode=0o700)
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def write_secret(self, path: Path, text: str) -> None:
        """Write a file that only this account (and root) can read."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text)
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def let_through(self, bin_dir: Path, data_dir: Path) -> None:
        """Let this account reach the binaries and the data, if it is not us.

        A root whose files are closed to others (home folder, umask 077) would else get "Permission denied".
        """
        if self.switch:
            open_to_others(bin_dir.parent)
            _let_pass(data_dir.parents)


def account_for(data_dir: Path) -> Account:
    """Return the account for the server of a data folder: this user, or for root the folder's owner, or nobody."""
    if os.geteuid() != 0:
        return Account.of_this_process()
    if data_dir.exists() and (owner := data_dir.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, switch=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY, switch=True)
    return Account(nobody.pw_uid, nobody.pw_gid, switch=True)


def open_to_others(tree: Path) -> None:
    """Let others read a folder of programs and libraries, and run what its owner can run."""
    _let_pass(tree.parents)
    for path in [tree, *tree.rglob("*")]:
        mode = path.stat().st_mode
        _add(path, stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _let_pass(folders: Sequence[Path]) -> None:
    """Let others pass through folders; they still cannot list one that was closed to them."""
    for folder in folders:
        _add(folder, stat.S_IXOTH)


def _add(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        try:
            path.chmod(mode | bits)
        except OSError as error:
            raise ConfigurationError(
                f"The database server must not run as root, and its account cannot reach {path} ({error.strerror}): "
                "run as an ordinary user, or move the project to a folder that others may enter."
            ) from None
