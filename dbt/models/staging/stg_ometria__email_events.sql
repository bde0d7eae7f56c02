-- Written by `make docs` from the catalog of ometria-replica.

select
    email_event_id,
    event_id,
    send_id,
    {{ ometria.address('email') }} as email,
    event_type,
    event_at,
    bounce_class,
    bounce_reason,
    device_type,
    geo_country,
    geo_region,
    geo_timezone,
    target_url,
    campaign_title,
    campaign_type,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'email_events') }}
