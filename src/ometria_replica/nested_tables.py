"""
The tables that are arrays inside the records of another table. They are off by default.

Each has the id of the record that a row is inside. Its key joins that id and what identifies an
element by ``|``, which no id of Ometria has, so that no two elements have one key.
"""

from __future__ import annotations

from ometria_replica.schema import Column, Join, Table, computed, documented, inferred, md5
from ometria_replica.ways_to_read import Inside

_AMOUNT = "In the currency of the line. Whether tax is in it is not documented."
_PROFILE = "The profile that {} belongs to: profiles.profile_id."


def _in_currency(name: str, words: str) -> tuple[Column, ...]:
    """Write the amounts of a line in another currency, whose fields begin with *name*."""
    amounts = ("unit_price", "subtotal", "discount", "tax", "total", "refunded")
    return (
        Column(
            f"{name}_currency",
            f"{name}_currency",
            meaning=inferred(f"The currency of the {name} amounts: {words}."),
        ),
        *(
            Column(
                f"{name}_{amount}",
                f"{name}_{amount}",
                "decimal",
                meaning=inferred(f"The same as {amount}, in {words}."),
            )
            for amount in amounts
        ),
    )


# fmt: off
PROFILE_IDENTITIES = Table(
    "profile_identities",
    read=Inside("profiles", "identities"),
    sync_key=md5("source_id", "profiles::id", "'|'", "type", "'|'", "id"),
    identity=(("id",),),
    optional=True,
    sample=("profile_id", "identity_type", "identity_id"),
    unmapped=("@type",),
    about=(
        "One row for each id by which Ometria knows a profile. With a profile go its rows, and an"
        " id that the profile no longer has is gone too."
    ),
    columns=(
        Column("profiles::id", "profile_id", person="profile", meaning=documented(
            _PROFILE.format("the id"))),
        Column("type", "identity_type", meaning=documented(
            'What the id is: "email" in the example of Ometria. Other values are not'
            " documented.")),
        Column("id", "identity_id", person="address", meaning=documented(
            'The id itself: an address, if the type is "email".')),
    ),
)

PROFILE_TAGS = Table(
    "profile_tags",
    read=Inside("profiles", "tags", text="tag"),
    sync_key=md5("source_id", "profiles::id", "'|'", "tag"),
    identity=(("tag",),),
    optional=True,
    sample=("profile_id", "tag"),
    about=(
        "One row for each tag of a profile. With a profile go its rows, and a tag that was taken"
        " from the profile is gone too."
    ),
    columns=(
        Column("profiles::id", "profile_id", person="profile", meaning=documented(
            _PROFILE.format("the tag"))),
        Column("tag", "tag", personal=True, meaning=documented(
            "The tag, as the shop has written it.")),
    ),
)

PROFILE_LISTS = Table(
    "profile_lists",
    read=Inside("profiles", "lists", is_update=False),
    sync_key=md5("source_id", "profiles::id", "'|'", "id"),
    identity=(("id",),),
    optional=True,
    sample=("profile_id", "list_id", "list_title", "list_type"),
    unmapped=("@type",),
    about=(
        "One row for each list that a profile is in, as its record says. The table stays empty"
        " where Ometria sends this field only for a single profile. A profile that enters or"
        " leaves a dynamic list does not count as updated, so that the table may be behind:"
        " member_lists has every change."
    ),
    columns=(
        Column("profiles::id", "profile_id", person="profile", meaning=documented(
            "The profile that is in the list: profiles.profile_id.")),
        Column("id", "list_id", meaning=inferred(
            "The list: lists.list_id.")),
        Column("title", "list_title", meaning=inferred(
            "The title of the list.")),
        Column("type", "list_type", meaning=inferred(
            'The type of the list, such as "DYNAMIC".')),
    ),
)

ORDER_LINES = Table(
    "order_lines",
    read=Inside(
        "orders", "lineitems", also=("line_items", "lines", "items"), position="line_number"
    ),
    sync_key=md5("source_id", "orders::id", "'|'", "line_number"),
    identity=(("line_number",),),
    optional=True,
    sample=("order_id", "line_number", "sku", "quantity", "total"),
    unmapped=("@type", "variant_options", "properties"),
    about=(
        "One row for each line of an order, by its place in the order, since a line has no id."
        " With an order go its rows, and a line that the order no longer has is gone too. The name"
        " of the array is not documented for reading: lineitems, as in what is pushed to Ometria,"
        " and line_items, lines and items are read."
    ),
    columns=(
        Column("orders::id", "order_id", meaning=inferred(
            "The order: orders.order_id.")),
        Column("line_number", "line_number", "integer", meaning=computed(
            "The place of the line in the order, from 1.")),
        Column("product_id", "product_id", meaning=inferred(
            "The product: products.product_id.")),
        Column("variant_id", "variant_id", meaning=inferred(
            "The variant of the product.")),
        Column("sku", "sku", meaning=inferred(
            "The stock keeping unit of what was ordered.")),
        Column("quantity", "quantity", "decimal", meaning=inferred(
            "The number of units ordered. Shops may sell parts of a unit, such as 1.5 m.")),
        Column("quantity_refunded", "quantity_refunded", "decimal", meaning=inferred(
            "The number of units refunded so far.")),
        Column("currency", "currency", meaning=inferred(
            "The currency of the amounts, probably as an ISO 4217 code.")),
        Column("unit_price", "unit_price", "decimal", meaning=inferred(
            f"The price of a unit. {_AMOUNT}")),
        Column("subtotal", "subtotal", "decimal", meaning=inferred(
            f"The subtotal of the line. {_AMOUNT}")),
        Column("discount", "discount", "decimal", meaning=inferred(
            "The discount, in the currency of the line. Its sign is unknown.")),
        Column("tax", "tax", "decimal", meaning=inferred(
            "The tax, in the currency of the line.")),
        Column("total", "total", "decimal", meaning=inferred(
            f"The total of the line. {_AMOUNT}")),
        Column("refunded", "refunded", "decimal", meaning=inferred(
            "What was refunded so far, in the currency of the line.")),
        *_in_currency("base", "the currency of the account, by its name"),
        *_in_currency("local", "the currency of the customer, by its name"),
    ),
)
# fmt: on

NESTED_TABLES = (PROFILE_IDENTITIES, PROFILE_TAGS, PROFILE_LISTS, ORDER_LINES)
"""All of them, after the tables that they are inside."""

NESTED_JOINS = (
    Join("profiles.profile_id", "profile_identities.profile_id"),
    Join("profiles.profile_id", "profile_tags.profile_id"),
    Join("profiles.profile_id", "profile_lists.profile_id"),
    Join("lists.list_id", "profile_lists.list_id"),
    Join("orders.order_id", "order_lines.order_id"),
    Join("products.product_id", "order_lines.product_id"),
)
"""How they join, always together with ``__source_id``."""
