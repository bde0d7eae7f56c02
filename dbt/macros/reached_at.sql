{#-
    How far the table of a source has been read, for `dbt source freshness`: its watermark, of the
    account that is the furthest behind. Rows alone do not say it: those that do not change are not
    written again. Without the right to read the state, set ometria_state_schema to null: the newest
    load time of a row takes its place.
-#}
{% macro reached_at() -%}
{%- set rows = "select max(__synced_at) from " ~ this -%}
{%- set state = var('ometria_state_schema', 'ometria_replica') -%}
{%- if state -%}
{%- set watermarks = api.Relation.create(
    database=this.database, schema=state, identifier='watermarks', type='table'
) -%}
select coalesce(
    (
        select min(reached.reached_at)
        from (
            select source_id, max(reached_at) as reached_at
            from {{ watermarks }}
            where table_name = '{{ this.identifier }}'
                and (kind = 'watermark' or kind like 'listed %')
            group by source_id
        ) as reached
    ),
    ({{ rows }})
)
{%- else -%}
{{ rows }}
{%- endif -%}
{%- endmacro %}
