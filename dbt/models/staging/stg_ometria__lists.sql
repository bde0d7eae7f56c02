-- Written by `make docs` from the catalog of ometria-replica.

select
    list_id,
    list_title,
    list_description,
    list_status,
    list_type,
    created_at,
    updated_at,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'lists') }}
