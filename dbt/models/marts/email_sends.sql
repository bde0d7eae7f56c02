{{ config(
    enabled=ometria.has_table('email_events'),
    materialized='incremental',
    unique_key=['source_id', 'send_key'],
    incremental_strategy=ometria.incremental_strategy(),
    on_schema_change='fail',
    post_hook="{{ ometria.remove_gone_sends() }}"
) }}

-- A later run makes only those sends again whose rows in the replica are others than before: more
-- or fewer, of a later load, or with other keys. So a late event arrives, whenever it comes.

with

{% if ometria.has_table('unsubscribes') %}

unsubscribes as (

    select
        source_id,
        send_id as send_key,
        sync_key,
        synced_at,
        event_at,
        unsubscribe_reason
    from {{ ref('stg_ometria__unsubscribes') }}
    where send_id is not null

),

{% endif %}

replica_rows as (

    select source_id, send_key, sync_key, synced_at, 1 as is_event
    from {{ ref('int_ometria__email_events') }}

    {% if ometria.has_table('unsubscribes') %}

    union all

    select source_id, send_key, sync_key, synced_at, 0 as is_event
    from unsubscribes

    {% endif %}

),

states as (

    select
        source_id,
        send_key,
        count(*) as replica_row_count,
        max(synced_at) as synced_at,
        max(sync_key) as last_sync_key
    from replica_rows
    group by source_id, send_key
    having max(is_event) = 1

),

due as (

    select states.*
    from states

    {% if is_incremental() %}

    left join {{ this }} as made
        on made.source_id = states.source_id
            and made.send_key = states.send_key
    where made.send_key is null
        or made.replica_row_count <> states.replica_row_count
        or made.synced_at <> states.synced_at
        or made.last_sync_key <> states.last_sync_key
        or made.settings <> '{{ ometria.email_sends_settings() }}'

    {% endif %}

),

events as (

    select
        events.*,
        row_number() over (
            partition by events.source_id, events.send_key, events.event_kind
            order by
                case when events.event_at is null then 1 else 0 end,
                events.event_at,
                events.sync_key
        ) as kind_place,
        row_number() over (
            partition by events.source_id, events.send_key
            order by
                case when events.campaign_title is null then 1 else 0 end,
                case when events.event_kind = 'sent' then 0 else 1 end,
                case when events.event_at is null then 1 else 0 end,
                events.event_at,
                events.sync_key
        ) as campaign_place
    from {{ ref('int_ometria__email_events') }} as events
    inner join due
        on due.source_id = events.source_id
            and due.send_key = events.send_key

),

sends as (

    select
        source_id,
        send_key,
        max(account_id) as account_id,
        max(send_id) as send_id,
        coalesce(
            max(case when event_kind = 'sent' and kind_place = 1 then email end), max(email)
        ) as email,
        max(case when campaign_place = 1 then campaign_title end) as campaign_title,
        max(case when campaign_place = 1 then campaign_type end) as campaign_type,
        {{ ometria.any("event_kind = 'sent'") }} as is_sent,
        min(case when event_kind = 'sent' then event_at end) as sent_at,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
        min(case when event_kind = 'delivered' then event_at end) as delivered_at,
        {{ ometria.any("event_kind = 'opened'") }} as is_opened,
        min(case when event_kind = 'opened' then event_at end) as first_opened_at,
        max(case when event_kind = 'opened' then event_at end) as last_opened_at,
        {{ ometria.count_if("event_kind = 'opened'") }} as opens,
        {{ ometria.any("event_kind = 'clicked'") }} as is_clicked,
        min(case when event_kind = 'clicked' then event_at end) as first_clicked_at,
        max(case when event_kind = 'clicked' then event_at end) as last_clicked_at,
        {{ ometria.count_if("event_kind = 'clicked'") }} as clicks,
        count(distinct case when event_kind = 'clicked' then target_url end) as links_clicked,
        {{ ometria.any("event_kind = 'bounced'") }} as is_bounced,
        min(case when event_kind = 'bounced' then event_at end) as bounced_at,
        max(case when event_kind = 'bounced' and kind_place = 1 then bounce_class end) as bounce_class,
        max(case when event_kind = 'bounced' and kind_place = 1 then bounce_kind end) as bounce_kind,
        {{ ometria.any("event_kind = 'delayed'") }} as is_delayed,
        min(case when event_kind = 'delayed' then event_at end) as first_delayed_at,
        {{ ometria.count_if("event_kind = 'delayed'") }} as delays,
        {{ ometria.any("event_kind = 'unsubscribed'") }} as is_unsubscribed,
        min(case when event_kind = 'unsubscribed' then event_at end) as unsubscribed_at,
        {{ ometria.any("event_kind = 'complained'") }} as is_complained,
        min(case when event_kind = 'complained' then event_at end) as complained_at,
        coalesce(
            max(case when event_kind = 'opened' and kind_place = 1 then device_type end),
            max(case when event_kind = 'clicked' and kind_place = 1 then device_type end)
        ) as device_type,
        coalesce(
            max(case when event_kind = 'opened' and kind_place = 1 then geo_country end),
            max(case when event_kind = 'clicked' and kind_place = 1 then geo_country end)
        ) as geo_country,
        coalesce(
            max(case when event_kind = 'opened' and kind_place = 1 then geo_region end),
            max(case when event_kind = 'clicked' and kind_place = 1 then geo_region end)
        ) as geo_region,
        count(*) as events
    from events
    group by source_id, send_key

){% if ometria.has_table('unsubscribes') %},

placed_unsubscribes as (

    select
        unsubscribes.*,
        row_number() over (
            partition by source_id, send_key
            order by case when event_at is null then 1 else 0 end, event_at, sync_key
        ) as place
    from unsubscribes

),

first_unsubscribes as (

    select source_id, send_key, event_at, unsubscribe_reason
    from placed_unsubscribes
    where place = 1

){% endif %}

select
    sends.source_id,
    sends.account_id,
    sends.send_key,
    sends.send_id,
    sends.email,
    {{ ometria.domain_of('sends.email') }} as email_domain,
    sends.campaign_title,
    sends.campaign_type,
    sends.is_sent,
    sends.sent_at,
    {{ ometria.day_of('coalesce(sends.sent_at, sends.first_event_at)') }} as sent_on,
    not sends.is_bounced or sends.is_opened or sends.is_clicked as is_delivered,
    sends.delivered_at,
    sends.is_opened,
    sends.first_opened_at,
    sends.last_opened_at,
    sends.opens,
    {{ ometria.seconds_until('sends.sent_at', 'sends.first_opened_at') }} as seconds_to_open,
    sends.is_clicked,
    sends.first_clicked_at,
    sends.last_clicked_at,
    sends.clicks,
    sends.links_clicked,
    {{ ometria.seconds_until('sends.sent_at', 'sends.first_clicked_at') }} as seconds_to_click,
    sends.is_bounced,
    sends.bounced_at,
    sends.bounce_class,
    sends.bounce_kind,
    sends.is_delayed,
    sends.first_delayed_at,
    sends.delays,
    {% if ometria.has_table('unsubscribes') %}
    sends.is_unsubscribed or first_unsubscribes.send_key is not null as is_unsubscribed,
    case
        when first_unsubscribes.event_at < sends.unsubscribed_at then first_unsubscribes.event_at
        else coalesce(sends.unsubscribed_at, first_unsubscribes.event_at)
    end as unsubscribed_at,
    first_unsubscribes.unsubscribe_reason,
    {% else %}
    sends.is_unsubscribed,
    sends.unsubscribed_at,
    cast(null as {{ dbt.type_string() }}) as unsubscribe_reason,
    {% endif %}
    sends.is_complained,
    sends.complained_at,
    sends.device_type,
    sends.geo_country,
    sends.geo_region,
    sends.first_event_at,
    sends.last_event_at,
    sends.events,
    due.replica_row_count,
    due.synced_at,
    due.last_sync_key,
    '{{ ometria.email_sends_settings() }}' as settings
from sends
inner join due
    on due.source_id = sends.source_id
        and due.send_key = sends.send_key
{% if ometria.has_table('unsubscribes') %}
left join first_unsubscribes
    on first_unsubscribes.source_id = sends.source_id
        and first_unsubscribes.send_key = sends.send_key
{% endif %}
