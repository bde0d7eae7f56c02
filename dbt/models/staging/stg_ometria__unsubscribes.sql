-- Written by `make docs` from the catalog of ometria-replica.

select
    unsubscribe_id,
    profile_id,
    {{ ometria.address('email') }} as email,
    event_at,
    send_id,
    mass_campaign_id,
    trigger_campaign_id,
    unsubscribe_reason,
    unsubscribe_reason_text,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'unsubscribes') }}
