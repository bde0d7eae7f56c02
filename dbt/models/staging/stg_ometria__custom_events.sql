-- Written by `make docs` from the catalog of ometria-replica.

select
    custom_event_id,
    event_type,
    event_at,
    profile_id,
    {{ ometria.address('identity_email') }} as identity_email,
    identity_account_id,
    observed_at,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'custom_events') }}
