"""The command ``init``."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica import stopping
from ometria_replica.cli.logs import is_quiet, say_report
from ometria_replica.cli.options import (  # noqa: TC001 -- Typer reads the annotations.
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
)
from ometria_replica.cli.output import say
from ometria_replica.json_documents import document

if TYPE_CHECKING:
    from ometria_replica.init.prompts import Prompts

Text = str | None


def _answer(flag: str, metavar: str, text: str) -> object:
    return typer.Option(flag, metavar=metavar, show_default=False, help=text)


def init(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; what no option answers is default.")
    ] = False,
    key_file: Annotated[
        Text,
        _answer(
            "--key-file",
            "FILE",
            "File with the API key, - for standard input; default OMETRIA_API_KEY.",
        ),
    ] = None,
    account_id: Annotated[Text, _answer("--account-id", "NAME", "Name of the account.")] = None,
    source_id: Annotated[
        Text, _answer("--source-id", "NAME", "Name of the connection; default the account's.")
    ] = None,
    api_url: Annotated[Text, _answer("--api-url", "URL", "Address of the Data API.")] = None,
    feed: Annotated[Text, _answer("--feed", "URL", "Bucket or folder of the export.")] = None,
    feed_region: Annotated[
        Text, _answer("--feed-region", "REGION", "Region of the bucket.")
    ] = None,
    feed_endpoint: Annotated[
        Text, _answer("--feed-endpoint", "URL", "Address of an S3-compatible store.")
    ] = None,
    feed_profile: Annotated[
        Text, _answer("--feed-profile", "NAME", "Profile of the AWS configuration files.")
    ] = None,
    feed_pattern: Annotated[
        Text, _answer("--feed-pattern", "PATTERN", "Names of the files, such as '*events*'.")
    ] = None,
    tables: Annotated[
        Text, _answer("--tables", "TABLE,…", "Tables to replicate, or all; default the five.")
    ] = None,
    warehouse: Annotated[Text, _answer("--warehouse", "URL", "Warehouse URL.")] = None,
    wide_keys: Annotated[
        bool | None,
        typer.Option(
            "--wide-keys/--no-wide-keys",
            show_default=False,
            help="Keep events apart that share a key; cannot change later.",
        ),
    ] = None,
    hash_columns: Annotated[
        Text,
        _answer("--hash", "COLUMN,…", "Columns kept as pseudonyms, such as '*.email'."),
    ] = None,
    exclude: Annotated[Text, _answer("--exclude", "COLUMN,…", "Columns that stay empty.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="File to write; default ometria.toml."),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="File for the secrets; default that of --config, ending in .env.",
        ),
    ] = None,
    add_account: Annotated[
        bool, typer.Option("--add-account", help="Add the account to a file that exists.")
    ] = False,
    untested: Annotated[
        bool, typer.Option("--untested", help="Write the answers without trying them.")
    ] = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Set up an account: ask, try each answer, write ometria.toml and the secrets beside it."""
    from ometria_replica.config.load import DEFAULT_FILE
    from ometria_replica.init import questions as q
    from ometria_replica.init.files import Files
    from ometria_replica.init.run import as_data, next_steps, set_up
    from ometria_replica.init.session import Session

    settings = config or Path(os.environ.get("OMETRIA_CONFIG") or DEFAULT_FILE)
    files = Files(settings, env_file or settings.with_suffix(".env"))
    options = {
        q.API_KEY: None if key_file is None else _key_of(key_file),
        q.ACCOUNT_ID: account_id,
        q.SOURCE_ID: source_id,
        q.API_URL: api_url,
        q.FEED_URL: feed,
        q.REGION: feed_region,
        q.ENDPOINT_URL: feed_endpoint,
        q.PROFILE: feed_profile,
        q.PATTERN: feed_pattern,
        q.TABLES: tables,
        q.WAREHOUSE: warehouse,
        q.HASH: hash_columns,
        q.EXCLUDE: exclude,
    }
    session = Session(
        answers=q.given(options, os.environ, is_added=add_account),
        prompts=_prompts(asks=not (yes or as_json), quiet=as_json or is_quiet()),
        environ=os.environ,
        path=settings,
        wide_keys=wide_keys,
        tries=not untested,
    )
    try:
        done = set_up(session, files, date.today(), adds=add_account)  # noqa: DTZ011 -- As people here call it.
    except stopping.Stopped as stop:
        say("\nStopped. Nothing was written.", err=True)
        raise typer.Exit(stop.exit_code) from None
    if as_json:
        say(document("init", as_data(done)))
    else:
        say_report(f"\n{next_steps(done, is_default=settings == DEFAULT_FILE)}")


def _prompts(*, asks: bool, quiet: bool) -> Prompts:
    """Ask on a terminal, if there is one for both directions."""
    from ometria_replica.init.prompts import Unattended

    if asks and sys.stdin and sys.stdin.isatty() and sys.stdout.isatty():
        from ometria_replica.init.terminal import Terminal

        return Terminal()
    return Unattended((lambda text: None) if quiet else say)  # noqa: ARG005 -- What is not shown.


def _key_of(name: str) -> str:
    """Read the key from a file, or from standard input."""
    from ometria_replica.config.checks import Invalid
    from ometria_replica.config.providers import MAX_SECRET_BYTES, secret_of_file

    if name != "-":
        try:
            return secret_of_file(name)[0]
        except Invalid as problem:
            raise typer.BadParameter(f"{problem}.", param_hint="--key-file") from None
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter(
            "standard input is a terminal, or closed: leave the option out, to be asked.",
            param_hint="--key-file",
        )
    return sys.stdin.buffer.read(MAX_SECRET_BYTES).decode("utf-8", "replace").strip("\r\n")
