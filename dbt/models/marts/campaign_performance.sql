{{ config(enabled=ometria.has_table('email_events')) }}

with

figures as (

    select
        source_id,
        account_id,
        campaign_type,
        campaign_title,
        min(sent_at) as first_sent_at,
        max(sent_at) as last_sent_at,
        count(distinct case when is_sent then sent_on end) as days,
        {{ ometria.send_figures() }}
    from {{ ref('email_sends') }}
    group by source_id, account_id, campaign_type, campaign_title

)

select
    figures.*,
    {{ ometria.send_rates() }}
from figures
