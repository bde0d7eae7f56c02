"""
Walks through the tutorials as their readers do, in a terminal, and writes what they see.

    python scripts/walk.py docs/tutorial/analyst.md

A tutorial is a page whose blocks of the shell are run one after another, in one terminal of tmux,
in a fresh clone of this repository:

- A block of ``shell`` after ``<!-- walk -->`` is typed line by line, and each line must end with
  exit code 0, or with that of ``<!-- walk: exit 6 -->``.
- A block of ``text`` that follows is replaced by what the terminal shows.
- A picture that follows is drawn from the terminal, with its colours; one of a page of HTML, named
  by ``<!-- page: report.html -->`` before it, by Chromium.
- A comment ``<!-- asked`` after the block holds a line for each question, ``words => answer``: when
  the terminal shows the words, the answer is typed, and Enter. An answer in braces, as
  ``{Down}``, is a key. ``$NAME`` in an answer is the content of ``NAME`` in the shell.

Needed: tmux, and Chromium for pictures of HTML.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 100, 50
SHOWN_AS = "/home/you/ometria-replica"
MOST_SECONDS = 600
BLOCK = re.compile(
    r"<!-- walk(?::(?P<options>[^\n]*?))? -->\n"
    r"```shell\n(?P<commands>.*?)```\n"
    r"(?:\n<!-- asked\n(?P<asked>.*?)-->\n)?"
    r"(?:\n```text\n(?P<text>.*?)```\n)?"
    r"(?:\n!\[(?P<words>[^\]]*)\]\((?P<picture>[^)]+\.svg)\)\n)?",
    re.DOTALL,
)
PAGE = re.compile(r"<!-- page: (?P<file>\S+) -->\n!\[[^\]]*\]\((?P<picture>[^)]+\.png)\)")


@dataclass
class Terminal:
    """A terminal of tmux in which a shell runs, in *folder*."""

    folder: Path
    path: str
    socket: str

    def open(self) -> None:
        """Start the shell. It tells each exit code when it asks for the next command."""
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMETRIA_", "AWS_", "PYTHON", "TMUX"))
        }
        env |= {"PATH": self.path, "PS1": "$ ", "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        tell = f'echo $? >>"{self._codes}"; tmux -L {self.socket} wait-for -S asks'
        self._tmux(
            *("new-session", "-d", "-s", "walk", "-x", str(WIDTH), "-y", str(HEIGHT)),
            *("-c", str(self.folder), "bash", "--norc", "--noprofile"),
            env={**env, "PROMPT_COMMAND": tell},
        )
        self._tmux("set-option", "-g", "status", "off")
        self._wait("")

    def run(self, command: str, asked: list[tuple[str, str]]) -> int:
        """Type a command, answer what it asks, and return its exit code."""
        before = len(self._codes.read_text().split())
        self._type(command)
        for words, answer in asked:
            self._until(words)
            self._answer(answer)
        self._wait(command)
        codes = self._codes.read_text().split()
        return int(codes[before])

    def clear(self) -> None:
        """Forget what the terminal shows."""
        self.run("clear", [])
        time.sleep(0.3)  # The prompt comes first.
        self._tmux("clear-history", "-t", "walk")

    def shown(self, *, coloured: bool = False) -> str:
        """Give what the terminal shows, without the empty lines and the last prompt."""
        how = "-e" if coloured else "-J"  # With colours for a picture, else each line in one.
        text = self._tmux("capture-pane", "-p", "-S", "-", how, "-t", "walk")
        lines = text.rstrip().splitlines()
        if lines and lines[-1].rstrip().endswith("$"):
            lines.pop()
        return "\n".join(line.rstrip() for line in lines).replace(str(self.folder), SHOWN_AS)

    def close(self) -> None:
        """End the shell, and all that it has started."""
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False, capture_output=True)

    @property
    def _codes(self) -> Path:
        return self.folder.parent / "codes"

    def _type(self, line: str) -> None:
        self._tmux("send-keys", "-t", "walk", "-l", line)
        self._tmux("send-keys", "-t", "walk", "Enter")

    def _answer(self, answer: str) -> None:
        for key in re.findall(r"\{(\w+)\}|([^{}]+)", answer):
            named, typed = key
            if named:
                self._tmux("send-keys", "-t", "walk", named)
            elif typed.startswith("$"):
                value = (self.folder / ".walk" / typed[1:]).read_text().strip()
                self._tmux("send-keys", "-t", "walk", "-l", value)
            else:
                self._tmux("send-keys", "-t", "walk", "-l", typed)
        self._tmux("send-keys", "-t", "walk", "Enter")

    def _until(self, words: str) -> None:
        ends = time.monotonic() + MOST_SECONDS
        while words not in self.shown():
            if time.monotonic() > ends:
                raise SystemExit(f"{words!r} was not asked:\n{self.shown()}")
            time.sleep(0.1)
        time.sleep(0.3)

    def _wait(self, command: str) -> None:
        try:
            self._tmux("wait-for", "asks", timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{command!r} does not end:\n{self.shown()}") from None

    def _tmux(self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 30) -> str:
        command = ["tmux", "-L", self.socket, "-f", os.devnull, *arguments]
        ended = subprocess.run(
            command, env=env, check=True, capture_output=True, text=True, timeout=timeout
        )
        return ended.stdout


def walk(page: Path, folder: Path, path: str) -> str:
    """Run the blocks of *page* in *folder*, and return the page with what was seen."""
    terminal = Terminal(folder, path, f"walk-{os.getpid()}")
    terminal.open()
    try:

        def seen(found: re.Match[str]) -> str:
            return _walk_block(found, terminal, page)

        text = BLOCK.sub(seen, page.read_text(encoding="utf-8"))
    finally:
        terminal.close()
    for found in PAGE.finditer(text):
        _draw_page(folder / found["file"], page.parent / found["picture"])
    return text


def _walk_block(found: re.Match[str], terminal: Terminal, page: Path) -> str:
    expected = int(found["options"].split()[-1]) if found["options"] else 0
    asked = [
        (words.strip(), answer.strip())
        for line in (found["asked"] or "").splitlines()
        for words, _, answer in [line.partition("=>")]
    ]
    terminal.clear()
    commands = re.sub(r"\\\n\s*", "", found["commands"]).splitlines()
    for number, command in enumerate(commands, 1):
        is_last = number == len(commands)
        print(f"$ {command}", flush=True)
        code = terminal.run(command, asked if is_last else [])
        if code != (expected if is_last else 0):
            raise SystemExit(f"{page.name}: {command!r} ended with {code}:\n{terminal.shown()}")
    block = found[0]
    if found["picture"]:
        draw_terminal(terminal.shown(coloured=True), page.parent / found["picture"])
    if found["text"] is not None:
        start, end = (at - found.start() for at in found.span("text"))
        block = f"{block[:start]}{_without_commands(terminal.shown(), commands)}\n{block[end:]}"
    return block


def _without_commands(shown: str, commands: list[str]) -> str:
    """Leave out what was typed, which stands in the block above."""
    typed = tuple(f"$ {command}" for command in [*commands, "clear"])
    kept = [line for line in shown.splitlines() if not line.endswith(typed)]
    return "\n".join(kept).strip("\n")


def draw_terminal(shown: str, picture: Path) -> None:
    """Draw the text, with its colours, as an SVG."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    for line in AnsiDecoder().decode(shown):
        console.print(line, soft_wrap=True)
    picture.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="ometria-replica", unique_id=picture.stem)
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)  # Fonts from elsewhere.
    picture.write_text(svg, encoding="utf-8")


def _draw_page(page: Path, picture: Path) -> None:
    """Let Chromium draw a page of HTML."""
    picture.parent.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--hide-scrollbars"),
            *("--window-size=1200,1500", f"--screenshot={picture}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


def main() -> None:
    """Walk through the pages that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__.strip().partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("pages", nargs="+", type=Path)
    pages = [page.resolve() for page in parser.parse_args().pages]
    for page in pages:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "ometria-replica"
            subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
            text = walk(page, folder, os.environ["PATH"])
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
