"""Write the settings file and the environment file: both whole, and neither over another file."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError
from ometria_replica.permissions import PRIVATE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHARED_FILE = 0o666  # Less the umask: it holds no secret.


@dataclass(frozen=True)
class Files:
    """The *settings* file, and the *environment* file with the secrets that it refers to."""

    settings: Path
    environment: Path

    def refuse_same(self) -> None:
        """Raise ConfigError if both are one file."""
        if self.settings.resolve() == self.environment.resolve():
            raise ConfigError("--config and --env-file name the same file. Give each its own.")

    def refuse_existing(self) -> None:
        """Raise ConfigError if one of the files is there: none is ever overwritten."""
        problems = []
        if _is_there(self.settings):
            problems.append(
                f"{self.settings} exists, and is not overwritten. To add another account to it:"
                " ometria-replica init --add-account. To begin anew, rename it, or name another"
                " file with --config."
            )
        if _is_there(self.environment):
            problems.append(
                f"{self.environment} exists, and is not overwritten, since it may hold secrets."
                " Rename it, or name another file with --env-file."
            )
        problems += [
            f"{path}: the folder does not exist, or cannot be written."
            for path in (self.settings, self.environment)
            if not os.access(path.parent, os.W_OK | os.X_OK)
        ]
        if problems:
            raise ConfigError(dict.fromkeys(problems))

    def create(self, settings: str, environment: str | None) -> None:
        """
        Write both files, the second one for its owner alone; None writes none.

        Raises ConfigError if one of them has appeared meanwhile: then neither is written.
        """
        if environment is not None:
            _create(self.environment, environment, PRIVATE_FILE)
        try:
            _create(self.settings, settings, _SHARED_FILE)
        except BaseException:
            if environment is not None:
                self.environment.unlink(missing_ok=True)
            raise

    def change(self, before: str, settings: str, environment: str | None) -> None:
        """
        Replace the settings file, whose text was *before*, and the environment file, or neither.

        The environment file comes first: if the program is killed then, a variable that nothing
        refers to does no harm. Raises ConfigError if the settings file has changed meanwhile.
        """
        with _locked(self.settings):
            if read(self.settings) != before:
                raise ConfigError(
                    f"{self.settings} has changed meanwhile, and was left as it is. Run again."
                )
            self._change(settings, environment)

    def _change(self, settings: str, environment: str | None) -> None:
        mode = stat.S_IMODE(self.settings.stat().st_mode)
        if environment is None:
            _replace(self.settings, settings, mode)
            return
        kept = read(self.environment) if _is_there(self.environment) else None
        try:
            _replace(self.environment, environment, PRIVATE_FILE)
            _replace(self.settings, settings, mode)
        except BaseException:
            if kept is None:
                self.environment.unlink(missing_ok=True)
            else:
                _replace(self.environment, kept, PRIVATE_FILE)
            raise


def read(path: Path) -> str:
    """Read a file; a file that is not there is empty. Raises ConfigError for one of no text."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the file must be UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """
    Keep other runs from replacing a file; not on Windows, which has no such locks.

    One that waited has the lock of the file that was replaced, and finds another text.
    """
    with path.open("rb") as file:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 -- Windows has no such module.

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_there(path: Path) -> bool:
    """Whether a file, or a link that leads nowhere, has the name."""
    return path.is_symlink() or path.exists()


def _create(path: Path, text: str, mode: int) -> None:
    """Give a complete file its name in one step, which fails if another file has that name."""
    try:
        written = _write_beside(path, text, mode)
        try:
            _name(written, path)
        finally:
            written.unlink(missing_ok=True)
    except FileExistsError:
        raise ConfigError(
            f"{path} has appeared meanwhile, and was left as it is. Nothing was written."
        ) from None
    except OSError as error:
        raise _refused(path, error) from None


def _name(written: Path, path: Path) -> None:
    try:
        os.link(written, path)
    except FileExistsError:
        raise
    except OSError:  # A file system without hard links.
        if _is_there(path):
            raise FileExistsError from None
        written.replace(path)


def _replace(path: Path, text: str, mode: int) -> None:
    place = path.resolve()  # A link stays a link.
    try:
        written = _write_beside(place, text, mode)
        try:
            written.chmod(mode)
            written.replace(place)
        except BaseException:
            with suppress(OSError):
                written.unlink()
            raise
    except OSError as error:
        raise _refused(path, error) from None


def _write_beside(path: Path, text: str, mode: int) -> Path:
    """Write a new file in the folder of *path*, under another name, and to the disk."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    return beside


def _refused(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {error.strerror}. Nothing was written.")
