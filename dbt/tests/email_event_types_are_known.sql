{{ config(enabled=ometria.has_table('email_events'), severity='warn') }}

-- Ometria documents no event types. One that the variable ometria_event_types lacks is in no figure
-- of a mart.

select source_id, event_type, count(*) as events
from {{ ref('int_ometria__email_events') }}
where event_kind = 'other' or event_kind is null
group by source_id, event_type
