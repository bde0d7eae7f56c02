"""The settings of a feed: the bucket or folder of the export, access to it, and its files."""

# ruff: noqa: RUF009  # setting() is dataclasses.field, with a description.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.config.checks import (
    check_arn,
    check_boolean,
    check_key,
    check_one_of,
    check_seconds,
    check_text,
    check_whole_bytes,
)
from ometria_replica.config.file_formats import (
    FILE_BYTES,
    RECORD_BYTES,
    check_columns,
    check_delimiter,
    check_encoding,
    check_null,
    check_quote,
)
from ometria_replica.config.setting import access_setting, dialect_setting, setting
from ometria_replica.config.urls import check_feed_url, check_http_url

if TYPE_CHECKING:
    from ometria_replica.config.secrets import Secret


@dataclass(frozen=True)
class FeedSettings:
    """
    The bucket or folder that holds the self-serve export.

    Access settings that are None fall back to the AWS credential chain. File format
    settings that are None are detected for each file.
    """

    url: str = setting(
        check_feed_url,
        "URL or path",
        "The bucket or folder of the export: `s3://bucket/prefix`, `file:///folder` or a path."
        " A last part such as `*.csv` or `events.csv.gz` names files in it.",
        env="OMETRIA_FEED_URL",
        unset="required",
    )
    endpoint_url: str | None = access_setting(
        check_http_url,
        "URL",
        "The address of an S3-compatible store.",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
    )
    region: str | None = access_setting(
        check_text,
        "text",
        "The bucket's region.",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        example='"eu-west-1"',
    )
    access_key_id: Secret | None = access_setting(
        check_key, "secret", "The access key; it needs `secret_access_key`.", "AWS_ACCESS_KEY_ID"
    )
    secret_access_key: Secret | None = access_setting(
        check_key, "secret", "The access key's secret.", "AWS_SECRET_ACCESS_KEY"
    )
    session_token: Secret | None = access_setting(
        check_key, "secret", "The token of temporary credentials.", "AWS_SESSION_TOKEN"
    )
    profile: str | None = access_setting(
        check_text, "text", "A profile of the AWS configuration files.", "AWS_PROFILE"
    )
    role_arn: str | None = setting(
        check_arn, "ARN", "A role to assume with the credentials above.", None
    )
    settle_seconds: float | None = setting(
        check_seconds,
        "number",
        "Leave a file that changed within so many seconds to the next run: another program may"
        " still be writing it.",
        None,
        unset="60 for a folder, 0 for a bucket",
        example="0",
    )
    follow_symlinks: bool = setting(
        check_boolean,
        "`true` or `false`",
        "Follow links that lead out of the feed's folder.",
        False,
    )
    pattern: str | None = setting(
        check_text,
        "text",
        "Read only files whose name matches, such as `*email_events*`.",
        None,
        unset="every file",
        example='"*email_events*"',
    )
    format: str | None = dialect_setting(
        check_one_of("csv", "jsonl", "parquet"), "`csv`, `jsonl`, `parquet`", "The files' format."
    )
    compression: str | None = dialect_setting(
        check_one_of("none", "gzip", "zstd", "zip"),
        "`none`, `gzip`, `zstd`, `zip`",
        "How the files are compressed.",
    )
    delimiter: str | None = dialect_setting(
        check_delimiter, "character", 'The separator of CSV cells; `"tab"` for a tab.'
    )
    header: bool | None = dialect_setting(
        check_boolean, "boolean", "Whether the first line of a CSV file names the columns."
    )
    encoding: str | None = dialect_setting(
        check_encoding, "text", "The encoding of CSV and JSON files."
    )
    quote: str | None = dialect_setting(
        check_quote, "character", 'The character that quotes a CSV cell; `""` for none.'
    )
    escape: str | None = dialect_setting(
        check_quote, "character", 'The character that escapes a quote in a CSV cell; `""` for none.'
    )
    null: str | None = dialect_setting(check_null, "text", "The CSV text that means null.")
    columns: tuple[str, ...] | None = dialect_setting(
        check_columns, "list of text", "The columns of CSV files without a header, in order."
    )
    max_file_bytes: int = setting(
        check_whole_bytes(FILE_BYTES),
        "whole number",
        "The largest file, in bytes after decompression; at least 1000000."
        " A larger one is set aside as unreadable.",
        20 << 30,
    )
    max_record_bytes: int = setting(
        check_whole_bytes(RECORD_BYTES),
        "whole number",
        "The longest line, or record of a Parquet file, in bytes; from 2000000 to 16777216."
        " A file with a longer one is set aside as unreadable.",
        16 << 20,
    )
