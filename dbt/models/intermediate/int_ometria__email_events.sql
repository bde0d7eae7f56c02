{{ config(enabled=ometria.has_table('email_events')) }}

-- Each event with what it says, and the send to which it belongs. An event that names no send is
-- alone in a send of its own: nothing says with which others it belongs together.

select
    source_id,
    account_id,
    sync_key,
    synced_at,
    coalesce(send_id, sync_key) as send_key,
    send_id,
    email,
    {{ ometria.domain_of('email') }} as email_domain,
    {{ ometria.event_kind('event_type') }} as event_kind,
    event_type,
    event_at,
    {{ ometria.day_of('event_at') }} as event_on,
    bounce_class,
    {{ ometria.bounce_kind('bounce_class') }} as bounce_kind,
    device_type,
    geo_country,
    geo_region,
    target_url,
    campaign_title,
    campaign_type
from {{ ref('stg_ometria__email_events') }}
