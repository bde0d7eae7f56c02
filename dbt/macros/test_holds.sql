{#- Fails for each row for which *condition* is false. A condition that is null does not fail. -#}
{% test holds(model, condition) %}

select *
from {{ model }}
where not ({{ condition }})

{% endtest %}
