"""
The five tables, in the words and order of the specification page.

Each column names its field in the source first, then the column in the warehouse, then what
it means. DDL, comments, mapping, documentation and diagram are generated from these
declarations. For the source of each meaning, see ``docs/explanation/what-ometria-does.md``.
"""

from __future__ import annotations

from ometria_replica.schema import Column, Join, Table, computed, documented, inferred, md5, unknown
from ometria_replica.ways_to_read import Feed, Pages, PerParent, Windows

LISTS_ENDPOINT = Pages("lists", query=(("mode", "all"),))  # The default mode hides archived lists.

_KEY = computed("The key of the row, equal to __sync_key.")
_NO_PROPERTY = "the account has no such property, or the profile has no value of it"

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
    about=(
        "One row for each profile: a person, to whom Ometria has merged contacts from one or"
        " more sources."
    ),
    columns=(
        Column("id", "profile_id", person="profile", meaning=documented(
            'The id of the profile at Ometria, hex groups such as "2695-c473e2-4aaf58". When'
            " profiles are merged, the ids of all but one disappear.")),
        Column("email", "email", person="address", meaning=documented(
            "The email address. Not unique: in an account from before 2024, several profiles"
            " may have one address.")),
        Column("phone_number", "phone_number", personal=True, meaning=inferred(
            "The phone number. Its form is unknown.")),
        Column("customer_id", "customer_id", person="customer", meaning=documented(
            'The id of the customer, such as "55555", one of those by which Ometria merges'
            " profiles. Not unique in an account from before 2024.")),
        Column("name", "customer_name", personal=True, meaning=documented(
            "The name, as one text.")),
        Column("lastname", "last_name", personal=True, meaning=documented(
            "The last name.")),
        Column("firstname", "first_name", personal=True, meaning=documented(
            "The first name.")),
        Column("gender", "gender", personal=True, meaning=documented(
            'The gender: "m" in the example of Ometria. Contacts also have "f" and "o".')),
        Column("country", "country", meaning=documented(
            "The country. Whether it is a code or a name is not documented.")),
        Column("marketing_optin", "marketing_optin", meaning=inferred(
            "The consent to marketing, as received. The field is documented, its values are"
            " not: Ometria's example has null, another program reads true or false, and"
            " contacts have words such as EXPLICITLY_OPTEDIN.")),
        Column("timezone", "timezone", meaning=inferred(
            "The time zone of the person. Its form is unknown.")),
        Column("date_of_birth", "date_of_birth", "date", personal=True, meaning=documented(
            "The date of birth.")),
        Column("seen", "seen", "boolean", meaning=unknown(
            "A flag of the profile. Ometria documents the field, and not what it means.")),
        Column("lifecycle_status", "lifecycle_status", meaning=inferred(
            "The stage of the customer. Ometria's application shows Lead, Active, At risk and"
            " Lapsed, by limits that each account can change. The values in the data are"
            " unknown.")),
        Column("is_email_valid", "is_email_valid", "boolean", meaning=inferred(
            "Whether the address is valid. How Ometria finds that out is unknown.")),
        Column("properties::zip", "zipcode", personal=True, meaning=inferred(
            'The postcode: the property "zip", as accounts have it that Shopify feeds.',
            null=_NO_PROPERTY)),
        Column("properties::city", "city", personal=True, meaning=inferred(
            'The city: the property "city", as accounts have it that Shopify feeds.',
            null=_NO_PROPERTY)),
        Column("properties::address1", "address1", personal=True, meaning=inferred(
            'The first line of the address: the property "address1", as accounts have it that'
            " Shopify feeds.", null=_NO_PROPERTY)),
        Column("properties::address2", "address2", personal=True, meaning=inferred(
            'The second line of the address: the property "address2", as accounts have it that'
            " Shopify feeds.", null=_NO_PROPERTY)),
        Column("properties::province", "state", personal=True, meaning=inferred(
            'The state or province: the property "province", as accounts have it that Shopify'
            " feeds.", null=_NO_PROPERTY)),
        Column("properties::shopify_tags", "shopify_tags", personal=True, meaning=inferred(
            "The customer's tags in Shopify: a text, or a JSON array.", null=_NO_PROPERTY)),
        Column("dates::account_created", "account_created_date", "timestamptz", meaning=inferred(
            "When the account of the customer was created.")),
        Column("update_since", "updated_at", "timestamptz", "requested_since", meaning=inferred(
            "A lower bound: the profile changed at this time or later. Ometria is not known to"
            " send such a time, so it is the day since which the sync asked for updated"
            " profiles. For the time of loading, use __synced_at.",
            null="the profile has not changed since a full read loaded it, as in every row after"
                " the first sync")),
        Column("dates::marketing_optin", "marketing_optin_date", "timestamptz", meaning=inferred(
            "When the person opted in to marketing. Dates may contradict marketing_optin in"
            " Ometria.")),
        Column("dates::marketing_optout", "marketing_optout_date", "timestamptz", meaning=inferred(
            "When the person opted out of marketing. Dates may contradict marketing_optin in"
            " Ometria.")),
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
    about=(
        "One row for each time that a profile entered or left a list. Ometria creates these"
        " events when it refreshes a list."
    ),
    columns=(
        Column(_CHANGE_KEY, "member_list_id", meaning=_KEY),
        Column("id", "list_id", meaning=documented(
            "The list: lists.list_id.")),
        Column("profile_id", "profile_id", person="profile", meaning=inferred(
            "The profile that entered or left: profiles.profile_id. It may be gone there, for"
            " example after a merge.")),
        Column("timestamp", "event_at", "timestamptz", meaning=inferred(
            "When the list was refreshed and the profile was found to have entered or left. It"
            " may have begun to qualify, or ceased to, days earlier.")),
        Column("event", "event", meaning=documented(
            'What happened: "list_enter" or "list_exit".')),
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
    about=(
        "One row for each list of profiles, archived lists included. Ometria also calls a list"
        " a segment."
    ),
    columns=(
        Column("id", "list_id", meaning=documented(
            'The id of the list at Ometria, such as "1234".')),
        Column("title", "list_title", meaning=documented(
            "The title.")),
        Column("description", "list_description", meaning=documented(
            "The description.")),
        Column("status", "list_status", meaning=documented(
            'The status: "READY" in the example of Ometria. The other values are unknown.')),
        Column("type", "list_type", meaning=documented(
            'The type: "DYNAMIC" in the example of Ometria. The other value is presumably'
            ' "STATIC".')),
        Column("timestamp_created", "created_at", "timestamptz", meaning=documented(
            "When the list was created.")),
        Column("timestamp_stats_updated", "updated_at", "timestamptz", meaning=documented(
            "When Ometria last updated the statistics of the list, such as its size.")),
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
    about=(
        "One row for each event of an email, such as a send, an open or a click, from the"
        " self-serve export. No public page of Ometria describes the files."
    ),
    columns=(
        Column(_EVENT_KEY, "email_event_id", meaning=_KEY),
        Column("event_id", "event_id", personal=True, meaning=unknown(
            "The event's id in the export. Whether each event has one, and a different one, is"
            " unknown.")),
        Column("uuid", "send_id", personal=True, meaning=inferred(
            "The message: all events of one email to one recipient have the same value.")),
        Column("to_address", "email", person="address", meaning=inferred(
            "The address of the recipient, as the export writes it. Its case and spaces may"
            " differ from those in profiles.")),
        Column("event_type", "event_type", meaning=inferred(
            "The type of the event. Its values are undocumented. Another program's summaries"
            " imply a send, an open, a click, a bounce and a delay.")),
        Column("dt_occurred", "event_at", "timestamptz", meaning=inferred(
            "When the event happened. A time without a zone is read as UTC.")),
        Column("bounce_class", "bounce_class", meaning=unknown(
            "The class of a bounce. Its codes are undocumented.")),
        Column("reason", "bounce_reason", personal=True, quotes=True, meaning=inferred(
            "The reason of a bounce, and probably of a delay.")),
        Column("device_type", "device_type", meaning=inferred(
            "The type of the device. Its values are unknown.")),
        Column("geo_country", "geo_country", meaning=inferred(
            "The country of the event. Its form is unknown.")),
        Column("geo_region", "geo_region", meaning=inferred(
            "The region of the event. Its form is unknown.")),
        Column("geo_timezone", "geo_timezone", meaning=inferred(
            "The time zone of the event. Its form is unknown.")),
        Column("target_url", "target_url", personal=True, quotes=True, meaning=inferred(
            "The link that was clicked.")),
        Column("campaign_title", "campaign_title", meaning=inferred(
            "The title of the campaign. It can be edited in Ometria, so it identifies no"
            " campaign.")),
        Column("campaign_type", "campaign_type", meaning=inferred(
            "The type of the campaign. Its values are unknown. Ometria's application shows"
            " automation, broadcast and transactional campaigns.")),
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
    about=(
        "One row for each unsubscribe from email or SMS. Ometria leaves out those that were"
        " made through its API: for the state of consent, use profiles.marketing_optin."
    ),
    columns=(
        Column(_UNSUBSCRIBE_KEY, "unsubscribe_id", meaning=_KEY),
        Column("profile_id", "profile_id", person="profile", meaning=documented(
            "The profile that unsubscribed: profiles.profile_id.")),
        Column("email_address", "email", person="address", meaning=documented(
            "The address that unsubscribed.",
            null="Ometria sent no value, as it may for an unsubscribe from SMS")),
        Column("timestamp", "event_at", "timestamptz", meaning=documented(
            "When the person unsubscribed.")),
        Column("send_id", "send_id", personal=True, meaning=inferred(
            "The message that led to the unsubscribe, if Ometria names one:"
            " email_events.send_id.")),
        Column("mass_campaign_id", "mass_campaign_id", meaning=inferred(
            "Ometria's id of the campaign, probably of a broadcast.")),
        Column("trigger_campaign_id", "trigger_campaign_id", meaning=inferred(
            "Ometria's id of the campaign, probably of an automation.")),
        Column("reason", "unsubscribe_reason", meaning=documented(
            "The reason. Its values are not documented.")),
        Column("reason_text", "unsubscribe_reason_text", personal=True, quotes=True,
            meaning=inferred("A text about the reason.")),
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
