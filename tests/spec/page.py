"""
The specification page as text: a second, independent copy of the product's promise.

From the "Integration Specifications" page of Daasity's Ometria extractor; types are
ours. Nothing here is derived from the code, so that the two can disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PAGE = """\
## profiles: endpoint Profiles
id                       | profile_id            | text
email                    | email                 | text
phone_number             | phone_number          | text
customer_id              | customer_id           | text
name                     | customer_name         | text
lastname                 | last_name             | text
firstname                | first_name            | text
gender                   | gender                | text
country                  | country               | text
marketing_optin          | marketing_optin       | text
timezone                 | timezone              | text
date_of_birth            | date_of_birth         | date
seen                     | seen                  | boolean
lifecycle_status         | lifecycle_status      | text
is_email_valid           | is_email_valid        | boolean
properties::zip          | zipcode               | text
properties::city         | city                  | text
properties::address1     | address1              | text
properties::address2     | address2              | text
properties::province     | state                 | text
properties::shopify_tags | shopify_tags          | text
dates::account_created   | account_created_date  | timestamp with time zone
update_since             | updated_at            | timestamp with time zone
dates::marketing_optin   | marketing_optin_date  | timestamp with time zone
dates::marketing_optout  | marketing_optout_date | timestamp with time zone
Key: MD5(source_id + id)

## member_lists: endpoint Lists, the changes of each list
MD5(source_id + id + profile_id + timestamp) | member_list_id | text
id                                           | list_id        | text
profile_id                                   | profile_id     | text
timestamp                                    | event_at       | timestamp with time zone
event                                        | event          | text
Key: MD5(source_id + id + profile_id + timestamp)

## lists: endpoint Lists
id                      | list_id          | text
title                   | list_title       | text
description             | list_description | text
status                  | list_status      | text
type                    | list_type        | text
timestamp_created       | created_at       | timestamp with time zone
timestamp_stats_updated | updated_at       | timestamp with time zone
Key: MD5(source_id + id)

## email_events: S3 feed, Email Events
MD5(source_id + to_address + event_type + dt_occurred) | email_event_id | text
event_id       | event_id       | text
uuid           | send_id        | text
to_address     | email          | text
event_type     | event_type     | text
dt_occurred    | event_at       | timestamp with time zone
bounce_class   | bounce_class   | text
reason         | bounce_reason  | text
device_type    | device_type    | text
geo_country    | geo_country    | text
geo_region     | geo_region     | text
geo_timezone   | geo_timezone   | text
target_url     | target_url     | text
campaign_title | campaign_title | text
campaign_type  | campaign_type  | text
Key: MD5(source_id + to_address + event_type + dt_occurred)

## unsubscribes: endpoint Unsubscribes
MD5(source_id + profile_id + timestamp) | unsubscribe_id | text
profile_id          | profile_id              | text
email_address       | email                   | text
timestamp           | event_at                | timestamp with time zone
send_id             | send_id                 | text
mass_campaign_id    | mass_campaign_id        | text
trigger_campaign_id | trigger_campaign_id     | text
reason              | unsubscribe_reason      | text
reason_text         | unsubscribe_reason_text | text
Key: MD5(source_id + profile_id + timestamp)
"""

LAST_FOUR = (
    ("_account_id", "text"),
    ("__source_id", "text"),
    ("__sync_key", "text"),
    ("__synced_at", "timestamp with time zone"),
)
"""The last columns of every table: one leading underscore in the first, two in the others."""

JOINS = (
    ("profiles.profile_id", "member_lists.profile_id"),
    ("profiles.profile_id", "unsubscribes.profile_id"),
    ("lists.list_id", "member_lists.list_id"),
    ("profiles.email", "email_events.email"),
    ("profiles.email", "unsubscribes.email"),
    ("email_events.send_id", "unsubscribes.send_id"),
)


@dataclass(frozen=True)
class PageTable:
    """A table of the page; its *lines* have source, column and type."""

    name: str
    read_from: str
    lines: tuple[tuple[str, str, str], ...]
    key: str

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Names and types in order, including the last four."""
        return [*((column, kind) for _, column, kind in self.lines), *LAST_FOUR]


def page_tables() -> tuple[PageTable, ...]:
    """Return the tables of the page in its order."""
    return tables_of(PAGE)


def tables_of(page: str) -> tuple[PageTable, ...]:
    """Read the tables that *page* describes, in its order."""
    return tuple(_table(section) for section in page.split("## ")[1:])


def _table(section: str) -> PageTable:
    title, *lines = section.strip().splitlines()
    name, _, read_from = title.partition(": ")
    cells = [tuple(re.split(r"\s*\|\s*", line)) for line in lines[:-1]]
    rows = tuple((source, column, kind) for source, column, kind in cells)
    return PageTable(name, read_from, rows, lines[-1].removeprefix("Key: "))
