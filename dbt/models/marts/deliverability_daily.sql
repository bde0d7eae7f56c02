{{ config(enabled=ometria.has_table('email_events')) }}

with

figures as (

    select
        source_id,
        account_id,
        sent_on,
        email_domain,
        {{ ometria.send_figures() }}
    from {{ ref('email_sends') }}
    group by source_id, account_id, sent_on, email_domain

)

select
    figures.*,
    {{ ometria.send_rates() }}
from figures
