-- Written by `make docs` from the catalog of ometria-replica.

select
    order_id,
    customer_id,
    ordered_at,
    status,
    is_valid,
    currency,
    grand_total,
    subtotal,
    discount,
    shipping,
    tax,
    total_refunded,
    total_unit_quantity,
    total_unit_quantity_refunded,
    channel,
    store,
    coupon_code,
    payment_method,
    shipping_method,
    web_id,
    ip_address,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'orders') }}
