{{ config(enabled=ometria.has_table('member_lists')) }}

select
    periods.source_id,
    periods.account_id,
    periods.list_id,
    periods.list_title,
    periods.list_type,
    periods.profile_id,
    {% if ometria.has_table('profiles') %}
    profiles.email,
    {% else %}
    cast(null as {{ dbt.type_string() }}) as email,
    {% endif %}
    periods.entered_at,
    periods.entered_on,
    periods.period_number as times_entered
from {{ ref('list_membership_periods') }} as periods
{% if ometria.has_table('profiles') %}
inner join {{ ref('stg_ometria__profiles') }} as profiles
    on profiles.source_id = periods.source_id
        and profiles.profile_id = periods.profile_id
{% endif %}
where periods.status = 'member'
