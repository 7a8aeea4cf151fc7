-- Who sees and does what. Nothing is granted that is not named here: the platform's default rights are taken back first.

do $$
declare
  name text;
  mine constant text[] := array['job_types', 'tiers', 'system_config', 'profiles', 'consents', 'jobs', 'images', 'videos',
                                'credit_ledger', 'usage_logs', 'webhook_ids', 'rate_tokens'];
  rule record;
begin
  foreach name in array mine loop
    execute format('alter table public.%I enable row level security', name);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role', name);
    execute format('grant select on public.%I to service_role', name);
  end loop;
  for rule in select tablename, policyname from pg_catalog.pg_policies where schemaname = 'public' and tablename = any (mine) loop
    execute format('drop policy %I on public.%I', rule.policyname, rule.tablename);
  end loop;
end $$;

-- Rows of one's own, and for admins all.
do $$
declare
  name text;
begin
  foreach name in array array['consents', 'jobs', 'images', 'videos', 'credit_ledger', 'usage_logs'] loop
    execute format('grant select on public.%I to authenticated', name);
    execute format('create policy "users read their own" on public.%I for select to authenticated
      using (user_id = (select auth.uid()) or (select private.is_admin()))', name);
  end loop;
end $$;

grant select on public.profiles to authenticated;
grant update (username) on public.profiles to authenticated;
create policy "users read their own" on public.profiles for select to authenticated
  using (id = (select auth.uid()) or (select private.is_admin()));
create policy "users rename themselves" on public.profiles for update to authenticated
  using (id = (select auth.uid())) with check (id = (select auth.uid()));

-- What has ended may be thrown away, with its images and videos. What is under way can only be cancelled.
grant delete on public.jobs, public.images, public.videos to authenticated;
grant update (title) on public.images, public.videos to authenticated;
do $$
declare
  name text;
begin
  foreach name in array array['jobs', 'images', 'videos'] loop
    execute format('create policy "users delete what has ended" on public.%I for delete to authenticated
      using (private.ended(status) and (user_id = (select auth.uid()) or (select private.is_admin())))', name);
  end loop;
  foreach name in array array['images', 'videos'] loop
    execute format('create policy "users name their own" on public.%I for update to authenticated
      using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()))', name);
  end loop;
end $$;

-- A consent is given by a user and becomes valid by an admin. Taken back, it stays so.
grant insert (user_id, reference_path, statement, expires_at), update (revoked_at) on public.consents to authenticated;
create policy "users give consent" on public.consents for insert to authenticated
  with check (user_id = (select auth.uid()) and private.owns_path(reference_path));
create policy "users revoke consent" on public.consents for update to authenticated
  using (user_id = (select auth.uid())) with check (revoked_at is not null);

grant select on public.job_types, public.tiers to anon, authenticated;
grant insert, update, delete on public.job_types, public.tiers, public.system_config to authenticated, service_role;
grant select on public.system_config to authenticated;
create policy "all read" on public.job_types for select to anon, authenticated using (true);
create policy "all read" on public.tiers for select to anon, authenticated using (true);
do $$
declare
  name text;
begin
  foreach name in array array['job_types', 'tiers', 'system_config'] loop
    execute format('create policy "admins change" on public.%I for all to authenticated
      using ((select private.is_admin())) with check ((select private.is_admin()))', name);
  end loop;
end $$;

-- The workers and other producers, who come with the service key. Money and roles go through functions even for them.
grant insert, update, delete on public.jobs, public.images, public.videos to service_role;

revoke all on public.usage_by_day from public, anon, authenticated, service_role;
grant select on public.usage_by_day to authenticated, service_role;

-- Functions.

revoke all on schema private from public;
grant usage on schema private to authenticated, service_role;
revoke execute on all functions in schema private from public, anon, authenticated, service_role;
grant execute on function private.is_admin(), private.owns_path(text), private.ended(public.job_status) to authenticated;
grant execute on function private.ended(public.job_status), private.refuse(integer, text, text, text)
  to authenticated, service_role;

do $$
declare
  found record;
begin
  for found in
    select p.oid::regprocedure as signature, p.proname as name
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (
      'create_job', 'promote_job', 'fail_push', 'cancel_job', 'receive_callback', 'queue_estimate', 'take_token',
      'housekeeping', 'grant_credits', 'set_profile', 'verify_consent', 'keep_consent')
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', found.signature);
    execute format('grant execute on function %s to service_role', found.signature);
    if found.name in ('grant_credits', 'set_profile', 'verify_consent') then
      execute format('grant execute on function %s to authenticated', found.signature);
    end if;
  end loop;
end $$;

-- Browsers hear of changes to rows that they may read.
do $$
declare
  name text;
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  foreach name in array array['jobs', 'images', 'videos'] loop
    if not exists (select from pg_catalog.pg_publication_tables
                   where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = name) then
      execute format('alter publication supabase_realtime add table public.%I', name);
    end if;
  end loop;
end $$;
