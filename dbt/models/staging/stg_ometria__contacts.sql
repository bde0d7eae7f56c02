-- Written by `make docs` from the catalog of ometria-replica.

select
    collection,
    contact_id,
    profile_id,
    customer_id,
    {{ ometria.address('email') }} as email,
    phone_number,
    marketing_optin,
    source,
    store_ids,
    object_version,
    created_at,
    updated_at,
    object_observed_at,
    observed_at,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'contacts') }}
