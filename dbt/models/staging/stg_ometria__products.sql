-- Written by `make docs` from the catalog of ometria-replica.

select
    product_id,
    sku,
    title,
    url,
    image_url,
    currency,
    price,
    special_price,
    special_price_from,
    special_price_to,
    is_active,
    is_in_stock,
    is_variant,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'products') }}
