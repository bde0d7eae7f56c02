-- Written by `make docs` from the catalog of ometria-replica.

select
    request_id,
    record_type,
    record_id,
    customer_id,
    error_message,
    error_path,
    record,
    event_at,
    acquired_at,
    account,
    source,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'push_errors') }}
