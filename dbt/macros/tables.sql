{#- Whether a table of the replica is there, as the variable ometria_tables says. -#}
{% macro has_table(name) -%}
{%- set tables = var('ometria_tables') -%}
{{ return(tables == 'all' or name in tables) }}
{%- endmacro %}

{#- Whether all versions of the rows of a table are kept. -#}
{% macro has_history(name) -%}
{{ return(ometria.has_table(name) and name in var('ometria_history')) }}
{%- endmacro %}

{#- Whether the state of the replica can be read. -#}
{% macro has_state() -%}
{{ return(var('ometria_state_schema') is not none) }}
{%- endmacro %}
