{{ config(enabled=ometria.has_table('member_lists')) }}

-- A profile leaves a list before it enters it again, and is in it only once at a time.

select periods.source_id, periods.list_id, periods.profile_id, periods.period_number
from {{ ref('list_membership_periods') }} as periods
inner join {{ ref('list_membership_periods') }} as later
    on later.source_id = periods.source_id
        and later.list_id = periods.list_id
        and later.profile_id = periods.profile_id
        and later.period_number = periods.period_number + 1
where periods.left_at is null or later.entered_at < periods.left_at
