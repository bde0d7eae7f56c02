-- Written by `make docs` from the catalog of ometria-replica.

select
    request_id,
    action,
    comment,
    summary,
    identities,
    api_request_id,
    origin,
    {{ ometria.address('user_email') }} as user_email,
    user_name,
    created_at,
    completed_at,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'data_deletion_requests') }}
