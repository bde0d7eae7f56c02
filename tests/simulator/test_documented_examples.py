"""The API returns the example objects of Ometria's documentation exactly."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulator.client import ask

if TYPE_CHECKING:
    from ometria_simulator import Account, Server

# Article "Profiles API": ids, types and time forms as the example shows them.
PROFILE: dict[str, Any] = {
    "@type": "profile",
    "id": "2695-c473e2-4aaf58",
    "email": "someone@example.com",
    "customer_id": "55555",
    "name": None,
    "firstname": "Jane",
    "middlename": None,
    "lastname": "Doe",
    "prefix": None,
    "suffix": None,
    "gender": "m",
    "country": None,
    "date_of_birth": "1984-04-22",
    "marketing_optin": None,
    "seen": True,
    "tags": ["one"],
    "properties": {"key": "value"},
    "identities": [{"id": "someone@example.com", "type": "email"}],
    "dates": {
        "acquired": "2014-11-01T15:34:35+00:00",
        "first_purchase": None,
        "first_seen": "2014-11-01T15:34:35+00:00",
        "last_purchase": None,
        "last_seen": "2014-11-01T15:34:35+00:00",
    },
    "stats": {
        "aov": 15.5,
        "orders": 2,
        "orders_attempted": 3,
        "revenue": 31.0,
        "total_items": 4,
        "visits": 5,
    },
}

# Article "Lists API".
LIST: dict[str, Any] = {
    "@type": "list",
    "id": "1234",
    "title": "A segment",
    "description": "Of people",
    "status": "READY",
    "type": "DYNAMIC",
    "size": 12,
    "total_orders": 34,
    "total_revenue": 823.44,
    "timestamp_created": "2014-11-01T15:34:35+00:00",
    "timestamp_last_refreshed": "2014-11-02T15:34:35+00:00",
    "timestamp_stats_updated": "2014-11-03T15:34:35+00:00",
}


def test_a_profile_looks_as_documented(account: Account, server: Server) -> None:
    """A profile with the fields of the example is returned with them, in their order."""
    account.add_profile(**{name: PROFILE[name] for name in PROFILE if name != "@type"})

    answer = ask(server, "/profiles")

    assert answer.data == [PROFILE]
    assert list(answer.data[0]) == list(PROFILE)
    assert answer.headers["Content-Type"] == "application/json"


def test_a_list_looks_as_documented(account: Account, server: Server) -> None:
    """A list has the documented fields in the documented order, alone and in the array."""
    moments = [datetime(2014, 11, day, 15, 34, 35, tzinfo=UTC) for day in (1, 2, 3)]
    account.add_list(
        id="1234",
        title="A segment",
        description="Of people",
        type="DYNAMIC",
        size=12,
        total_orders=34,
        total_revenue=823.44,
        created_at=moments[0],
        refreshed_at=moments[1],
        stats_updated_at=moments[2],
    )

    assert ask(server, "/lists").data == [LIST]
    assert ask(server, "/lists/1234").data == LIST
    assert list(ask(server, "/lists/1234").data) == list(LIST)


def test_a_change_has_the_fields_of_its_consumers(account: Account, server: Server) -> None:
    """A list change has the profile, the address, the event and an ISO time, and no list id."""
    account.add_list(id="1234")
    at = datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC)
    account.add_change("1234", "19e53-b37265-160", "list_enter", at=at, email="a@example.com")

    assert ask(server, "/lists/1234/changes").data == [
        {
            "profile_id": "19e53-b37265-160",
            "email": "a@example.com",
            "event": "list_enter",
            "timestamp": "2017-05-17T22:08:07+00:00",
        }
    ]


def test_an_unsubscribe_looks_as_documented(account: Account, server: Server) -> None:
    """An unsubscribe's time has a space and a two-digit offset, as in the documentation."""
    account.add_unsubscribe(
        "19e53-b37265-160",
        "list_unsubscribe",
        email_address="a@example.com",
        at=datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    )

    [record] = ask(server, "/unsubscribes").data

    assert record["profile_id"] == "19e53-b37265-160"
    assert record["email_address"] == "a@example.com"
    assert record["type"] == "list_unsubscribe"
    assert record["timestamp"] == "2017-05-17 22:08:07+00"
    assert record["reason"] is None


def test_a_deletion_request_looks_as_documented(account: Account, server: Server) -> None:
    """A deletion request has a hashed address and microseconds, and never the address itself."""
    profile = account.add_profile(email="Someone@example.com")
    account.set_time(datetime(2017, 2, 4, 10, 18, 12, tzinfo=UTC))
    account.anonymise_profile(profile.id)

    answer = ask(server, "/data-deletion-requests")
    [record] = answer.data

    assert record["action"] == "anonymise"
    assert record["timestamp_completed"] == "2017-02-04 10:18:12.833949+00"
    [identity] = record["identities"]
    local, _, domain = identity["hashed_email"].partition("@")
    assert domain == "anonymous.ometria"
    assert len(local) == 32
    assert "someone@" not in answer.text.lower()
    assert account.profile(profile.id).email == identity["hashed_email"]


def test_a_deletion_request_has_the_fields_of_the_example(account: Account, server: Server) -> None:
    """Fields, their order, types and time forms are those of the article on GDPR."""
    account.set_time(datetime(2017, 2, 2, 10, 18, 12, 833949, tzinfo=UTC))
    account.add_profile(email="someone@example.com")
    account.request_deletion(
        "someone@example.com",
        completed_after=timedelta(days=2),
        comment="Some comment",
        user=("user@user.com", "A user"),
    )
    account.set_time(datetime(2017, 2, 5, tzinfo=UTC))

    [record] = ask(server, "/data-deletion-requests").data

    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record["id"])
    expected = {
        "action": "anonymise",
        "comment": "Some comment",
        "id": record["id"],
        "identities": [{"hashed_email": "16d113840f999444259f73bac9ab8b10@anonymous.ometria"}],
        "source": {
            "api_request_id": record["id"],
            "origin": "api",
            "user": {"email": "user@user.com", "name": "A user"},
        },
        "summary": "1 contact record anonymised",
        "timestamp_completed": "2017-02-04 10:18:12.833949+00",
        "timestamp_created": "2017-02-02 10:18:12.833949+00",
    }
    assert record == expected
    assert list(record) == list(expected)
    assert ask(server, f"/data-deletion-requests/{record['id']}").data == expected
