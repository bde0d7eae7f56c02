{#- An address in lower case and without space around it; an empty one is null. -#}
{% macro address(column) -%}
nullif(lower(trim({{ column }})), '')
{%- endmacro %}
