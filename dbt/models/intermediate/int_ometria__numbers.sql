-- The numbers from 0 to 9,999, to make days of: 27 years.

with

digits as (

    {%- for digit in range(10) %}
    select {{ digit }} as digit{{ " union all" if not loop.last }}
    {%- endfor %}

)

select ones.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit as number
from digits as ones
cross join digits as tens
cross join digits as hundreds
cross join digits as thousands
