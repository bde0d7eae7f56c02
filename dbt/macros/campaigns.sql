{#- The figures of a group of sends: counts first, and rates of them. -#}
{% macro send_figures() -%}
{{ ometria.count_if('is_sent') }} as sends,
    {{ ometria.count_if('not is_sent') }} as sends_not_seen,
    {{ ometria.count_if('is_sent and is_delivered') }} as delivered,
    {{ ometria.count_if('is_sent and is_bounced') }} as bounced,
    {%- for kind in ['hard', 'soft', 'block', 'admin'] %}
    {{ ometria.count_if("is_sent and bounce_kind = '" ~ kind ~ "'") }} as {{ kind }}_bounced,
    {%- endfor %}
    {{ ometria.count_if('is_sent and is_delayed') }} as delayed,
    {{ ometria.count_if('is_sent and is_opened') }} as unique_opens,
    cast(sum(opens) as {{ dbt.type_bigint() }}) as opens,
    {{ ometria.count_if('is_sent and is_clicked') }} as unique_clicks,
    cast(sum(clicks) as {{ dbt.type_bigint() }}) as clicks,
    {{ ometria.count_if('is_sent and is_unsubscribed') }} as unsubscribed,
    {{ ometria.count_if('is_sent and is_complained') }} as complained
{%- endmacro %}

{#- The rates of the columns of send_figures. -#}
{% macro send_rates() -%}
{{ ometria.ratio('delivered', 'sends') }} as delivery_rate,
    {{ ometria.ratio('bounced', 'sends') }} as bounce_rate,
    {{ ometria.ratio('unique_opens', 'delivered') }} as open_rate,
    {{ ometria.ratio('unique_clicks', 'delivered') }} as click_rate,
    {{ ometria.ratio('unique_clicks', 'unique_opens') }} as click_to_open_rate,
    {{ ometria.ratio('unsubscribed', 'delivered') }} as unsubscribe_rate,
    {{ ometria.ratio('complained', 'delivered') }} as complaint_rate
{%- endmacro %}
