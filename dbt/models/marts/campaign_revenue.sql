{{ config(enabled=ometria.has_table('orders') and ometria.has_table('profiles') and ometria.has_table('email_events')) }}

select
    source_id,
    account_id,
    campaign_type,
    campaign_title,
    ordered_on,
    currency,
    count(*) as orders,
    count(distinct customer_id) as customers,
    sum(revenue) as revenue,
    sum(refunded) as refunded,
    sum(revenue) - sum(refunded) as net_revenue
from {{ ref('order_attribution') }}
group by source_id, account_id, campaign_type, campaign_title, ordered_on, currency
