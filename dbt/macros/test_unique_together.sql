{#- Fails for each group of rows that have the same values in all of *columns*. Nulls are equal. -#}
{% test unique_together(model, columns) %}

select
    {{ columns | join(',\n    ') }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1

{% endtest %}
