-- Written by `make docs` from the catalog of ometria-replica.

select
    member_list_id,
    list_id,
    profile_id,
    event_at,
    event,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'member_lists') }}
