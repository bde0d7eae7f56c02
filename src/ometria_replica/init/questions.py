"""The questions of a set-up: each the value of a setting, and the option that answers it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ometria_replica.config import AccountSettings, FeedSettings, WarehouseSettings, masked
from ometria_replica.config.checks import Invalid
from ometria_replica.config.providers import sentence
from ometria_replica.config.setting import settings_of
from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.config.setting import Setting

Section = Literal["account", "feed", "warehouse"]
KINDS: Mapping[Section, type] = {
    "account": AccountSettings,
    "feed": FeedSettings,
    "warehouse": WarehouseSettings,
}


@dataclass(frozen=True)
class Question:
    """
    A question for the setting *name* of a *section*. *option* answers it on the command line.

    *text* is the question, and *hint* what to know before it is answered.
    """

    section: Section
    name: str
    option: str
    text: str
    hint: str = ""

    @property
    def setting(self) -> Setting:
        """The declaration of the setting."""
        return settings_of(KINDS[self.section])[self.name]


@dataclass(frozen=True)
class Answer:
    """The *raw* value of a setting, and where it comes from: an option or a variable."""

    raw: str
    origin: str


Answers = dict[Question, Answer]

ACCOUNT_ID = Question(
    "account",
    "account_id",
    "--account-id",
    "Name of the account",
    "Any name, such as acme-uk. The column _account_id of every row holds it.",
)
API_KEY = Question(
    "account",
    "api_key",
    "--key-file",
    "API key (not shown)",
    "Ometria shows it under Settings > API keys. Leave it empty if the account is read from its"
    " export alone.",
)
API_URL = Question("account", "api_url", "--api-url", "Address of the Data API")
FEED_URL = Question(
    "feed",
    "url",
    "--feed",
    "Bucket or folder of the self-serve export",
    "Such as s3://bucket/prefix, or the path of a folder. Leave it empty if there is none: then"
    " email_events has no rows.",
)
REGION = Question(
    "feed", "region", "--feed-region", "Region of the bucket", "Empty: as AWS's settings say."
)
ENDPOINT_URL = Question(
    "feed",
    "endpoint_url",
    "--feed-endpoint",
    "Address of the store, if it is not AWS",
    "Such as https://minio.acme.example. Empty: AWS.",
)
PROFILE = Question(
    "feed",
    "profile",
    "--feed-profile",
    "Profile of the AWS configuration files",
)
ACCESS_KEY_ID = Question("feed", "access_key_id", "", "Access key ID (not shown)")
SECRET_ACCESS_KEY = Question("feed", "secret_access_key", "", "Its secret (not shown)")
PATTERN = Question("feed", "pattern", "--feed-pattern", "Names of the files")
TABLES = Question(
    "account",
    "tables",
    "--tables",
    "Tables to replicate, with commas between them, or: all",
)
WAREHOUSE = Question(
    "warehouse",
    "url",
    "--warehouse",
    "Warehouse",
    "A DuckDB file, such as duckdb:///warehouse.duckdb, or a URL such as"
    " postgresql://user@host/database. A password is asked for next.",
)
SOURCE_ID = Question(
    "account",
    "source_id",
    "--source-id",
    "Name of the connection (source_id)",
    "It is part of the key of every row, so it cannot change after the first load: another name"
    " would load every row a second time.",
)
EXCLUDE = Question(
    "account",
    "exclude",
    "--exclude",
    "Columns that stay empty, with commas between them",
    "Such as profiles.phone_number, or *.email for all tables.",
)
HASH = Question(
    "account",
    "hash",
    "--hash",
    "Columns of which only pseudonyms are kept, with commas between them",
    "Such as *.email: equal values have equal pseudonyms, so that tables can be joined.",
)

QUESTIONS = (
    ACCOUNT_ID,
    API_KEY,
    API_URL,
    FEED_URL,
    REGION,
    ENDPOINT_URL,
    PROFILE,
    PATTERN,
    TABLES,
    WAREHOUSE,
    SOURCE_ID,
    EXCLUDE,
    HASH,
)
"""In the order in which they are asked."""

_NOT_ON_COMMAND_LINE = (
    "a password must not be on the command line, where other users can read it; set"
    " OMETRIA_WAREHOUSE_URL instead"
)


def given(
    options: Mapping[Question, str | None], environ: Mapping[str, str], *, is_added: bool
) -> Answers:
    """
    Collect what options, and after them variables of *environ*, have answered.

    The variables of an account are those of the only one: they answer nothing if the account
    *is_added* to others. Raises ConfigError for all answers that are not valid.
    """
    answers: Answers = {}
    for question in QUESTIONS:
        option, variable = options.get(question), question.setting.env
        if option is not None:
            answers[question] = Answer(option, question.option)
        elif variable and variable in environ and not is_added:
            answers[question] = Answer(environ[variable], variable)
    if problems := [
        sentence(f"{answer.origin}: {reason}")
        for question, answer in answers.items()
        for reason in wrong(question, answer)
    ]:
        raise ConfigError(problems)
    return answers


def wrong(question: Question, answer: Answer) -> tuple[str, ...]:
    """Say why an answer is not valid; nothing if it is. A reference is followed later."""
    on_command_line = answer.origin == question.option
    if question is WAREHOUSE and on_command_line and masked(answer.raw) != answer.raw:
        return (_NOT_ON_COMMAND_LINE,)
    if is_reference(question, answer.raw):
        return ()
    try:
        question.setting.check(answer.raw)
    except Invalid as problem:
        return tuple(map(str, problem.args))
    return ()


def is_reference(question: Question, raw: str) -> bool:
    """Whether the value is that of another variable, or of a file."""
    return question.setting.reference != "none" and raw.startswith(("env:", "file:"))
