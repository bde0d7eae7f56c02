{{ config(enabled=ometria.has_table('email_events')) }}

-- The figures of a campaign are the sums of those of its days, and these are the sends.

with

days as (
    select source_id, sum(sends) as sends, sum(opens) as opens, sum(clicks) as clicks
    from {{ ref('campaign_performance_daily') }}
    group by source_id
),

campaigns as (
    select source_id, sum(sends) as sends, sum(opens) as opens, sum(clicks) as clicks
    from {{ ref('campaign_performance') }}
    group by source_id
),

domains as (
    select source_id, sum(sends) as sends, sum(opens) as opens, sum(clicks) as clicks
    from {{ ref('deliverability_daily') }}
    group by source_id
)

select campaigns.source_id
from campaigns
left join days
    on days.source_id = campaigns.source_id
        and days.sends = campaigns.sends
        and days.opens = campaigns.opens
        and days.clicks = campaigns.clicks
left join domains
    on domains.source_id = campaigns.source_id
        and domains.sends = campaigns.sends
        and domains.opens = campaigns.opens
        and domains.clicks = campaigns.clicks
where days.source_id is null or domains.source_id is null
