{{ config(enabled=ometria.has_table('unsubscribes')) }}

select
    source_id,
    account_id,
    {{ ometria.day_of('event_at') }} as unsubscribed_on,
    coalesce(nullif(trim(unsubscribe_reason), ''), 'none given') as unsubscribe_reason,
    count(*) as unsubscribes,
    count(distinct profile_id) as profiles,
    count(send_id) as after_a_send,
    count(mass_campaign_id) as after_a_broadcast,
    count(trigger_campaign_id) as after_an_automation,
    {{ ometria.count_if("trim(unsubscribe_reason_text) <> ''") }} as with_a_text
from {{ ref('stg_ometria__unsubscribes') }}
group by 1, 2, 3, 4
