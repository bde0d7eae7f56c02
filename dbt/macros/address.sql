{#-
    An address in lower case and without white space around it; an empty one is null. So the tables
    can be joined by it, and so ometria-replica hashes it.
-#}
{% macro address(column) -%}
{%- set space = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)" -%}
nullif(lower({{ adapter.dispatch('trimmed', 'ometria')(column, space) }}), '')
{%- endmacro %}

{% macro default__trimmed(column, space) -%}
trim({{ column }}, {{ space }})
{%- endmacro %}

{% macro postgres__trimmed(column, space) -%}
btrim({{ column }}, {{ space }})
{%- endmacro %}

{% macro redshift__trimmed(column, space) -%}
btrim({{ column }}, {{ space }})
{%- endmacro %}

{% macro databricks__trimmed(column, space) -%}
btrim({{ column }}, {{ space }})
{%- endmacro %}
