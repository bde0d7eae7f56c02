"""
The further tables as text: a second, independent copy of what is promised of them.

From the fields that Ometria and its public clients name. Nothing here is derived from the code, so
that the two can disagree.
"""

from __future__ import annotations

from tests.spec.page import PageTable, tables_of

PAGE = """\
## collections: endpoint contacts
collection | collection    | text
count      | contact_count | integer
Key: MD5(source_id + collection)

## contacts: endpoint contacts, each collection
collection         | collection         | text
id                 | contact_id         | text
profile_id         | profile_id         | text
customer_id        | customer_id        | text
email              | email              | text
phone_number       | phone_number       | text
marketing_optin    | marketing_optin    | text
source             | source             | text
store_ids          | store_ids          | text
object_version     | object_version     | text
dt_object_created  | created_at         | timestamp with time zone
dt_object_updated  | updated_at         | timestamp with time zone
dt_object_observed | object_observed_at | timestamp with time zone
dt_observed        | observed_at        | timestamp with time zone
Key: MD5(source_id + collection + id)

## orders: endpoint orders
id                           | order_id                     | text
customer_id                  | customer_id                  | text
timestamp                    | ordered_at                   | timestamp with time zone
status                       | status                       | text
is_valid                     | is_valid                     | boolean
currency                     | currency                     | text
grand_total                  | grand_total                  | decimal
subtotal                     | subtotal                     | decimal
discount                     | discount                     | decimal
shipping                     | shipping                     | decimal
tax                          | tax                          | decimal
total_refunded               | total_refunded               | decimal
total_unit_quantity          | total_unit_quantity          | decimal
total_unit_quantity_refunded | total_unit_quantity_refunded | decimal
channel                      | channel                      | text
store                        | store                        | text
coupon_code                  | coupon_code                  | text
payment_method               | payment_method               | text
shipping_method              | shipping_method              | text
web_id                       | web_id                       | text
ip_address                   | ip_address                   | text
Key: MD5(source_id + id)

## products: endpoint products
id                    | product_id         | text
sku                   | sku                | text
title                 | title              | text
url                   | url                | text
image_url             | image_url          | text
currency              | currency           | text
price                 | price              | decimal
special_price         | special_price      | decimal
special_price_dt_from | special_price_from | timestamp with time zone
special_price_dt_to   | special_price_to   | timestamp with time zone
is_active             | is_active          | boolean
is_in_stock           | is_in_stock        | boolean
is_variant            | is_variant         | boolean
Key: MD5(source_id + id)

## custom_events: endpoint custom-events
id                  | custom_event_id     | text
event_type          | event_type          | text
timestamp           | event_at            | timestamp with time zone
profile_id          | profile_id          | text
identity_email      | identity_email      | text
identity_account_id | identity_account_id | text
dt_observed         | observed_at         | timestamp with time zone
Key: MD5(source_id + id)

## push_errors: endpoint push/_errors
request_id             | request_id    | text
record_type            | record_type   | text
record_id              | record_id     | text
customer_id            | customer_id   | text
message::error_message | error_message | text
message::error_path    | error_path    | text
record                 | record        | text
timestamp              | event_at      | timestamp with time zone
timestamp_acquired     | acquired_at   | timestamp with time zone
account                | account       | text
source                 | source        | text
Key: MD5(source_id + request_id + record_type + record_id + message::error_path + timestamp)

## data_deletion_requests: endpoint data-deletion-requests
id                     | request_id     | text
action                 | action         | text
comment                | comment        | text
summary                | summary        | text
identities             | identities     | text
source::api_request_id | api_request_id | text
source::origin         | origin         | text
source::user::email    | user_email     | text
source::user::name     | user_name      | text
timestamp_created      | created_at     | timestamp with time zone
timestamp_completed    | completed_at   | timestamp with time zone
Key: MD5(source_id + id)
"""


def further_tables() -> tuple[PageTable, ...]:
    """Return the further tables, in the order of the page."""
    return tables_of(PAGE)
