{{ config(enabled=ometria.has_table('orders') and ometria.has_table('profiles') and ometria.has_table('email_events')) }}

-- No order is counted twice, and none that belongs to a campaign is left out.

select campaigns.orders, orders.orders as attributed_orders
from (select sum(orders) as orders, sum(revenue) as revenue from {{ ref('campaign_revenue') }}) as campaigns
cross join (select count(*) as orders, sum(revenue) as revenue from {{ ref('order_attribution') }}) as orders
where campaigns.orders <> orders.orders or campaigns.revenue <> orders.revenue
