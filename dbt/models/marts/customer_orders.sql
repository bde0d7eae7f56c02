{{ config(enabled=ometria.has_table('orders')) }}

with

customers as (

    select
        source_id,
        account_id,
        customer_id,
        currency,
        {{ ometria.count_if('counts') }} as orders,
        {{ ometria.count_if('not counts') }} as invalid_orders,
        min(case when counts then ordered_at end) as first_ordered_at,
        max(case when counts then ordered_at end) as last_ordered_at,
        coalesce(sum(case when counts then total_unit_quantity end), 0) as units,
        coalesce(sum(case when counts then grand_total end), 0) as revenue,
        coalesce(sum(case when counts then total_refunded end), 0) as refunded,
        coalesce(sum(case when counts then discount end), 0) as discount,
        {{ ometria.count_if("counts and coupon_code <> ''") }} as orders_with_coupon
    from {{ ref('int_ometria__orders') }}
    where customer_id is not null
    group by source_id, account_id, customer_id, currency

){% if ometria.has_table('profiles') %},

profiles as (

    select
        source_id,
        customer_id,
        count(*) as profiles,
        min(profile_id) as profile_id,
        min(email) as email
    from {{ ref('int_ometria__profiles') }}
    where customer_id is not null
    group by source_id, customer_id

){% endif %}

select
    customers.source_id,
    customers.account_id,
    customers.customer_id,
    customers.currency,
    {% if ometria.has_table('profiles') %}
    coalesce(profiles.profiles, 0) as profiles,
    case when profiles.profiles = 1 then profiles.profile_id end as profile_id,
    case when profiles.profiles = 1 then profiles.email end as email,
    {% else %}
    cast(null as {{ dbt.type_bigint() }}) as profiles,
    cast(null as {{ dbt.type_string() }}) as profile_id,
    cast(null as {{ dbt.type_string() }}) as email,
    {% endif %}
    customers.orders,
    customers.invalid_orders,
    customers.first_ordered_at,
    customers.last_ordered_at,
    customers.units,
    customers.revenue,
    customers.refunded,
    customers.revenue - customers.refunded as net_revenue,
    customers.discount,
    customers.orders_with_coupon,
    {{ ometria.ratio('customers.revenue', 'customers.orders') }} as average_order_value
from customers
{% if ometria.has_table('profiles') %}
left join profiles
    on profiles.source_id = customers.source_id
        and profiles.customer_id = customers.customer_id
{% endif %}
