-- Rules that hold whoever writes: the states of a job, its money, the profile of a user.

create or replace function private.refuse(p_code integer, p_hint text, p_message text, p_details text default '')
returns void language plpgsql set search_path = '' as $$
begin
  -- The REST interface answers HTTP status nnn to SQLSTATE PTnnn.
  raise exception using errcode = 'PT' || p_code, hint = p_hint, message = p_message, detail = p_details;
end $$;

create or replace function private.setting(p_key text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select value from public.system_config where key = p_key
$$;

create or replace function private.ended(p_status public.job_status)
returns boolean language sql immutable set search_path = '' as $$
  select p_status in ('completed', 'failed', 'cancelled')
$$;

create or replace function private.is_admin()
returns boolean language sql stable security definer set search_path = '' as $$
  select exists (
    select from public.profiles where id = (select auth.uid()) and role = 'admin' and not suspended
  )
$$;

-- The first segment is the user's id, and no segment leads elsewhere.
create or replace function private.owns_path(p_name text)
returns boolean language sql stable set search_path = '' as $$
  select segments[1] = (select auth.uid())::text
    and cardinality(segments) > 1
    and not segments && array['', '.', '..']
    and p_name !~ '[\\%[:cntrl:]]'
  from (select string_to_array(p_name, '/')) as split (segments)
$$;

-- queued -> processing -> completed | failed | cancelled, where what never began may also fail or be cancelled.
create or replace function private.may_follow(p_old public.job_status, p_new public.job_status)
returns boolean language sql immutable set search_path = '' as $$
  select case p_old
    when 'queued' then p_new in ('queued', 'processing', 'failed', 'cancelled')
    when 'processing' then p_new in ('processing', 'completed', 'failed', 'cancelled')
    else p_new = p_old
  end
$$;

create or replace function private.guard_job()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  kind public.job_types;
begin
  if tg_op = 'INSERT' then
    select * into kind from public.job_types where type = new.job_type;
    if new.status <> 'queued' then
      perform private.refuse(409, 'ended', 'A job begins as queued.');
    end if;
    new.queue := coalesce(new.queue, kind.queue);
    new.quality := coalesce(new.quality, kind.quality);
    return new;
  end if;
  if not private.may_follow(old.status, new.status) then
    perform private.refuse(409, 'ended', format('A job that is %s cannot become %s.', old.status, new.status));
  end if;
  if (new.id, new.user_id, new.job_type, new.credits) is distinct from (old.id, old.user_id, old.job_type, old.credits) then
    perform private.refuse(409, 'immutable', 'Whose job it is, its type and its price are fixed.');
  end if;
  new.updated_at := clock_timestamp();
  if new.status in ('processing', 'completed') then
    new.started_at := coalesce(new.started_at, clock_timestamp());
  end if;
  if private.ended(new.status) then
    new.completed_at := coalesce(new.completed_at, clock_timestamp());
  end if;
  return new;
end $$;

-- Images and videos take the short way, but an end is final for them too.
create or replace function private.guard_media()
returns trigger language plpgsql set search_path = '' as $$
begin
  if private.ended(old.status) and new.status <> old.status then
    perform private.refuse(409, 'ended', format('What is %s cannot become %s.', old.status, new.status));
  end if;
  new.updated_at := clock_timestamp();
  return new;
end $$;

create or replace function private.pay(p_user uuid, p_kind public.ledger_kind, p_amount integer, p_job uuid, p_reason text)
returns integer language plpgsql security definer set search_path = '' as $$
declare
  balance integer;
begin
  insert into public.credit_ledger (user_id, job_id, kind, amount, reason)
  values (p_user, p_job, p_kind, p_amount, p_reason);
  update public.profiles set credits = credits + p_amount, updated_at = now()
  where id = p_user returning credits into balance;
  return balance;
end $$;

-- Seconds of the card, as the worker reports them by phase.
create or replace function private.card_seconds(p_metadata jsonb)
returns numeric language sql immutable set search_path = '' as $$
  select coalesce(sum(least(greatest(value::text::numeric, 0), 86400)), 0)
  from jsonb_each(case when jsonb_typeof(p_metadata -> 'timings') = 'object' then p_metadata -> 'timings' else '{}' end)
  where key in ('load', 'warm_up', 'enhance', 'encode_text', 'denoise', 'decode') and jsonb_typeof(value) = 'number'
$$;

-- Whatever ends a job settles it in the same transaction: a completed one pays what was reserved, any other gets it back.
create or replace function private.settle_job()
returns trigger language plpgsql security definer set search_path = '' as $$
declare
  reserved integer := (select -amount from public.credit_ledger where job_id = new.id and kind = 'reserve');
  seconds numeric := private.card_seconds(new.metadata);
begin
  if reserved is not null and new.status = 'completed' then
    perform private.pay(new.user_id, 'release', reserved, new.id, new.job_type);
    perform private.pay(new.user_id, 'debit', -reserved, new.id, new.job_type);
  elsif reserved is not null then
    perform private.pay(new.user_id, 'refund', reserved, new.id, new.job_type);
  end if;
  insert into public.usage_logs (user_id, job_id, job_type, quality, status, credits, seconds, cost_usd)
  values (
    new.user_id, new.id, new.job_type, new.quality, new.status,
    case when new.status = 'completed' then coalesce(reserved, 0) else 0 end,
    seconds, round(seconds * (private.setting('gpu_usd_per_hour') #>> '{}')::numeric / 3600, 6)
  );
  update public.images
  set status = case new.status when 'completed' then 'failed' else new.status end, error_message = new.error_message
  where job_id = new.id and not private.ended(status);
  update public.videos
  set status = case new.status when 'completed' then 'failed' else new.status end, error_message = new.error_message,
      completed_at = new.completed_at
  where job_id = new.id and not private.ended(status);
  return null;
end $$;

create or replace trigger guard_job before insert or update on public.jobs
  for each row execute function private.guard_job();
create or replace trigger settle_job after update of status on public.jobs
  for each row when (new.status in ('completed', 'failed', 'cancelled') and old.status <> new.status)
  execute function private.settle_job();
create or replace trigger guard_image before update on public.images
  for each row execute function private.guard_media();
create or replace trigger guard_video before update on public.videos
  for each row execute function private.guard_media();

-- Runs within a sign-up: it must never be what makes one fail.
create or replace function private.make_profile()
returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id) values (new.id) on conflict (id) do nothing;
  if found then
    perform private.pay(new.id, 'grant', coalesce((private.setting('signup_credits') #>> '{}')::integer, 0), null, 'signup');
  end if;
  return new;
end $$;

create or replace trigger make_profile after insert on auth.users
  for each row execute function private.make_profile();

-- Users who were there before this database was.
do $$
declare
  newcomer uuid;
begin
  for newcomer in insert into public.profiles (id) select id from auth.users on conflict (id) do nothing returning id loop
    perform private.pay(newcomer, 'grant', (private.setting('signup_credits') #>> '{}')::integer, null, 'signup');
  end loop;
end $$;
