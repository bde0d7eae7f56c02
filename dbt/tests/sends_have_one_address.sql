{{ config(enabled=ometria.has_table('email_events'), severity='warn') }}

-- That the events of one send_id are of one mail to one recipient is inferred. If they are not,
-- email_sends counts too few sends.

select source_id, send_id, count(distinct email) as addresses
from {{ ref('int_ometria__email_events') }}
where send_id is not null
group by source_id, send_id
having count(distinct email) > 1
