{{ config(enabled=ometria.has_table('profiles')) }}

{%- set windows = [30, 90, 365] %}

with

profiles as (

    select
        profiles.*,
        case
            when profiles.email is not null
            then count(*) over (partition by profiles.source_id, profiles.email)
        end as profiles_with_email
    from {{ ref('int_ometria__profiles') }} as profiles

){% if ometria.has_table('email_events') %},

events as (

    select source_id, email, send_key, event_kind, event_at
    from {{ ref('int_ometria__email_events') }}
    where email is not null
        and event_at <= {{ ometria.now() }}

),

engagement as (

    select
        source_id,
        email,
        max(case when event_kind = 'sent' then event_at end) as last_sent_at,
        max(case when event_kind = 'opened' then event_at end) as last_opened_at,
        max(case when event_kind = 'clicked' then event_at end) as last_clicked_at,
        max(case when event_kind = 'bounced' then event_at end) as last_bounced_at,
        {{ ometria.count_if("event_kind = 'sent'") }} as sends,
        {{ ometria.count_if("event_kind = 'opened'") }} as opens,
        {{ ometria.count_if("event_kind = 'clicked'") }} as clicks,
        {%- for days in windows %}
        {%- set since = "event_at > " ~ ometria.instant_before(ometria.now(), days) %}
        {{ ometria.count_if("event_kind = 'sent' and " ~ since) }} as sends_{{ days }}_days,
        {{ ometria.count_if("event_kind = 'opened' and " ~ since) }} as opens_{{ days }}_days,
        {{ ometria.count_if("event_kind = 'clicked' and " ~ since) }} as clicks_{{ days }}_days
        {{- "," if not loop.last }}
        {%- endfor %}
    from events
    group by source_id, email

){% endif %}{% if ometria.has_table('unsubscribes') %},

unsubscribes as (

    select
        source_id,
        profile_id,
        count(*) as unsubscribes,
        max(event_at) as last_unsubscribed_at
    from {{ ref('stg_ometria__unsubscribes') }}
    where profile_id is not null
    group by source_id, profile_id

){% endif %}{% if ometria.has_table('member_lists') %},

memberships as (

    select source_id, profile_id, count(*) as lists
    from {{ ref('list_members_current') }}
    group by source_id, profile_id

){% endif %}

select
    profiles.source_id,
    profiles.account_id,
    profiles.profile_id,
    profiles.customer_id,
    profiles.email,
    profiles.email_domain,
    profiles.profiles_with_email,
    profiles.is_email_valid,
    profiles.phone_number,
    profiles.customer_name,
    profiles.first_name,
    profiles.last_name,
    profiles.gender,
    profiles.date_of_birth,
    profiles.zipcode,
    profiles.city,
    profiles.state,
    profiles.country,
    profiles.timezone,
    profiles.lifecycle_status,
    profiles.account_created_date as account_created_at,
    profiles.marketing_optin,
    profiles.consent,
    profiles.marketing_optin_date as opted_in_at,
    profiles.marketing_optout_date as opted_out_at,
    {% if ometria.has_table('unsubscribes') %}
    coalesce(unsubscribes.unsubscribes, 0) as unsubscribes,
    unsubscribes.last_unsubscribed_at,
    {% else %}
    cast(null as {{ dbt.type_bigint() }}) as unsubscribes,
    cast(null as {{ ometria.type_instant() }}) as last_unsubscribed_at,
    {% endif %}
    {% if ometria.has_table('member_lists') %}
    coalesce(memberships.lists, 0) as lists,
    {% else %}
    cast(null as {{ dbt.type_bigint() }}) as lists,
    {% endif %}
    {% if ometria.has_table('email_events') %}
    engagement.last_sent_at,
    engagement.last_opened_at,
    engagement.last_clicked_at,
    engagement.last_bounced_at,
    coalesce(engagement.sends, 0) as sends,
    coalesce(engagement.opens, 0) as opens,
    coalesce(engagement.clicks, 0) as clicks,
    {%- for days in windows %}
    {%- for figure in ['sends', 'opens', 'clicks'] %}
    coalesce(engagement.{{ figure }}_{{ days }}_days, 0) as {{ figure }}_{{ days }}_days,
    {%- endfor %}
    {%- endfor %}
    {% else %}
    {%- for figure in ['last_sent_at', 'last_opened_at', 'last_clicked_at', 'last_bounced_at'] %}
    cast(null as {{ ometria.type_instant() }}) as {{ figure }},
    {%- endfor %}
    {%- for days in [''] + windows %}
    {%- for figure in ['sends', 'opens', 'clicks'] %}
    cast(null as {{ dbt.type_bigint() }}) as {{ figure }}{{ "_%s_days" % days if days }},
    {%- endfor %}
    {%- endfor %}
    {% endif %}
    {{ ometria.now() }} as counted_until,
    profiles.synced_at
from profiles
{% if ometria.has_table('email_events') %}
left join engagement
    on engagement.source_id = profiles.source_id
        and engagement.email = profiles.email
{% endif %}
{% if ometria.has_table('unsubscribes') %}
left join unsubscribes
    on unsubscribes.source_id = profiles.source_id
        and unsubscribes.profile_id = profiles.profile_id
{% endif %}
{% if ometria.has_table('member_lists') %}
left join memberships
    on memberships.source_id = profiles.source_id
        and memberships.profile_id = profiles.profile_id
{% endif %}
