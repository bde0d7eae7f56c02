"""
The further tables, off by default: the setting ``tables`` switches them on.

Written as the five are in ``tables.py``. Nobody's specification names their columns, so each is
Ometria's word for the field in the style of the five. For the source of each meaning, see
``docs/explanation/what-ometria-does.md``.
"""

from __future__ import annotations

from ometria_replica.schema import Column, Join, Table, documented, inferred, md5, unknown
from ometria_replica.ways_to_read import Growing, Newest, Pages

CONTACTS_ENDPOINT = Pages("contacts")
"""Lists the collections of contacts. Each has an endpoint of its own below it."""

DELETION_REQUESTS_ENDPOINT = Pages("data-deletion-requests", requests_per_minute=6)

_AMOUNT = "In the currency of the order. Whether tax and shipping are in it is not documented."

# fmt: off
CONTACTS = Table(
    "contacts",
    read=Growing("contacts/{collection}", parent=CONTACTS_ENDPOINT, count="count"),
    sync_key=md5("source_id", "collection", "id"),
    identity=(("collection",), ("id",)),
    record_id="contact_id",
    optional=True,
    sample=("collection", "contact_id", "email", "profile_id"),
    unmapped=("@type", "@collection", "@profile_id"),
    about=(
        "One row for each contact: a person as one source knows that person, such as the shop or"
        " a newsletter form. Ometria merges contacts into profiles."
    ),
    columns=(
        Column("collection", "collection", meaning=documented(
            "The collection of contacts: collections.collection.")),
        Column("id", "contact_id", personal=True, meaning=documented(
            "The id of the contact, which the source has chosen. It is unique within its"
            " collection only.")),
        Column("profile_id", "profile_id", person="profile", meaning=inferred(
            "The profile to which the contact belongs: profiles.profile_id.")),
        Column("customer_id", "customer_id", person="customer", meaning=inferred(
            "The id of the customer at the source.")),
        Column("email", "email", person="address", meaning=inferred(
            "The email address.")),
        Column("phone_number", "phone_number", personal=True, meaning=inferred(
            "The phone number. Its form is unknown.")),
        Column("marketing_optin", "marketing_optin", meaning=documented(
            "The consent to marketing: EXPLICITLY_OPTEDIN, NOT_SPECIFIED or"
            " EXPLICITLY_OPTEDOUT.")),
        Column("source", "source", meaning=unknown(
            "The source of the contact. Its values are unknown.")),
        Column("store_ids", "store_ids", meaning=inferred(
            "The stores of the contact, as a JSON array.")),
        Column("object_version", "object_version", meaning=unknown(
            "A version of the contact. How Ometria counts it is unknown.")),
        Column("dt_object_created", "created_at", "timestamptz", meaning=inferred(
            "When the contact was created, by its name at the source.")),
        Column("dt_object_updated", "updated_at", "timestamptz", meaning=inferred(
            "When the contact was last updated, by its name at the source.")),
        Column("dt_object_observed", "object_observed_at", "timestamptz", meaning=unknown(
            "A time at which Ometria observed the contact, by its name.")),
        Column("dt_observed", "observed_at", "timestamptz", meaning=unknown(
            "A time at which Ometria observed the contact, by its name.")),
    ),
)

COLLECTIONS = Table(
    "collections",
    read=CONTACTS_ENDPOINT,
    sync_key=md5("source_id", "collection"),
    identity=(("collection",),),
    record_id="collection",
    optional=True,
    unmapped=("@type", "id"),
    about="One row for each collection of contacts, such as the contacts of one source.",
    columns=(
        Column("collection", "collection", meaning=inferred(
            "The name of the collection.")),
        Column("count", "contact_count", "integer", meaning=inferred(
            "The number of contacts in the collection, as Ometria counts them.")),
    ),
)

ORDERS = Table(
    "orders",
    read=Growing("orders"),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="order_id",
    optional=True,
    sample=("order_id", "status", "grand_total", "currency", "ordered_at"),
    unmapped=("@type", "profile_id", "properties", "lineitems"),
    about="One row for each order, whatever its status.",
    columns=(
        Column("id", "order_id", meaning=inferred(
            "The id of the order at the shop.")),
        Column("customer_id", "customer_id", person="customer", meaning=inferred(
            "The customer: profiles.customer_id, which may belong to several profiles.")),
        Column("timestamp", "ordered_at", "timestamptz", meaning=inferred(
            "When the order was placed.")),
        Column("status", "status", meaning=inferred(
            "The status of the order. Its values are those of the shop.")),
        Column("is_valid", "is_valid", "boolean", meaning=inferred(
            "Whether Ometria counts the order. By which rule is unknown.")),
        Column("currency", "currency", meaning=inferred(
            "The currency of the amounts, probably as an ISO 4217 code.")),
        Column("grand_total", "grand_total", "decimal", meaning=inferred(
            f"The total of the order. {_AMOUNT}")),
        Column("subtotal", "subtotal", "decimal", meaning=inferred(
            f"The subtotal. {_AMOUNT}")),
        Column("discount", "discount", "decimal", meaning=inferred(
            "The discount, in the currency of the order. Its sign is unknown.")),
        Column("shipping", "shipping", "decimal", meaning=inferred(
            "The cost of shipping, in the currency of the order.")),
        Column("tax", "tax", "decimal", meaning=inferred(
            "The tax, in the currency of the order.")),
        Column("total_refunded", "total_refunded", "decimal", meaning=inferred(
            "What was refunded so far, in the currency of the order.")),
        Column("total_unit_quantity", "total_unit_quantity", "decimal", meaning=inferred(
            "The number of units ordered. Shops may sell parts of a unit, such as 1.5 m.")),
        Column("total_unit_quantity_refunded", "total_unit_quantity_refunded", "decimal",
            meaning=inferred("The number of units refunded so far.")),
        Column("channel", "channel", meaning=inferred(
            "The channel through which the order came. Its values are unknown.")),
        Column("store", "store", meaning=inferred(
            "The store at which the order was placed.")),
        Column("coupon_code", "coupon_code", meaning=inferred(
            "The coupon that was used.")),
        Column("payment_method", "payment_method", meaning=inferred(
            "How the order was paid. Its values are those of the shop.")),
        Column("shipping_method", "shipping_method", meaning=inferred(
            "How the order was shipped. Its values are those of the shop.")),
        Column("web_id", "web_id", meaning=inferred(
            "Another id of the order, probably the number that the customer sees.")),
        Column("ip_address", "ip_address", personal=True, meaning=inferred(
            "The IP address from which the order was placed.")),
    ),
)

PRODUCTS = Table(
    "products",
    read=Growing("products"),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="product_id",
    optional=True,
    sample=("product_id", "title", "price", "currency"),
    unmapped=("@type", "properties", "attributes", "stores", "listings"),
    about="One row for each product, active or not, and for each of its variants that is one.",
    columns=(
        Column("id", "product_id", meaning=inferred(
            "The id of the product at the shop.")),
        Column("sku", "sku", meaning=inferred(
            "The stock keeping unit of the product.")),
        Column("title", "title", meaning=inferred(
            "The title.")),
        Column("url", "url", meaning=inferred(
            "The address of the product in the shop.")),
        Column("image_url", "image_url", meaning=inferred(
            "The address of its picture.")),
        Column("currency", "currency", meaning=inferred(
            "The currency of the prices, probably as an ISO 4217 code.")),
        Column("price", "price", "decimal", meaning=inferred(
            "The price.")),
        Column("special_price", "special_price", "decimal", meaning=inferred(
            "The price while the product is on sale.")),
        Column("special_price_dt_from", "special_price_from", "timestamptz", meaning=inferred(
            "When the special price begins.")),
        Column("special_price_dt_to", "special_price_to", "timestamptz", meaning=inferred(
            "When the special price ends.")),
        Column("is_active", "is_active", "boolean", meaning=inferred(
            "Whether the product is for sale: the endpoint can select products by it.")),
        Column("is_in_stock", "is_in_stock", "boolean", meaning=inferred(
            "Whether the product is in stock.")),
        Column("is_variant", "is_variant", "boolean", meaning=inferred(
            "Whether the record is a variant of another product.")),
    ),
)

CUSTOM_EVENTS = Table(
    "custom_events",
    read=Growing("custom-events", pages=False),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="custom_event_id",
    optional=True,
    sample=("custom_event_id", "event_type", "profile_id", "event_at"),
    unmapped=("@type", "properties"),
    about="One row for each event of a type that the account has defined itself.",
    columns=(
        Column("id", "custom_event_id", meaning=inferred(
            "The id of the event.")),
        Column("event_type", "event_type", meaning=inferred(
            "The type of the event, as the account names it.")),
        Column("timestamp", "event_at", "timestamptz", meaning=inferred(
            "When the event happened.")),
        Column("profile_id", "profile_id", person="profile", meaning=inferred(
            "The profile of the event: profiles.profile_id.")),
        Column("identity_email", "identity_email", person="address", meaning=inferred(
            "The email address by which the event names the person.")),
        Column("identity_account_id", "identity_account_id", personal=True, meaning=inferred(
            "The id of the customer's account by which the event names the person.")),
        Column("dt_observed", "observed_at", "timestamptz", meaning=inferred(
            "When Ometria observed the event, by its name.")),
    ),
)

PUSH_ERRORS = Table(
    "push_errors",
    read=Newest("push/_errors", most=100),
    sync_key=md5(
        "source_id", "request_id", "record_type", "record_id", "message::error_path", "timestamp"),
    identity=(("request_id", "record_id", "timestamp"),),
    events=True,
    time="event_at",
    wide_parts=("message::error_message",),
    optional=True,
    sample=("event_at", "record_type", "record_id", "error_message"),
    unmapped=("@type",),
    about=(
        "One row for each error in data that was pushed to Ometria. Ometria gives the newest 100"
        " only, so rows stay when it no longer does, and errors between two runs may be missing."
    ),
    columns=(
        Column("request_id", "request_id", meaning=inferred(
            "The request that pushed the record, as Ometria's answer named it.")),
        Column("record_type", "record_type", meaning=inferred(
            "The type of the record, such as an order or a contact.")),
        Column("record_id", "record_id", personal=True, quotes=True, holds_record=True,
            meaning=inferred("The id of the record.")),
        Column("customer_id", "customer_id", person="customer", meaning=inferred(
            "The customer of the record, if it has one.")),
        Column("message::error_message", "error_message", personal=True, quotes=True,
            holds_record=True, meaning=documented(
            "The error, in words. They may quote the record.")),
        Column("message::error_path", "error_path", meaning=documented(
            "Where in the record the error is.")),
        Column("record", "record", personal=True, quotes=True, holds_record=True, meaning=inferred(
            "The record as it was pushed, as JSON: it may hold all that is known of a person.")),
        Column("timestamp", "event_at", "timestamptz", meaning=inferred(
            "When the error was found.")),
        Column("timestamp_acquired", "acquired_at", "timestamptz", meaning=inferred(
            "When Ometria received the record, by its name.")),
        Column("account", "account", meaning=unknown(
            "The account at Ometria, by its name.")),
        Column("source", "source", meaning=unknown(
            "The source of the record, by its name.")),
    ),
)

DATA_DELETION_REQUESTS = Table(
    "data_deletion_requests",
    read=DELETION_REQUESTS_ENDPOINT,
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="request_id",
    optional=True,
    sample=("request_id", "action", "created_at", "completed_at"),
    unmapped=("@type",),
    about="One row for each request to Ometria to anonymise a person.",
    columns=(
        Column("id", "request_id", meaning=documented(
            "The id of the request.")),
        Column("action", "action", meaning=documented(
            'What Ometria was asked to do: "anonymise".')),
        Column("comment", "comment", personal=True, quotes=True, meaning=documented(
            "A comment of the one who asked.")),
        Column("summary", "summary", personal=True, quotes=True, meaning=documented(
            "A summary of the request.")),
        Column("identities", "identities", meaning=documented(
            "The people, as a JSON array: each with the address that Ometria puts in place of the"
            " person's, such as c4ca4238a0b923820dcc509a6f75849b@anonymous.ometria.")),
        Column("source::api_request_id", "api_request_id", meaning=documented(
            "The request to the API by which Ometria was asked.")),
        Column("source::origin", "origin", meaning=documented(
            'Where the request came from, such as "api".')),
        Column("source::user::email", "user_email", person="address", meaning=documented(
            "The address of the user who asked, and not that of the person.")),
        Column("source::user::name", "user_name", personal=True, meaning=documented(
            "The name of the user who asked.")),
        Column("timestamp_created", "created_at", "timestamptz", meaning=documented(
            "When Ometria received the request.")),
        Column("timestamp_completed", "completed_at", "timestamptz", meaning=documented(
            "When Ometria completed the request, within 14 days.",
            null="Ometria has not completed the request")),
    ),
)
# fmt: on

MORE_TABLES = (
    COLLECTIONS,
    CONTACTS,
    ORDERS,
    PRODUCTS,
    CUSTOM_EVENTS,
    PUSH_ERRORS,
    DATA_DELETION_REQUESTS,
)
"""All of them, in the order of pages and diagrams."""

MORE_JOINS = (
    Join("collections.collection", "contacts.collection"),
    Join("profiles.profile_id", "contacts.profile_id"),
    Join("profiles.profile_id", "custom_events.profile_id"),
    Join("profiles.customer_id", "orders.customer_id", best_effort=True),
    Join("profiles.customer_id", "push_errors.customer_id", best_effort=True),
)
"""How they join each other and the five."""
