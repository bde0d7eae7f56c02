"""Addresses within texts: found in any form of writing, and those of others left alone."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.mapping import MASKED, addresses_sql, mask_addresses
from tests.duck import connected

ANN = "ann@example.com"


def masked(text: str, *addresses: str) -> str:
    """Mask *addresses* in a text."""
    with connected() as connection:
        connection.execute("CREATE TEMP TABLE t AS SELECT ? AS text", [text])
        mask_addresses(connection, "t", addresses)
        ((found,),) = connection.execute(
            f"SELECT coalesce(masked, t.text) FROM t LEFT JOIN {MASKED} m ON m.text = t.text"
        ).fetchall()
        return str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 <Ann@EXAMPLE.com>: no such user", "550 <[address]>: no such user"),
        ("Could not reach ann@example.com.", "Could not reach [address]."),
        ("https://x.example/?u=ann%40example.com&b=1", "https://x.example/?u=[address]&b=1"),
        ("https://x.example/%3Fu%3Dann%2540example%252Ecom", "https://x.example/%3Fu%3D[address]"),
        ("mailto:ann@example.com,ann@example.com,ann@example.com",
         "mailto:[address],[address],[address]"),
        ("'ann@example.com' (ANN@example.com)", "'[address]' ([address])"),
        ("for joann@example.com", None),
        ("for jo.ann@example.com and jo%2Bann@example.com", None),
        ("for ann@example.com.au and ann@example.company", None),
        ("100 % of ann at example.com", None),
    ],
)  # fmt: skip
def test_an_address_is_masked_in_a_text(text: str, expected: str | None) -> None:
    """In any case and encoding, wherever it ends; an address that only ends alike stays."""
    assert masked(text, ANN) == (expected or text)


@given(
    local=st.text("aZ9.+-_'é", min_size=1, max_size=8),
    before=st.sampled_from(["", "to ", "<", "(", "u=", "https://x/", "a@b.example,", "%3D"]),
    after=st.sampled_from(["", " no", ">", "&b=2", "/", ", c@d.example", ". No"]),
    times=st.integers(0, 2),
)
def test_whatever_an_address_is_made_of_it_is_found(
    local: str, before: str, after: str, times: int
) -> None:
    """As it is, or percent-encoded once or twice."""
    address = written = f"{local}@shop.example"
    for _ in range(times):
        written = quote(written, safe="")
    assert (
        masked(f"{before}{written}{after}", address.upper().lower()) == f"{before}[address]{after}"
    )


def test_what_may_be_an_address_is_found_without_knowing_it() -> None:
    """It is compared by its hash: without a quote or a full stop that belongs to the text."""
    text = "'o'brien@x.example' and https://x.example/?to=Jo%2Bann%2540example.com. Not a @ b"
    with connected() as connection:
        ((found,),) = connection.execute(
            f"SELECT {addresses_sql('$text')}", {"text": text}
        ).fetchall()
    assert {"o'brien@x.example", "Jo+ann@example.com"} <= set(found)
