{%- set from_history = ometria.has_history('profiles') %}

{{ config(
    enabled=ometria.has_table('profiles'),
    materialized='table' if from_history else 'incremental',
    unique_key=['source_id', 'day', 'lifecycle_status', 'consent'],
    incremental_strategy=ometria.incremental_strategy(),
    full_refresh=none if from_history else false,
    on_schema_change='append_new_columns'
) }}

{% if from_history %}

-- From all versions of the profiles: each adds one to its status on the day on which it begins, and
-- takes it away on the day on which it ends. What ends on the day of its begin is in no day.

with

versions as (

    select
        __source_id as source_id,
        _account_id as account_id,
        coalesce(nullif(trim(lifecycle_status), ''), 'unknown') as lifecycle_status,
        {{ ometria.consent('marketing_optin') }} as consent,
        {{ ometria.day_of('valid_from') }} as begins_on,
        {{ ometria.day_of('valid_to') }} as ends_on
    from {{ source('ometria_history', 'profiles') }}
    where not is_deleted

),

changes as (

    select source_id, account_id, lifecycle_status, consent, begins_on as day, 1 as change
    from versions

    union all

    select source_id, account_id, lifecycle_status, consent, ends_on as day, -1 as change
    from versions
    where ends_on is not null

),

changes_by_day as (

    select
        source_id,
        account_id,
        lifecycle_status,
        consent,
        day,
        sum(change) as change
    from changes
    group by source_id, account_id, lifecycle_status, consent, day

),

statuses as (

    select source_id, account_id, lifecycle_status, consent, min(day) as first_day
    from changes_by_day
    group by source_id, account_id, lifecycle_status, consent

),

days as (

    select
        statuses.source_id,
        statuses.account_id,
        statuses.lifecycle_status,
        statuses.consent,
        {{ ometria.days_after('statuses.first_day', 'numbers.number') }} as day
    from statuses
    inner join {{ ref('int_ometria__numbers') }} as numbers
        on {{ ometria.days_after('statuses.first_day', 'numbers.number') }}
            <= {{ ometria.day_of(ometria.now()) }}

)

select
    days.source_id,
    days.account_id,
    days.day,
    days.lifecycle_status,
    days.consent,
    cast(sum(coalesce(changes_by_day.change, 0)) over (
        partition by days.source_id, days.account_id, days.lifecycle_status, days.consent
        order by days.day
        rows between unbounded preceding and current row
    ) as {{ dbt.type_bigint() }}) as profiles
from days
left join changes_by_day
    on changes_by_day.source_id = days.source_id
        and changes_by_day.account_id = days.account_id
        and changes_by_day.lifecycle_status = days.lifecycle_status
        and changes_by_day.consent = days.consent
        and changes_by_day.day = days.day

{% else %}

-- Without versions, nothing says what the profiles were yesterday: each run counts those of its
-- day, and replaces what an earlier run of the day has counted. A full refresh keeps the days.

with

counts as (

    select
        source_id,
        account_id,
        lifecycle as lifecycle_status,
        consent,
        count(*) as profiles
    from {{ ref('int_ometria__profiles') }}
    group by source_id, account_id, lifecycle, consent

){% if is_incremental() %},

-- A status that nobody has any more is counted too.
statuses as (

    select distinct source_id, account_id, lifecycle_status, consent
    from (
        select source_id, account_id, lifecycle_status, consent from counts
        union all
        select source_id, account_id, lifecycle_status, consent from {{ this }}
    ) as known

){% endif %}

select
    statuses.source_id,
    statuses.account_id,
    {{ ometria.day_of(ometria.now()) }} as day,
    statuses.lifecycle_status,
    statuses.consent,
    coalesce(counts.profiles, 0) as profiles
from {{ "statuses" if is_incremental() else "counts as statuses" }}
left join counts
    on counts.source_id = statuses.source_id
        and counts.account_id = statuses.account_id
        and counts.lifecycle_status = statuses.lifecycle_status
        and counts.consent = statuses.consent

{% endif %}
