{#-
    The settings that the rows of email_sends depend on: if one changes, every row is rebuilt.
    The number is that of the statement in models/marts/email_sends.sql.
-#}
{% macro email_sends_settings() -%}
{{ return(local_md5(tojson([
    1,
    var('ometria_timezone'),
    var('ometria_event_types'),
    var('ometria_bounce_classes'),
    ometria.has_table('unsubscribes'),
], sort_keys=true))) }}
{%- endmacro %}

{#- Remove the sends of which no event is left: erased people, and events that are kept no longer. -#}
{% macro remove_gone_sends() -%}
{% if is_incremental() -%}
delete from {{ this }}
where not exists (
    select 1
    from {{ ref('int_ometria__email_events') }} as events
    where events.source_id = {{ this.identifier }}.source_id
        and events.send_key = {{ this.identifier }}.send_key
)
{%- endif %}
{%- endmacro %}
