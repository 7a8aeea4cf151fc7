-- What a client is told of a job that was queued.

-- Where a job stands among those that wait in its queue, and in about how many seconds it will be done.
create or replace function public.queue_estimate(p_job uuid)
returns jsonb language sql stable security definer set search_path = '' as $$
  with me as (select * from public.jobs where id = p_job),
  others as (
    select j.status, t.expected_seconds,
      j.status = 'processing' or (j.priority, me.created_at, me.id) > (me.priority, j.created_at, j.id) as ahead
    from me, public.jobs j join public.job_types t on t.type = j.job_type
    where j.queue = me.queue and j.status in ('queued', 'processing') and j.id <> me.id
  )
  select jsonb_build_object(
    'position', case when me.status = 'queued' then 1 + (select count(*) from others where ahead and status = 'queued') else 0 end,
    'waiting', (select count(*) from others where status = 'queued') + (me.status = 'queued')::integer,
    'estimate_seconds', case when private.ended(me.status) then 0 else t.expected_seconds + case me.status when 'queued' then ceil(
      (select coalesce(sum(expected_seconds), 0) from others where ahead)
      / greatest(coalesce((private.setting('workers_per_queue') ->> me.queue)::numeric, 1), 1)) else 0 end end
  )
  from me join public.job_types t on t.type = me.job_type
$$;

-- What an adult job's consents are signed for: their pictures, and an end that is near, since a signature cannot be
-- revoked.
create or replace function private.to_sign(p_job public.jobs)
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object('paths', jsonb_agg(reference_path order by reference_path),
    'expires_at', extract(epoch from least(min(expires_at), now() + interval '1 day'))::bigint)
  from private.consents_for(p_job.user_id, p_job.request) where p_job.rating = 'adult'
  having count(*) > 0
$$;

create or replace function private.answer(p_job public.jobs, p_created boolean)
returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'created', p_created,
    'job', to_jsonb(p_job) - array['payload', 'request'],
    'queue', p_job.queue,
    'payload', p_job.payload,
    'credits_left', (select credits from public.profiles where id = p_job.user_id),
    'consent', private.to_sign(p_job)
  ) || public.queue_estimate(p_job.id)
$$;
