{{ config(enabled=ometria.has_table('profiles')) }}

with

happened as (

    select
        source_id,
        account_id,
        {{ ometria.day_of('marketing_optin_date') }} as day,
        1 as opt_ins,
        0 as opt_outs,
        0 as unsubscribes
    from {{ ref('int_ometria__profiles') }}
    where marketing_optin_date is not null

    union all

    select
        source_id,
        account_id,
        {{ ometria.day_of('marketing_optout_date') }} as day,
        0 as opt_ins,
        1 as opt_outs,
        0 as unsubscribes
    from {{ ref('int_ometria__profiles') }}
    where marketing_optout_date is not null

    {% if ometria.has_table('unsubscribes') %}

    union all

    select
        source_id,
        account_id,
        {{ ometria.day_of('event_at') }} as day,
        0 as opt_ins,
        0 as opt_outs,
        1 as unsubscribes
    from {{ ref('stg_ometria__unsubscribes') }}
    where event_at is not null

    {% endif %}

),

flows as (

    select
        source_id,
        account_id,
        day,
        cast(sum(opt_ins) as {{ dbt.type_bigint() }}) as opt_ins,
        cast(sum(opt_outs) as {{ dbt.type_bigint() }}) as opt_outs,
        cast(sum(unsubscribes) as {{ dbt.type_bigint() }}) as unsubscribes
    from happened
    group by source_id, account_id, day

),

states as (

    select
        source_id,
        account_id,
        day,
        {%- for consent in ['opted_in', 'opted_out', 'unknown'] %}
        cast(sum(case when consent = '{{ consent }}' then profiles else 0 end) as {{ dbt.type_bigint() }})
            as {{ consent }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ ref('lifecycle_daily') }}
    group by source_id, account_id, day

),

days as (

    select distinct source_id, account_id, day
    from (
        select source_id, account_id, day from flows
        union all
        select source_id, account_id, day from states
    ) as known

)

select
    days.source_id,
    days.account_id,
    days.day,
    coalesce(flows.opt_ins, 0) as opt_ins,
    coalesce(flows.opt_outs, 0) as opt_outs,
    coalesce(flows.unsubscribes, 0) as unsubscribes,
    states.opted_in,
    states.opted_out,
    states.unknown
from days
left join flows
    on flows.source_id = days.source_id
        and flows.account_id = days.account_id
        and flows.day = days.day
left join states
    on states.source_id = days.source_id
        and states.account_id = days.account_id
        and states.day = days.day
