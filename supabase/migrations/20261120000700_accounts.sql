-- How often users may call, what admins may change, what nobody asks for any more.

-- A bucket of tokens per user and action that refills to the tier's calls per minute. Refused calls are free.
create or replace function public.take_token(p_user uuid, p_action text default 'queue-job')
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  held public.rate_tokens;
  room numeric;
  now_filled numeric;
begin
  select t.calls_per_minute into room from public.profiles p join public.tiers t using (tier) where p.id = p_user;
  if not found then
    perform private.refuse(403, 'unknown_user', 'This account does not exist.');
  end if;
  insert into public.rate_tokens (user_id, action, tokens, updated_at)
  values (p_user, p_action, room, clock_timestamp()) on conflict do nothing;
  select * into held from public.rate_tokens where user_id = p_user and action = p_action for update;
  now_filled := least(room, held.tokens + room / 60 * extract(epoch from greatest(clock_timestamp() - held.updated_at, interval '0')));
  update public.rate_tokens set tokens = now_filled - (now_filled >= 1)::integer, updated_at = clock_timestamp()
  where user_id = p_user and action = p_action;
  return jsonb_build_object(
    'allowed', now_filled >= 1,
    'retry_after', case when now_filled >= 1 then 0 else ceil((1 - now_filled) * 60 / room) end);
end $$;

-- Through the REST interface: an admin's token or the service key. Without it: whoever may log in as the owner.
create or replace function private.require_admin()
returns void language plpgsql set search_path = '' as $$
declare
  acting text := current_setting('role', true);
begin
  if acting = 'service_role' or (acting = 'none' and session_user <> 'authenticator') or private.is_admin() then
    return;
  end if;
  perform private.refuse(403, 'admins_only', 'Only admins may do this.');
end $$;

create or replace function public.grant_credits(p_user uuid, p_amount integer, p_reason text)
returns integer language plpgsql security definer set search_path = '' as $$
declare
  profile public.profiles;
begin
  perform private.require_admin();
  profile := private.locked_profile(p_user);
  if profile.credits + p_amount < 0 then
    perform private.refuse(402, 'credits', format('Only %s credits are left.', profile.credits));
  end if;
  return private.pay(p_user, 'grant', p_amount, null, p_reason);
end $$;

create or replace function public.set_profile(p_user uuid, p_changes jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  profile public.profiles;
begin
  perform private.require_admin();
  profile := private.locked_profile(p_user);
  p_changes := private.unwrapped(p_changes);
  if exists (select from jsonb_object_keys(p_changes) as key where key not in ('role', 'tier', 'max_rating', 'suspended')) then
    perform private.wrong('p_changes', 'Only role, tier, max_rating and suspended can be set.');
  end if;
  update public.profiles set
    role = coalesce((p_changes ->> 'role')::public.app_role, role),
    tier = coalesce((p_changes ->> 'tier')::public.user_tier, tier),
    max_rating = coalesce((p_changes ->> 'max_rating')::public.content_rating, max_rating),
    suspended = coalesce((p_changes ->> 'suspended')::boolean, suspended),
    updated_at = now()
  where id = p_user returning * into profile;
  return to_jsonb(profile);
end $$;

-- Ties the consent to the picture that is there now: one that is put in its place later is not covered.
create or replace function public.verify_consent(p_consent uuid)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  consent public.consents;
begin
  perform private.require_admin();
  update public.consents c set object_id = o.id, verified_at = now(), verified_by = (select auth.uid())
  from storage.objects o
  where c.id = p_consent and c.revoked_at is null and o.bucket_id = 'reference_images' and o.name = c.reference_path
  returning c.* into consent;
  if consent.id is null then
    perform private.refuse(404, 'unknown_consent', 'There is no such consent, it is revoked, or its picture is missing.');
  end if;
  return to_jsonb(consent);
end $$;

-- A signed consent becomes part of the message, if all pictures are still those that were verified: between the making of
-- the job and the reading of a picture it may have been another.
create or replace function public.keep_consent(p_job uuid, p_consent jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  message jsonb;
begin
  update public.jobs j set payload = payload || jsonb_build_object('consent', private.unwrapped(p_consent))
  where j.id = p_job and j.status = 'queued'
    and payload ->> 'consent_id' = private.consent_ids(j.user_id, j.request)
  returning j.payload into message;
  if message is null then
    perform private.refuse(409, 'consent', 'The consent does not cover this picture any more.');
  end if;
  return message;
end $$;

-- Callbacks are repeated for a day at most.
create or replace function public.housekeeping()
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  ids integer;
  tokens integer;
begin
  delete from public.webhook_ids where received_at < now() - interval '3 days';
  get diagnostics ids = row_count;
  delete from public.rate_tokens where updated_at < now() - interval '1 hour';
  get diagnostics tokens = row_count;
  return jsonb_build_object('webhook_ids', ids, 'rate_tokens', tokens);
end $$;

-- Runs with the reader's own rights: users see their own lines, admins all.
create or replace view public.usage_by_day with (security_invoker = true) as
select
  user_id,
  job_type,
  (created_at at time zone 'UTC')::date as day,
  count(*) as jobs,
  count(*) filter (where status = 'completed') as completed,
  count(*) filter (where status = 'failed') as failed,
  count(*) filter (where status = 'cancelled') as cancelled,
  sum(credits) as credits,
  sum(seconds) as seconds,
  sum(cost_usd) as cost_usd
from public.usage_logs
group by user_id, job_type, (created_at at time zone 'UTC')::date;
