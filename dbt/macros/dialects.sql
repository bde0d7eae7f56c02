{#-
    The SQL that differs between warehouses. DuckDB and PostgreSQL are tested; the statements of the
    others are parsed, and run by DuckDB after a translation: see tests/dbt/test_dialects.py.
-#}

{#- The type of a floating-point number of 64 bits. -#}
{% macro type_double() -%}{{ adapter.dispatch('type_double', 'ometria')() }}{%- endmacro %}
{% macro default__type_double() -%}double precision{%- endmacro %}
{% macro bigquery__type_double() -%}float64{%- endmacro %}
{% macro databricks__type_double() -%}double{%- endmacro %}
{% macro spark__type_double() -%}double{%- endmacro %}

{#- The type of an instant. -#}
{% macro type_instant() -%}{{ adapter.dispatch('type_instant', 'ometria')() }}{%- endmacro %}
{% macro default__type_instant() -%}timestamp with time zone{%- endmacro %}
{% macro bigquery__type_instant() -%}timestamp{%- endmacro %}
{% macro databricks__type_instant() -%}timestamp{%- endmacro %}
{% macro spark__type_instant() -%}timestamp{%- endmacro %}

{#- The moment to which "the last 30 days" counts back: the variable ometria_now, or the run's. -#}
{% macro now() -%}
{%- if var('ometria_now') -%}
cast({{ ometria.text(var('ometria_now')) }} as {{ ometria.type_instant() }})
{%- else -%}
{{ adapter.dispatch('now', 'ometria')() }}
{%- endif -%}
{%- endmacro %}
{% macro default__now() -%}current_timestamp{%- endmacro %}
{% macro bigquery__now() -%}current_timestamp(){%- endmacro %}
{% macro databricks__now() -%}current_timestamp(){%- endmacro %}
{% macro redshift__now() -%}cast(getdate() as timestamp with time zone){%- endmacro %}

{#- The day of an instant, in the time zone of the variable ometria_timezone. -#}
{% macro day_of(instant) -%}
{{ adapter.dispatch('day_of', 'ometria')(instant, ometria.text(var('ometria_timezone'))) }}
{%- endmacro %}
{% macro default__day_of(instant, zone) -%}
cast({{ instant }} at time zone {{ zone }} as date)
{%- endmacro %}
{% macro bigquery__day_of(instant, zone) -%}
date({{ instant }}, {{ zone }})
{%- endmacro %}
{% macro snowflake__day_of(instant, zone) -%}
to_date(convert_timezone({{ zone }}, {{ instant }}))
{%- endmacro %}
{% macro databricks__day_of(instant, zone) -%}
to_date(convert_timezone(current_timezone(), {{ zone }}, cast({{ instant }} as timestamp_ntz)))
{%- endmacro %}

{#- The day that is so many days after another; *days* is an expression. -#}
{% macro days_after(day, days) -%}
{{ adapter.dispatch('days_after', 'ometria')(day, days) }}
{%- endmacro %}
{% macro default__days_after(day, days) -%}
({{ day }} + cast({{ days }} as integer))
{%- endmacro %}
{% macro bigquery__days_after(day, days) -%}
date_add({{ day }}, interval {{ days }} day)
{%- endmacro %}
{% macro snowflake__days_after(day, days) -%}
dateadd(day, {{ days }}, {{ day }})
{%- endmacro %}
{% macro redshift__days_after(day, days) -%}
cast(dateadd(day, {{ days }}, {{ day }}) as date)
{%- endmacro %}
{% macro databricks__days_after(day, days) -%}
date_add({{ day }}, cast({{ days }} as integer))
{%- endmacro %}

{#- The instant that is so many times 24 hours before another; *days* is a number. -#}
{% macro instant_before(instant, days) -%}
{{ adapter.dispatch('instant_before', 'ometria')(instant, days * 24) }}
{%- endmacro %}
{% macro default__instant_before(instant, hours) -%}
({{ instant }} - interval '{{ hours }} hours')
{%- endmacro %}
{% macro bigquery__instant_before(instant, hours) -%}
timestamp_sub({{ instant }}, interval {{ hours }} hour)
{%- endmacro %}
{% macro snowflake__instant_before(instant, hours) -%}
dateadd(hour, -{{ hours }}, {{ instant }})
{%- endmacro %}
{% macro redshift__instant_before(instant, hours) -%}
dateadd(hour, -{{ hours }}, {{ instant }})
{%- endmacro %}
{% macro databricks__instant_before(instant, hours) -%}
({{ instant }} - interval '{{ hours }}' hour)
{%- endmacro %}

{#- The whole seconds from one instant to a later one; null if it is not later, or either is null. -#}
{% macro seconds_until(first, last) -%}
case when {{ last }} >= {{ first }} then {{ adapter.dispatch('seconds_until', 'ometria')(first, last) }} end
{%- endmacro %}
{% macro default__seconds_until(first, last) -%}
cast(floor(extract(epoch from ({{ last }} - {{ first }}))) as bigint)
{%- endmacro %}
{% macro duckdb__seconds_until(first, last) -%}
date_sub('second', {{ first }}, {{ last }})
{%- endmacro %}
{% macro bigquery__seconds_until(first, last) -%}
timestamp_diff({{ last }}, {{ first }}, second)
{%- endmacro %}
{% macro snowflake__seconds_until(first, last) -%}
floor(datediff(microsecond, {{ first }}, {{ last }}) / 1000000)
{%- endmacro %}
{% macro redshift__seconds_until(first, last) -%}
cast(floor(datediff(microsecond, {{ first }}, {{ last }}) / 1000000.0) as bigint)
{%- endmacro %}
{% macro databricks__seconds_until(first, last) -%}
timestampdiff(second, {{ first }}, {{ last }})
{%- endmacro %}

{#- The domain of an address, after its last @; null without one, as for a pseudonym. -#}
{% macro domain_of(address) -%}
case
    when {{ address }} like '%@%'
    then nullif({{ adapter.dispatch('domain_of', 'ometria')(address) }}, '')
end
{%- endmacro %}
{% macro default__domain_of(address) -%}
reverse(split_part(reverse({{ address }}), '@', 1))
{%- endmacro %}
{% macro bigquery__domain_of(address) -%}
array_reverse(split({{ address }}, '@'))[offset(0)]
{%- endmacro %}

{#- The strategy by which an incremental model replaces rows of its unique key. -#}
{% macro incremental_strategy() -%}
{{ return('merge' if target.type in ('bigquery', 'databricks', 'spark') else 'delete+insert') }}
{%- endmacro %}
