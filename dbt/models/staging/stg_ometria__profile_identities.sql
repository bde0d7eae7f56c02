-- Written by `make docs` from the catalog of ometria-replica.

select
    profile_id,
    identity_type,
    {{ ometria.address('identity_id') }} as identity_id,
    _account_id as account_id,
    __source_id as source_id,
    __sync_key as sync_key,
    __synced_at as synced_at
from {{ source('ometria', 'profile_identities') }}
