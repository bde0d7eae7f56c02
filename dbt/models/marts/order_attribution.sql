{{ config(enabled=ometria.has_table('orders') and ometria.has_table('profiles') and ometria.has_table('email_events')) }}

with

orders as (

    select source_id, account_id, order_id, customer_id, ordered_at, currency, grand_total, total_refunded
    from {{ ref('int_ometria__orders') }}
    where counts
        and customer_id is not null
        and ordered_at is not null

),

-- A customer may have several profiles, and so several addresses, and an address several customers.
addresses as (

    select distinct source_id, customer_id, email
    from {{ ref('stg_ometria__profiles') }}
    where customer_id is not null
        and email is not null

),

clicks as (

    select source_id, email, send_key, event_at, sync_key
    from {{ ref('int_ometria__email_events') }}
    where event_kind = 'clicked'
        and email is not null

),

candidates as (

    select
        orders.source_id,
        orders.order_id,
        clicks.send_key,
        clicks.event_at as clicked_at,
        row_number() over (
            partition by orders.source_id, orders.order_id
            order by clicks.event_at desc, clicks.sync_key desc
        ) as place
    from orders
    inner join addresses
        on addresses.source_id = orders.source_id
            and addresses.customer_id = orders.customer_id
    inner join clicks
        on clicks.source_id = addresses.source_id
            and clicks.email = addresses.email
            and clicks.event_at <= orders.ordered_at
            and clicks.event_at >= {{ ometria.instant_before('orders.ordered_at', var('ometria_attribution_days')) }}

)

select
    orders.source_id,
    orders.account_id,
    orders.order_id,
    orders.customer_id,
    orders.ordered_at,
    {{ ometria.day_of('orders.ordered_at') }} as ordered_on,
    orders.currency,
    coalesce(orders.grand_total, 0) as revenue,
    coalesce(orders.total_refunded, 0) as refunded,
    candidates.send_key,
    sends.campaign_type,
    sends.campaign_title,
    candidates.clicked_at,
    {{ ometria.seconds_until('candidates.clicked_at', 'orders.ordered_at') }} as seconds_to_order
from candidates
inner join orders
    on orders.source_id = candidates.source_id
        and orders.order_id = candidates.order_id
inner join {{ ref('email_sends') }} as sends
    on sends.source_id = candidates.source_id
        and sends.send_key = candidates.send_key
where candidates.place = 1
