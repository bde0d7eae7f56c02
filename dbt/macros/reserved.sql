{#- The name of a column that Redshift reserves: quoted there, and as it is elsewhere. -#}
{% macro reserved(name) -%}
{{ return(adapter.dispatch('reserved', 'ometria')(name)) }}
{%- endmacro %}

{% macro default__reserved(name) -%}
{{ return(name) }}
{%- endmacro %}

{% macro redshift__reserved(name) -%}
{{ return('"' ~ name ~ '"') }}
{%- endmacro %}
