-- What a client asks for, read with suspicion. Each function either returns a clean value or refuses by name.

create or replace function private.wrong(p_field text, p_message text)
returns void language plpgsql set search_path = '' as $$
begin
  perform private.refuse(400, 'invalid', p_message, p_field);
end $$;

-- An object that came as text which holds it, as some clients and gateways send one.
create or replace function private.unwrapped(p_object jsonb)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  return case jsonb_typeof(p_object) when 'string' then (p_object #>> '{}')::jsonb else p_object end;
exception when invalid_text_representation then
  return p_object;
end $$;

-- Text up to a number of characters; absent is null.
create or replace function private.text_of(p_request jsonb, p_field text, p_limit integer)
returns text language plpgsql stable set search_path = '' as $$
declare
  found jsonb := p_request -> p_field;
begin
  if coalesce(jsonb_typeof(found), 'null') = 'null' then
    return null;
  end if;
  if jsonb_typeof(found) <> 'string' then
    perform private.wrong(p_field, format('%s must be text.', p_field));
  end if;
  if char_length(found #>> '{}') > p_limit then
    perform private.wrong(p_field, format('%s is longer than %s characters.', p_field, p_limit));
  end if;
  return found #>> '{}';
end $$;

create or replace function private.uuid_of(p_request jsonb, p_field text)
returns uuid language plpgsql stable set search_path = '' as $$
declare
  found text := private.text_of(p_request, p_field, 36);
begin
  if found !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    perform private.wrong(p_field, format('%s must be a UUID.', p_field));
  end if;
  return found::uuid;
end $$;

create or replace function private.object_of(p_request jsonb, p_field text)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  found jsonb := coalesce(nullif(p_request -> p_field, 'null'), '{}');
begin
  if jsonb_typeof(found) <> 'object' then
    perform private.wrong(p_field, format('%s must be an object.', p_field));
  end if;
  if octet_length(found::text) > 8192 then
    perform private.wrong(p_field, format('%s is larger than 8 kB.', p_field));
  end if;
  return found;
end $$;

-- A wish that stands in `config`, else in `metadata`: null where there is none.
create or replace function private.number_of(p_request jsonb, p_field text)
returns numeric language plpgsql stable set search_path = '' as $$
declare
  found jsonb := coalesce(nullif(p_request #> array['config', p_field], 'null'),
                          nullif(p_request #> array['metadata', p_field], 'null'));
begin
  if found is null then
    return null;
  end if;
  if jsonb_typeof(found) <> 'number' then
    perform private.wrong(p_field, format('%s must be a number.', p_field));
  end if;
  return (found #>> '{}')::numeric;
end $$;

create or replace function private.outputs_of(p_kind public.job_types, p_request jsonb)
returns integer language plpgsql stable set search_path = '' as $$
declare
  offered integer[] := p_kind.outputs;
  wish numeric;
begin
  if cardinality(offered) = 1 then
    return offered[1];
  end if;
  wish := coalesce(private.number_of(p_request, 'num_images'), offered[cardinality(offered)]);
  if not wish = any (offered) then
    perform private.wrong('num_images', format('The number of images must be one of %s.', array_to_string(offered, ', ')));
  end if;
  return wish::integer;
end $$;

-- The wish, 0 included; without one, or with a negative one, what the workers take too: 31 bits of the id's SHA-256.
create or replace function private.seed_of(p_request jsonb, p_job uuid)
returns bigint language plpgsql stable set search_path = '' as $$
declare
  wish numeric := private.number_of(p_request, 'seed');
begin
  if wish >= 4294967296 or wish <> trunc(wish) then
    perform private.wrong('seed', 'seed must be a whole number below 4294967296.');
  end if;
  if wish >= 0 then
    return wish::bigint;
  end if;
  return ('x' || substr(encode(sha256(convert_to(p_job::text, 'UTF8')), 'hex'), 1, 8))::bit(32)::bigint >> 1;
end $$;

-- The wish, never above what the deployment and the account may. What the client's metadata says can only be stricter.
create or replace function private.rating_of(p_request jsonb, p_profile public.profiles)
returns public.content_rating language plpgsql stable set search_path = '' as $$
declare
  wish text := coalesce(private.text_of(p_request, 'rating', 10), private.setting('default_rating') #>> '{}', 'sfw');
  ceiling public.content_rating := least(p_profile.max_rating, (private.setting('max_rating') #>> '{}')::public.content_rating);
begin
  if wish not in ('sfw', 'adult') then
    perform private.wrong('rating', 'rating must be sfw or adult.');
  end if;
  if 'sfw' in (p_request #>> '{metadata,rating}', p_request #>> '{metadata,content_type}') then
    return 'sfw';
  end if;
  if wish::public.content_rating > ceiling then
    perform private.refuse(403, 'rating', 'Adult content is not available for this account.');
  end if;
  return wish::public.content_rating;
end $$;

-- Verified, not over, not revoked, and its picture is the one that was looked at.
create or replace function private.in_force(p_consent public.consents)
returns boolean language sql stable security definer set search_path = '' as $$
  select p_consent.verified_at is not null and p_consent.revoked_at is null
    and coalesce(p_consent.expires_at > now(), true)
    and exists (
      select from storage.objects
      where id = p_consent.object_id and bucket_id = 'reference_images' and name = p_consent.reference_path)
$$;

-- A name as it is without its address's encoding. Null for what decodes to no text, or to another encoding.
create or replace function private.decoded(p_text text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  plain text;
begin
  select convert_from(string_agg(
    case when part ~* '^%[0-9a-f]{2}$' then decode(substr(part, 2), 'hex') else convert_to(part, 'UTF8') end,
    ''::bytea order by place), 'UTF8') into plain
  from regexp_matches(p_text, '%[0-9A-Fa-f]{2}|[^%]+|%', 'g') with ordinality as found(parts, place), unnest(parts) as part;
  return case when plain !~ '%' then plain end;
exception when character_not_in_repertoire or untranslatable_character then
  return null;
end $$;

-- The object of that bucket which an address or a path can only mean, as the workers read it.
create or replace function private.reference_path(p_url text)
returns text language sql immutable set search_path = '' as $$
  select case when p_url like '%://%' then private.decoded(substring(p_url from
      '^https?://[^/?#]+/storage/v1/object/(?:sign/|public/|authenticated/)?reference_images/([^?#]+)(?:[?#]|$)'))
    else regexp_replace(p_url, '^reference_images/', '') end
$$;

-- The consents that cover the pictures a request points at, one for each of them; none where one picture has none.
create or replace function private.consents_for(p_user uuid, p_request jsonb)
returns setof public.consents language sql stable security definer set search_path = '' as $$
  with wanted as (
    select distinct private.reference_path(value #>> '{}') as path
    from unnest(array['config', 'metadata']) as place,
      jsonb_each(coalesce(nullif(p_request -> place, 'null'), '{}'))
    where jsonb_typeof(value) = 'string' and value <> '""' and key in (
      'reference_image_url', 'reference_image', 'reference_url', 'image',
      'first_frame', 'start_reference_url', 'last_frame', 'end_reference_url')
  ),
  found as (
    select distinct on (path) c.id
    from wanted
    join public.consents c on c.reference_path = path
    where c.user_id = p_user and private.in_force(c)
    order by path, c.verified_at desc
  )
  select c.* from public.consents c join found using (id)
  where (select count(*) from found) = (select count(*) from wanted)
  order by c.id
$$;

-- Their ids as one text, which a message carries and a signature names.
create or replace function private.consent_ids(p_user uuid, p_request jsonb)
returns text language sql stable set search_path = '' as $$
  select string_agg(id::text, ',' order by id) from private.consents_for(p_user, p_request)
$$;

-- The request as it is kept: only what has a meaning, in our own spelling.
create or replace function private.clean(p_request jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  p_request := private.unwrapped(p_request);
  if p_request is null or jsonb_typeof(p_request) <> 'object' then
    perform private.wrong('body', 'The request must be an object.');
  end if;
  return jsonb_build_object(
    'job_type', private.text_of(p_request, 'job_type', 64),
    'prompt', coalesce(private.text_of(p_request, 'prompt', 4000), ''),
    'negative_prompt', private.text_of(p_request, 'negative_prompt', 2000),
    'config', private.object_of(p_request, 'config'),
    'metadata', private.object_of(p_request, 'metadata'),
    'draft', coalesce(p_request -> 'draft', 'false') = 'true',
    'rating', private.text_of(p_request, 'rating', 10),
    'image_id', private.uuid_of(p_request, 'image_id'),
    'video_id', private.uuid_of(p_request, 'video_id'),
    'character_id', private.uuid_of(p_request, 'character_id'),
    'compel_enabled', case when p_request -> 'compel_enabled' = 'true' then true end,
    'compel_weights', private.text_of(p_request, 'compel_weights', 2000),
    'idempotency_key', private.text_of(p_request, 'idempotency_key', 200)
  );
end $$;

create or replace function private.without_nulls(p_object jsonb)
returns jsonb language sql immutable set search_path = '' as $$
  select coalesce(jsonb_object_agg(key, value) filter (where value <> 'null'), '{}') from jsonb_each(p_object)
$$;
