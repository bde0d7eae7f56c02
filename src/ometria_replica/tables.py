"""
The five tables, in the words and order of the specification page.

Each column names its field in the source first, then the column in the warehouse. DDL,
mapping, documentation and diagram are generated from these declarations.
"""

from __future__ import annotations

from ometria_replica.schema import Column, Feed, Join, Pages, PerParent, Table, Windows, md5

LISTS_ENDPOINT = Pages("lists", query=(("mode", "all"),))  # The default mode hides archived lists.

# fmt: off
PROFILES = Table(
    "profiles",
    read=Pages("profiles", since="updateSince", stamp="requested_since", pages=True),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="profile_id",
    sample=("profile_id", "email", "first_name", "country", "marketing_optin"),
    unmapped=(
        "@type", "middlename", "prefix", "suffix", "tags", "identities", "stats", "lists",
        "phone_number_country", "default_store", "preferred_lang", "first_visit",
        "dt_predicted_next_order",
    ),
    columns=(
        Column("id",                       "profile_id"),
        Column("email",                    "email"),
        Column("phone_number",             "phone_number"),
        Column("customer_id",              "customer_id"),
        Column("name",                     "customer_name"),
        Column("lastname",                 "last_name"),
        Column("firstname",                "first_name"),
        Column("gender",                   "gender"),
        Column("country",                  "country"),
        Column("marketing_optin",          "marketing_optin"),
        Column("timezone",                 "timezone"),
        Column("date_of_birth",            "date_of_birth", "date"),
        Column("seen",                     "seen", "boolean"),
        Column("lifecycle_status",         "lifecycle_status"),
        Column("is_email_valid",           "is_email_valid", "boolean"),
        Column("properties::zip",          "zipcode"),
        Column("properties::city",         "city"),
        Column("properties::address1",     "address1"),
        Column("properties::address2",     "address2"),
        Column("properties::province",     "state"),
        Column("properties::shopify_tags", "shopify_tags"),
        Column("dates::account_created",   "account_created_date", "timestamptz"),
        Column("update_since",             "updated_at", "timestamptz", stamp="requested_since"),
        Column("dates::marketing_optin",   "marketing_optin_date", "timestamptz"),
        Column("dates::marketing_optout",  "marketing_optout_date", "timestamptz"),
    ),
)

_CHANGE_KEY = md5("source_id", "id", "profile_id", "timestamp")

MEMBER_LISTS = Table(
    "member_lists",
    read=PerParent(LISTS_ENDPOINT, "lists/{id}/changes"),
    sync_key=_CHANGE_KEY,
    identity=(("id",), ("profile_id",)),
    events=True,
    time="event_at",
    wide_parts=("event",),
    sample=("list_id", "profile_id", "event", "event_at"),
    unmapped=("@type", "list_id", "email"),
    columns=(
        Column(_CHANGE_KEY,  "member_list_id"),
        Column("id",         "list_id"),
        Column("profile_id", "profile_id"),
        Column("timestamp",  "event_at", "timestamptz"),
        Column("event",      "event"),
    ),
)

LISTS = Table(
    "lists",
    read=LISTS_ENDPOINT,
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="list_id",
    sample=("list_id", "list_title", "list_status", "list_type", "updated_at"),
    unmapped=(
        "@type", "size", "total_orders", "total_revenue", "timestamp_last_refreshed", "public_id",
    ),
    columns=(
        Column("id",                      "list_id"),
        Column("title",                   "list_title"),
        Column("description",             "list_description"),
        Column("status",                  "list_status"),
        Column("type",                    "list_type"),
        Column("timestamp_created",       "created_at", "timestamptz"),
        Column("timestamp_stats_updated", "updated_at", "timestamptz"),
    ),
)

_EVENT_KEY = md5("source_id", "to_address", "event_type", "dt_occurred")

EMAIL_EVENTS = Table(
    "email_events",
    read=Feed("email_events"),
    sync_key=_EVENT_KEY,
    identity=(("to_address", "dt_occurred"),),
    events=True,
    time="event_at",
    wide_parts=("uuid", "event_id", "target_url"),
    sample=("email", "event_type", "event_at", "campaign_title"),
    unmapped=("geo_city", "delay_class"),
    columns=(
        Column(_EVENT_KEY,       "email_event_id"),
        Column("event_id",       "event_id"),
        Column("uuid",           "send_id"),
        Column("to_address",     "email"),
        Column("event_type",     "event_type"),
        Column("dt_occurred",    "event_at", "timestamptz"),
        Column("bounce_class",   "bounce_class"),
        Column("reason",         "bounce_reason"),
        Column("device_type",    "device_type"),
        Column("geo_country",    "geo_country"),
        Column("geo_region",     "geo_region"),
        Column("geo_timezone",   "geo_timezone"),
        Column("target_url",     "target_url"),
        Column("campaign_title", "campaign_title"),
        Column("campaign_type",  "campaign_type"),
    ),
)

_UNSUBSCRIBE_KEY = md5("source_id", "profile_id", "timestamp")

UNSUBSCRIBES = Table(
    "unsubscribes",
    read=Windows("unsubscribes", since="since", before="before", time="timestamp"),
    sync_key=_UNSUBSCRIBE_KEY,
    identity=(("profile_id", "timestamp"),),
    events=True,
    time="event_at",
    wide_parts=("email_address", "type", "send_id"),
    sample=("profile_id", "email", "event_at", "unsubscribe_reason"),
    unmapped=("@type", "type"),
    columns=(
        Column(_UNSUBSCRIBE_KEY,      "unsubscribe_id"),
        Column("profile_id",          "profile_id"),
        Column("email_address",       "email"),
        Column("timestamp",           "event_at", "timestamptz"),
        Column("send_id",             "send_id"),
        Column("mass_campaign_id",    "mass_campaign_id"),
        Column("trigger_campaign_id", "trigger_campaign_id"),
        Column("reason",              "unsubscribe_reason"),
        Column("reason_text",         "unsubscribe_reason_text"),
    ),
)
# fmt: on

TABLES = (PROFILES, MEMBER_LISTS, LISTS, EMAIL_EVENTS, UNSUBSCRIBES)
"""All of them, in the page's order."""

JOINS = (
    Join("profiles.profile_id", "member_lists.profile_id"),
    Join("profiles.profile_id", "unsubscribes.profile_id"),
    Join("lists.list_id", "member_lists.list_id"),
    Join("profiles.email", "email_events.email", best_effort=True),
    Join("profiles.email", "unsubscribes.email", best_effort=True),
    Join("email_events.send_id", "unsubscribes.send_id", best_effort=True),
)
"""
How the tables join, always together with ``__source_id``.

By email is best effort: case and spacing may differ, and one address may belong to
several profiles. A send has several events, so by it neither side is unique.
"""
