{{ config(enabled=ometria.has_table('orders')) }}

-- The orders that Ometria has, without those that a full read has not found any more. An order
-- counts unless Ometria says that it is not valid.

select
    orders.*,
    coalesce(orders.is_valid, true) as counts
from {{ ref('stg_ometria__orders') }} as orders
left join {{ ref('int_ometria__deleted_records') }} as deleted
    on deleted.source_id = orders.source_id
        and deleted.record_id = orders.order_id
        and deleted.table_name = 'orders'
where deleted.record_id is null
