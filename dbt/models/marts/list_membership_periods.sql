{{ config(enabled=ometria.has_table('member_lists')) }}

with

changes as (

    select
        source_id,
        max(account_id) as account_id,
        list_id,
        profile_id,
        event_at,
        {{ ometria.any("lower(trim(event)) = 'list_enter'") }} as enters,
        {{ ometria.any("lower(trim(event)) = 'list_exit'") }} as leaves
    from {{ ref('stg_ometria__member_lists') }}
    where lower(trim(event)) in ('list_enter', 'list_exit')
        and profile_id is not null
        and event_at is not null
    group by source_id, list_id, profile_id, event_at

),

-- A profile that enters and leaves at the same time is afterwards what it was before.
known as (

    select
        changes.*,
        case when not leaves then 1 when not enters then 0 end as membership,
        count(case when not (enters and leaves) then 1 end) over (
            partition by source_id, list_id, profile_id
            order by event_at
            rows between unbounded preceding and current row
        ) as change_number
    from changes

),

after_each as (

    select
        known.*,
        coalesce(max(membership) over (
            partition by source_id, list_id, profile_id, change_number
        ), 0) as is_member
    from known

),

moves as (

    select source_id, account_id, list_id, profile_id, event_at, 1 as move, 1 - is_member as is_member
    from after_each
    where enters and leaves

    union all

    select source_id, account_id, list_id, profile_id, event_at, 2 as move, is_member
    from after_each

),

-- A member cannot enter again, and a non-member cannot leave: a repeated event is not a move.
-- The first event may be an exit, of a profile that was in the list before the first change that
-- Ometria still had.
steps as (

    select
        moves.*,
        lag(is_member) over (
            partition by source_id, list_id, profile_id order by event_at, move
        ) as was_member
    from moves

),

turns as (

    select
        steps.*,
        lead(event_at) over (
            partition by source_id, list_id, profile_id order by event_at, move
        ) as next_at,
        row_number() over (
            partition by source_id, list_id, profile_id order by event_at, move
        ) as turn
    from steps
    where was_member is null or was_member <> is_member

),

periods as (

    select source_id, account_id, list_id, profile_id, event_at as entered_at, next_at as left_at
    from turns
    where is_member = 1

    union all

    select
        source_id,
        account_id,
        list_id,
        profile_id,
        cast(null as {{ ometria.type_instant() }}) as entered_at,
        event_at as left_at
    from turns
    where is_member = 0 and turn = 1

),

numbered as (

    select
        periods.*,
        row_number() over (
            partition by source_id, list_id, profile_id
            order by case when entered_at is null then 0 else 1 end, entered_at, left_at
        ) as period_number
    from periods

)

select
    numbered.source_id,
    numbered.account_id,
    numbered.list_id,
    {% if ometria.has_table('lists') %}
    lists.list_title,
    lists.list_type,
    {% else %}
    cast(null as {{ dbt.type_string() }}) as list_title,
    cast(null as {{ dbt.type_string() }}) as list_type,
    {% endif %}
    numbered.profile_id,
    numbered.period_number,
    numbered.entered_at,
    numbered.left_at,
    {{ ometria.day_of('numbered.entered_at') }} as entered_on,
    {{ ometria.day_of('numbered.left_at') }} as left_on,
    {{ ometria.seconds_until('numbered.entered_at', 'numbered.left_at') }} as seconds_in_list,
    case
        when numbered.left_at is not null then 'left'
        {% if ometria.has_table('lists') %}
        when lists.list_id is null or deleted_lists.record_id is not null then 'list deleted'
        {% endif %}
        {% if ometria.has_table('profiles') %}
        when profiles.profile_id is null or deleted_profiles.record_id is not null
        then 'profile deleted'
        {% endif %}
        else 'member'
    end as status
from numbered
{% if ometria.has_table('lists') %}
left join {{ ref('stg_ometria__lists') }} as lists
    on lists.source_id = numbered.source_id
        and lists.list_id = numbered.list_id
left join {{ ref('int_ometria__deleted_records') }} as deleted_lists
    on deleted_lists.source_id = numbered.source_id
        and deleted_lists.record_id = numbered.list_id
        and deleted_lists.table_name = 'lists'
{% endif %}
{% if ometria.has_table('profiles') %}
left join {{ ref('stg_ometria__profiles') }} as profiles
    on profiles.source_id = numbered.source_id
        and profiles.profile_id = numbered.profile_id
left join {{ ref('int_ometria__deleted_records') }} as deleted_profiles
    on deleted_profiles.source_id = numbered.source_id
        and deleted_profiles.record_id = numbered.profile_id
        and deleted_profiles.table_name = 'profiles'
{% endif %}
