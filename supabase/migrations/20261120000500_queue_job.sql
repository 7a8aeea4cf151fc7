-- From a request to rows and a message, in one transaction. The user's profile is locked, so that everything which is
-- counted per user is counted one request at a time.

create or replace function private.admit(p_profile public.profiles, p_tier public.tiers, p_kind public.job_types)
returns void language plpgsql set search_path = '' as $$
declare
  today timestamptz := date_trunc('day', now(), 'UTC');
  waiting integer;
  taken integer;
begin
  if private.setting('accepting_jobs') = 'false' then
    perform private.refuse(503, 'closed', 'New jobs are not taken at the moment.');
  end if;
  if p_profile.suspended then
    perform private.refuse(403, 'suspended', 'This account is suspended.');
  end if;
  -- Texts are counted apart: a prompt in better words must not wait for pictures to be done.
  select count(*) into waiting from public.jobs j join public.job_types t on t.type = j.job_type
  where j.user_id = p_profile.id and j.status = 'queued' and (t.media = 'text') = (p_kind.media = 'text');
  if waiting >= p_tier.waiting_jobs then
    perform private.refuse(429, 'waiting', format('%s jobs are waiting already.', waiting));
  end if;
  -- By the ledger, which users cannot shorten.
  select count(*) into taken from public.credit_ledger l join public.job_types t on t.type = l.reason
  where l.user_id = p_profile.id and l.created_at >= today and l.kind = 'reserve'
    and (t.media = 'text') = (p_kind.media = 'text')
    and not exists (select from public.credit_ledger r where r.job_id = l.job_id and r.kind = 'refund');
  if taken >= p_tier.daily_jobs then
    perform private.refuse(429, 'quota', format('The daily quota of %s jobs is used up.', p_tier.daily_jobs),
      ceil(extract(epoch from today + interval '1 day' - now()))::text);
  end if;
end $$;

create or replace function private.reserve(p_profile public.profiles, p_job public.jobs)
returns void language plpgsql set search_path = '' as $$
begin
  if p_profile.credits < p_job.credits then
    perform private.refuse(402, 'credits', format('This costs %s credits, %s are left.', p_job.credits, p_profile.credits));
  end if;
  perform private.pay(p_job.user_id, 'reserve', -p_job.credits, p_job.id, p_job.job_type);
end $$;

-- The rows that the result will fill: the first may be one that the client made before.
create or replace function private.make_media(p_job public.jobs, p_media public.media_kind, p_outputs integer, p_first uuid)
returns uuid language plpgsql set search_path = '' as $$
declare
  first uuid := coalesce(p_first, gen_random_uuid());
  made uuid;
begin
  if p_media = 'image' then
    insert into public.images as old (id, user_id, job_id, image_index, prompt, bucket)
    select case i when 0 then first else gen_random_uuid() end, p_job.user_id, p_job.id, i,
      p_job.metadata ->> 'prompt', p_job.job_type
    from generate_series(0, p_outputs - 1) as i
    on conflict (id) do update set job_id = excluded.job_id, image_index = 0, prompt = excluded.prompt, bucket = excluded.bucket
      where old.user_id = excluded.user_id and old.job_id is null and old.status = 'queued';
    select id into made from public.images where id = first and job_id = p_job.id;
  elsif p_media = 'video' then
    insert into public.videos as old (id, user_id, job_id, prompt, bucket)
    values (first, p_job.user_id, p_job.id, p_job.metadata ->> 'prompt', p_job.job_type)
    on conflict (id) do update set job_id = excluded.job_id, prompt = excluded.prompt, bucket = excluded.bucket
      where old.user_id = excluded.user_id and old.job_id is null and old.status = 'queued';
    select id into made from public.videos where id = first and job_id = p_job.id;
  else
    return null;
  end if;
  if made is null then
    perform private.wrong(p_media || '_id', format('%s_id is taken.', p_media));
  end if;
  return made;
end $$;

-- What the client may say in `metadata` and what the server says over it. It is enough to build the message anew.
create or replace function private.metadata_of(p_request jsonb, p_job public.jobs, p_kind public.job_types, p_outputs integer)
returns jsonb language sql stable set search_path = '' as $$
  select (p_request -> 'metadata')
    - array['rating', 'content_type', 'priority', 'consent_id', 'tier', 'user_id', 'quality']
    || jsonb_build_object(
      'prompt', p_request ->> 'prompt', 'num_images', p_outputs, 'seed', p_job.seed, 'credits', p_job.credits,
      'queue', p_kind.queue, 'bucket', p_kind.type, 'model_variant', p_kind.model_variant, 'quality', p_job.quality)
    || case p_job.rating when 'sfw' then '{"rating": "sfw"}' else '{}' end::jsonb
$$;

-- The message: what the client may wish for is in `config` and `metadata`, what the server decides stands beside them.
create or replace function private.payload_of(p_job public.jobs, p_kind public.job_types)
returns jsonb language sql stable set search_path = '' as $$
  select private.without_nulls(jsonb_build_object(
    'id', p_job.id,
    'type', p_job.job_type,
    'prompt', p_job.request ->> 'prompt',
    'negative_prompt', p_job.request ->> 'negative_prompt',
    'config', (p_job.request -> 'config') || jsonb_build_object('seed', p_job.seed, 'num_images', p_job.metadata -> 'num_images')
      || case p_job.quality when 'draft'
         then jsonb_build_object('sample_steps', p_kind.draft_steps, 'num_inference_steps', p_kind.draft_steps)
         else '{}' end,
    'user_id', p_job.user_id,
    'created_at', to_char(p_job.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'image_id', p_job.image_id,
    'video_id', p_job.video_id,
    'character_id', p_job.request ->> 'character_id',
    'model_variant', p_kind.model_variant,
    'bucket', p_job.job_type,
    'rating', p_job.rating,
    'priority', p_job.priority,
    'consent_id', private.consent_ids(p_job.user_id, p_job.request),
    'compel_enabled', p_job.request -> 'compel_enabled',
    'compel_weights', p_job.request ->> 'compel_weights',
    'metadata', p_job.metadata - 'prompt'
  ))
$$;

create or replace function private.kind_of(p_request jsonb)
returns public.job_types language plpgsql stable set search_path = '' as $$
declare
  kind public.job_types;
begin
  select * into kind from public.job_types where type = p_request ->> 'job_type' and enabled;
  if not found then
    perform private.wrong('job_type', 'job_type must be one of: '
      || (select string_agg(type, ', ' order by type) from public.job_types where enabled) || '.');
  end if;
  if (p_request -> 'draft')::boolean and kind.draft_steps is null then
    perform private.wrong('draft', format('There are no drafts of %s.', kind.type));
  end if;
  if kind.media = 'text' and p_request ->> 'prompt' = '' then
    perform private.wrong('prompt', 'prompt must not be empty.');
  end if;
  return kind;
end $$;

create or replace function private.insert_job(
  p_profile public.profiles, p_priority integer, p_kind public.job_types, p_request jsonb, p_draft_of uuid)
returns public.jobs language plpgsql set search_path = '' as $$
declare
  job public.jobs;
  draft boolean := (p_request -> 'draft')::boolean;
  outputs integer := private.outputs_of(p_kind, p_request);
  first uuid := (p_request ->> (p_kind.media || '_id'))::uuid;
begin
  job.id := gen_random_uuid();
  job.user_id := p_profile.id;
  job.job_type := p_kind.type;
  job.quality := case when draft then 'draft' else p_kind.quality end;
  job.credits := case when draft then p_kind.draft_credits else p_kind.credits end;
  job.rating := private.rating_of(p_request, p_profile);
  job.seed := private.seed_of(p_request, job.id);
  job.metadata := private.metadata_of(p_request, job, p_kind, outputs);
  insert into public.jobs (id, user_id, job_type, quality, credits, rating, priority, seed, metadata, request,
                           consent_id, idempotency_key, promoted_from)
  values (job.id, job.user_id, job.job_type, job.quality, job.credits, job.rating, p_priority, job.seed, job.metadata,
          p_request, (select id from private.consents_for(p_profile.id, p_request) limit 1), p_request ->> 'idempotency_key', p_draft_of)
  returning * into job;
  perform private.reserve(p_profile, job);
  first := private.make_media(job, p_kind.media, outputs, first);
  update public.jobs set
    image_id = case p_kind.media when 'image' then first end,
    video_id = case p_kind.media when 'video' then first end
  where id = job.id returning * into job;
  update public.jobs set payload = private.payload_of(job, p_kind) where id = job.id returning * into job;
  return job;
end $$;

create or replace function private.locked_profile(p_user uuid)
returns public.profiles language plpgsql set search_path = '' as $$
declare
  profile public.profiles;
begin
  select * into profile from public.profiles where id = p_user for no key update;
  if not found then
    perform private.refuse(403, 'unknown_user', 'This account does not exist.');
  end if;
  return profile;
end $$;

create or replace function private.enqueue(p_profile public.profiles, p_request jsonb, p_draft_of uuid)
returns jsonb language plpgsql set search_path = '' as $$
declare
  kind public.job_types := private.kind_of(p_request);
  tier public.tiers;
  job public.jobs;
begin
  select * into tier from public.tiers where tiers.tier = p_profile.tier;
  perform private.admit(p_profile, tier, kind);
  job := private.insert_job(p_profile, tier.priority, kind, p_request, p_draft_of);
  return private.answer(job, true);
end $$;

create or replace function public.create_job(p_user uuid, p_request jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  wish jsonb := private.clean(p_request);
  profile public.profiles := private.locked_profile(p_user);
  earlier public.jobs;
begin
  select * into earlier from public.jobs where user_id = p_user and idempotency_key = wish ->> 'idempotency_key';
  if not found then
    return private.enqueue(profile, wish, null);
  end if;
  if earlier.job_type <> wish ->> 'job_type' then
    perform private.refuse(409, 'key_reused', 'This idempotency key belongs to another request.');
  end if;
  return private.answer(earlier, false);
end $$;

create or replace function public.promote_job(p_user uuid, p_job uuid)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  profile public.profiles := private.locked_profile(p_user);
  draft public.jobs;
  earlier public.jobs;
begin
  select * into draft from public.jobs where id = p_job and user_id = p_user;
  if not found then
    perform private.refuse(404, 'unknown_job', 'There is no such job.');
  elsif draft.quality <> 'draft' then
    perform private.refuse(409, 'not_a_draft', 'Only a draft can be made at full quality.');
  elsif draft.status <> 'completed' then
    perform private.refuse(409, 'not_completed', 'This draft is not completed.');
  end if;
  select * into earlier from public.jobs where promoted_from = draft.id and status not in ('failed', 'cancelled');
  if found then
    return private.answer(earlier, false);
  end if;
  return private.enqueue(
    profile,
    jsonb_set(draft.request, '{config,seed}', to_jsonb(draft.seed))
      || '{"draft": false, "image_id": null, "video_id": null, "idempotency_key": null}',
    draft.id);
end $$;
