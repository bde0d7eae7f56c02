-- The records that a full read has not found in Ometria any more; none if the state of the replica
-- cannot be read.

{% if ometria.has_state() %}

select
    source_id,
    table_name,
    record_id,
    first_missed_at
from {{ source('ometria_state', 'deleted_upstream') }}

{% else %}

select
    cast(null as {{ dbt.type_string() }}) as source_id,
    cast(null as {{ dbt.type_string() }}) as table_name,
    cast(null as {{ dbt.type_string() }}) as record_id,
    cast(null as {{ ometria.type_instant() }}) as first_missed_at
from (select 1 as one) as nothing
where one = 0

{% endif %}
