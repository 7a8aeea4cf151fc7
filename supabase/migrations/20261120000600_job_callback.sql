-- How a worker's word becomes rows: assets first, then the status, all or nothing, and the same word again changes nothing.

create or replace function private.lies_in(p_path text, p_folder text)
returns boolean language sql immutable set search_path = '' as $$
  select coalesce(starts_with(p_path, p_folder)
    and substr(p_path, length(p_folder) + 1) ~ '^[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)+$', false)
$$;

-- The pictures or clips of a callback of either dialect, in order. The shared bucket is that of the dialect `objects`.
create or replace function private.assets_of(p_body jsonb, p_job public.jobs)
returns table (place integer, path text, thumbnail text, bucket text, facts jsonb)
language plpgsql stable set search_path = '' as $$
declare
  folder text := p_job.user_id || '/' || p_job.id || '/';
  found jsonb := case
    when p_body ? 'assets' then p_body -> 'assets'
    when p_body #> '{results,assets}' is not null then p_body #> '{results,assets}'
    when p_body ? 'imageUrls' then p_body -> 'imageUrls'
    when coalesce(p_body ->> 'filePath', p_body ->> 'outputUrl') is not null
      then jsonb_build_array(coalesce(p_body ->> 'filePath', p_body ->> 'outputUrl'))
  end;
begin
  if coalesce(jsonb_typeof(found), 'null') = 'null' then
    return;
  end if;
  if jsonb_typeof(found) <> 'array' or jsonb_array_length(found) > 16 then
    perform private.wrong('assets', 'assets must be a list of at most 16.');
  end if;
  for place, path, thumbnail, bucket, facts in
    select (n - 1)::integer,
      case jsonb_typeof(item) when 'string' then item #>> '{}' else item ->> 'url' end,
      item ->> 'thumbnail_url',
      case jsonb_typeof(item) when 'object' then 'workspace-temp' else p_job.job_type end,
      case jsonb_typeof(item -> 'metadata') when 'object' then item -> 'metadata' else '{}' end
    from jsonb_array_elements(found) with ordinality as each (item, n)
  loop
    if not private.lies_in(path, folder) or not private.lies_in(coalesce(thumbnail, path), folder) then
      perform private.wrong('assets', 'assets do not all lie in the folder of the job''s user.');
    end if;
    return next;
  end loop;
end $$;

create or replace function private.fill_images(p_job public.jobs, p_body jsonb, p_enhanced text)
returns integer language plpgsql set search_path = '' as $$
declare
  filled integer;
begin
  insert into public.images as old
    (user_id, job_id, image_index, prompt, enhanced_prompt, status, bucket, image_url, thumbnail_url, metadata)
  select p_job.user_id, p_job.id, a.place, p_job.metadata ->> 'prompt', p_enhanced, 'completed', a.bucket, a.path, a.thumbnail, a.facts
  from private.assets_of(p_body, p_job) as a
  on conflict (job_id, image_index) do update set
    status = 'completed', bucket = excluded.bucket, image_url = excluded.image_url, error_message = null,
    thumbnail_url = excluded.thumbnail_url, enhanced_prompt = excluded.enhanced_prompt, metadata = old.metadata || excluded.metadata;
  get diagnostics filled = row_count;
  update public.jobs set image_id = (select id from public.images where job_id = p_job.id and image_index = 0)
  where id = p_job.id and image_id is null;
  return filled;
end $$;

create or replace function private.fill_video(p_job public.jobs, p_body jsonb, p_enhanced text)
returns integer language plpgsql set search_path = '' as $$
declare
  filled integer;
begin
  insert into public.videos as old
    (user_id, job_id, prompt, enhanced_prompt, status, bucket, video_url, thumbnail_url, metadata, completed_at)
  select p_job.user_id, p_job.id, p_job.metadata ->> 'prompt', p_enhanced, 'completed', a.bucket, a.path, a.thumbnail, a.facts, now()
  from private.assets_of(p_body, p_job) as a where a.place = 0
  on conflict (job_id) do update set
    status = 'completed', bucket = excluded.bucket, video_url = excluded.video_url, error_message = null, completed_at = now(),
    thumbnail_url = excluded.thumbnail_url, enhanced_prompt = excluded.enhanced_prompt, metadata = old.metadata || excluded.metadata;
  get diagnostics filled = row_count;
  update public.jobs set video_id = (select id from public.videos where job_id = p_job.id)
  where id = p_job.id and video_id is null;
  return filled;
end $$;

create or replace function private.fill_media(p_job public.jobs, p_body jsonb, p_enhanced text)
returns void language plpgsql set search_path = '' as $$
declare
  media public.media_kind := (select t.media from public.job_types t where t.type = p_job.job_type);
  filled integer := case media
    when 'image' then private.fill_images(p_job, p_body, p_enhanced)
    when 'video' then private.fill_video(p_job, p_body, p_enhanced)
    else 1
  end;
begin
  if filled = 0 then
    perform private.wrong('assets', 'assets are missing from a completed job.');
  end if;
end $$;

-- A whole number of the callback's metadata; anything else counts as not said.
create or replace function private.count_of(p_body jsonb, p_field text)
returns bigint language sql immutable set search_path = '' as $$
  select case when value ~ '^[0-9]{1,18}$' then value::bigint end
  from (select p_body #>> array['metadata', p_field]) as said (value)
$$;

create or replace function private.begin_job(p_job public.jobs, p_fence bigint)
returns void language plpgsql set search_path = '' as $$
begin
  update public.jobs set status = 'processing', fence = greatest(fence, p_fence) where id = p_job.id;
  update public.images set status = 'processing' where job_id = p_job.id and status = 'queued';
  update public.videos set status = 'processing' where job_id = p_job.id and status = 'queued';
end $$;

create or replace function private.end_job(p_job public.jobs, p_body jsonb, p_fence bigint, p_enhanced text)
returns void language plpgsql set search_path = '' as $$
declare
  reported jsonb := case jsonb_typeof(p_body -> 'metadata') when 'object' then (p_body -> 'metadata') - 'prompt' else '{}' end;
  failed boolean := p_body ->> 'status' = 'failed';
begin
  update public.jobs set
    status = (p_body ->> 'status')::public.job_status,
    fence = greatest(fence, p_fence),
    attempts = least(coalesce(private.count_of(p_body, 'attempt'), attempts), 1000),
    enhanced_prompt = p_enhanced,
    error_message = case when failed
      then left(coalesce(p_body ->> 'error_message', p_body ->> 'errorMessage', 'The job could not be completed.'), 500) end,
    error_type = case when failed then left(coalesce(p_body ->> 'error_type', p_body #>> '{metadata,error_type}'), 64) end,
    metadata = metadata || reported
      || case when p_enhanced is null then '{}' else jsonb_build_object('enhanced_prompt', p_enhanced) end
  where id = p_job.id;
end $$;

-- The job that a callback speaks of, locked until the end of the transaction.
create or replace function private.job_of(p_body jsonb)
returns public.jobs language plpgsql set search_path = '' as $$
declare
  named text := coalesce(p_body ->> 'job_id', p_body ->> 'jobId');
  job public.jobs;
begin
  if named is null or named = '' then
    perform private.wrong('job_id', 'job_id is required.');
  end if;
  if coalesce(p_body ->> 'status', '') not in ('processing', 'completed', 'failed') then
    perform private.wrong('status', 'status must be processing, completed or failed.');
  end if;
  if named ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    select * into job from public.jobs where id = named::uuid for no key update;
  end if;
  if job.id is null then
    perform private.refuse(404, 'unknown_job', 'There is no such job.');
  end if;
  return job;
end $$;

-- What a late success left in Storage although its job had ended otherwise.
create or replace function private.discarded(p_job public.jobs, p_body jsonb)
returns jsonb language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('bucket', bucket, 'path', file)), '[]')
  from private.assets_of(p_body, p_job), unnest(array[path, thumbnail]) as file
  where p_job.status in ('failed', 'cancelled') and p_body ->> 'status' = 'completed' and file is not null
$$;

create or replace function private.heard(p_outcome text, p_job public.jobs, p_discard jsonb default '[]')
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object('outcome', p_outcome, 'job_id', p_job.id, 'status', p_job.status, 'discard', p_discard)
$$;

create or replace function public.receive_callback(p_body jsonb, p_webhook_id text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  body jsonb := private.unwrapped(p_body);
  job public.jobs := private.job_of(body);
  fence bigint := private.count_of(body, 'fence');
  enhanced text := coalesce(body ->> 'enhancedPrompt', body #>> '{metadata,enhanced_prompt}');
begin
  if fence < job.fence then
    perform private.refuse(409, 'stale_fence', 'A later attempt at this job has spoken.', job.fence::text);
  end if;
  insert into public.webhook_ids (id, job_id) select p_webhook_id, job.id where p_webhook_id is not null
  on conflict (id) do nothing;
  if p_webhook_id is not null and not found then
    return private.heard('duplicate', job);
  end if;
  if private.ended(job.status) then
    return private.heard('skipped', job, private.discarded(job, body));
  end if;
  if body ->> 'status' = 'completed' then
    perform private.fill_media(job, body, enhanced);
  end if;
  if body ->> 'status' <> 'failed' then
    perform private.begin_job(job, fence);
  end if;
  if body ->> 'status' <> 'processing' then
    perform private.end_job(job, body, fence, enhanced);
  end if;
  select * into job from public.jobs where id = job.id;
  return private.heard('applied', job);
end $$;

create or replace function public.cancel_job(p_user uuid, p_job uuid)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  job public.jobs;
begin
  select * into job from public.jobs
  where id = p_job and (user_id = p_user or exists (
    select from public.profiles where profiles.id = p_user and role = 'admin' and not suspended))
  for no key update;
  if not found then
    perform private.refuse(404, 'unknown_job', 'There is no such job.');
  elsif job.status in ('completed', 'failed') then
    perform private.refuse(409, 'ended', format('This job is %s already.', job.status));
  end if;
  update public.jobs set status = 'cancelled' where id = p_job and status <> 'cancelled';
  return jsonb_build_object('cancelled', true, 'status', 'cancelled', 'queue', job.queue);
end $$;

-- Who asks again, by the same key or for the same draft, gets another job.
create or replace function public.fail_push(p_job uuid, p_reason text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  job public.jobs;
  failed boolean;
begin
  update public.jobs set status = 'failed', error_type = 'queue', idempotency_key = null,
    error_message = left(coalesce(nullif(p_reason, ''), 'The job could not be queued. Please try again.'), 500)
  where id = p_job and status = 'queued' returning * into job;
  failed := found;
  if not failed then
    select * into job from public.jobs where id = p_job;
  end if;
  if job.id is null then
    perform private.refuse(404, 'unknown_job', 'There is no such job.');
  end if;
  return jsonb_build_object('failed', failed, 'status', job.status);
end $$;
