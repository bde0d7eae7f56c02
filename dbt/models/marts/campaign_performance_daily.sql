{{ config(enabled=ometria.has_table('email_events')) }}

with

figures as (

    select
        source_id,
        account_id,
        campaign_type,
        campaign_title,
        sent_on,
        {{ ometria.send_figures() }}
    from {{ ref('email_sends') }}
    group by source_id, account_id, campaign_type, campaign_title, sent_on

)

select
    figures.*,
    {{ ometria.send_rates() }}
from figures
