{{ config(enabled=ometria.has_table('email_events')) }}

with

bounces as (

    select
        source_id,
        account_id,
        campaign_type,
        campaign_title,
        bounce_class,
        bounce_kind,
        count(*) as bounced,
        min(bounced_at) as first_bounced_at,
        max(bounced_at) as last_bounced_at
    from {{ ref('email_sends') }}
    where is_bounced
    group by source_id, account_id, campaign_type, campaign_title, bounce_class, bounce_kind

)

select
    bounces.*,
    {{ ometria.ratio('bounced', 'sum(bounced) over (partition by source_id, campaign_type, campaign_title)') }}
        as share_of_bounced
from bounces
