{{ config(enabled=ometria.has_table('email_events')) }}

-- Every event belongs to one send: what an incremental run has left out, or kept, shows here.

with

there as (
    select source_id, count(*) as events
    from {{ ref('int_ometria__email_events') }}
    group by source_id
),

made as (
    select source_id, sum(events) as events
    from {{ ref('email_sends') }}
    group by source_id
)

select there.source_id, there.events, made.events as events_of_sends
from there
left join made on made.source_id = there.source_id
where made.source_id is null or made.events <> there.events

union all

select made.source_id, 0 as events, made.events as events_of_sends
from made
left join there on there.source_id = made.source_id
where there.source_id is null
