{#- A text as a literal of SQL. -#}
{% macro text(value) -%}
'{{ adapter.dispatch('escaped', 'ometria')(value | string) }}'
{%- endmacro %}

{% macro default__escaped(value) -%}
{{ value | replace("'", "''") }}
{%- endmacro %}

{#- In these, a backslash in a literal is the beginning of an escape. -#}
{% macro snowflake__escaped(value) -%}
{{ value | replace("\\", "\\\\") | replace("'", "''") }}
{%- endmacro %}

{% macro redshift__escaped(value) -%}
{{ value | replace("\\", "\\\\") | replace("'", "''") }}
{%- endmacro %}

{% macro bigquery__escaped(value) -%}
{{ value | replace("\\", "\\\\") | replace("'", "\\'") }}
{%- endmacro %}

{% macro databricks__escaped(value) -%}
{{ value | replace("\\", "\\\\") | replace("'", "\\'") }}
{%- endmacro %}

{% macro spark__escaped(value) -%}
{{ value | replace("\\", "\\\\") | replace("'", "\\'") }}
{%- endmacro %}

{#-
    The name of the group to which a value belongs, without regard to case and space around it.
    *groups* maps each name to a list of values. A value of no group is *other*; null stays null.
-#}
{% macro group_of(value, groups, other) -%}
case
    {%- for name, values in groups.items() if values %}
    when lower(trim({{ value }})) in (
        {%- for each in values -%}
        {{ ometria.text(each | string | lower | trim) }}{{ ", " if not loop.last }}
        {%- endfor -%}
    ) then {{ ometria.text(name) }}
    {%- endfor %}
    when {{ value }} is not null then {{ ometria.text(other) }}
end
{%- endmacro %}

{#- What happened to a mail: sent, opened, … as the variable ometria_event_types says. -#}
{% macro event_kind(event_type) -%}
{{ ometria.group_of(event_type, var('ometria_event_types'), 'other') }}
{%- endmacro %}

{#- The kind of a bounce: hard, soft, … as the variable ometria_bounce_classes says. -#}
{% macro bounce_kind(bounce_class) -%}
{{ ometria.group_of(bounce_class, var('ometria_bounce_classes'), 'other') }}
{%- endmacro %}

{#- The consent to marketing: opted_in, opted_out, or unknown if nothing says either. -#}
{% macro consent(marketing_optin) -%}
coalesce({{ ometria.group_of(marketing_optin, var('ometria_consent_values'), 'unknown') }}, 'unknown')
{%- endmacro %}

{#- A share, as a floating-point number; null of nothing. -#}
{% macro ratio(part, whole) -%}
cast({{ part }} as {{ ometria.type_double() }}) / nullif({{ whole }}, 0)
{%- endmacro %}

{#- How often a condition holds. -#}
{% macro count_if(condition) -%}
count(case when {{ condition }} then 1 end)
{%- endmacro %}

{#- Whether a condition holds for any row. -#}
{% macro any(condition) -%}
max(case when {{ condition }} then 1 else 0 end) = 1
{%- endmacro %}
