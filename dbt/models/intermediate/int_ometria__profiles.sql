{{ config(enabled=ometria.has_table('profiles')) }}

-- The profiles that Ometria has: without those that a full read has not found any more, whose rows
-- may still be there.

select
    profiles.*,
    {{ ometria.domain_of('profiles.email') }} as email_domain,
    coalesce(nullif(trim(profiles.lifecycle_status), ''), 'unknown') as lifecycle,
    {{ ometria.consent('profiles.marketing_optin') }} as consent
from {{ ref('stg_ometria__profiles') }} as profiles
left join {{ ref('int_ometria__deleted_records') }} as deleted
    on deleted.source_id = profiles.source_id
        and deleted.record_id = profiles.profile_id
        and deleted.table_name = 'profiles'
where deleted.record_id is null
