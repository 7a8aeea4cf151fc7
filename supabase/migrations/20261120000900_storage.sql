-- Twelve private buckets: one per job type that makes files, pictures that users refer to, and the site's own assets.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
select id, id, false, mebibytes * 1048576, types
from (values
  ('sdxl_image_fast', 5, array['image/png', 'image/jpeg', 'image/webp']),
  ('sdxl_image_high', 10, array['image/png', 'image/jpeg', 'image/webp']),
  ('image_fast', 5, array['image/png', 'image/jpeg', 'image/webp']),
  ('image_high', 10, array['image/png', 'image/jpeg', 'image/webp']),
  ('video_fast', 50, array['video/mp4', 'video/webm', 'video/mpeg', 'video/quicktime']),
  ('video_high', 200, array['video/mp4', 'video/webm', 'video/mpeg', 'video/quicktime']),
  ('image7b_fast_enhanced', 20, array['image/png', 'image/jpeg', 'image/webp']),
  ('image7b_high_enhanced', 20, array['image/png', 'image/jpeg', 'image/webp']),
  ('video7b_fast_enhanced', 100, array['video/mp4']),
  ('video7b_high_enhanced', 100, array['video/mp4']),
  ('reference_images', 20, array['image/png', 'image/jpeg', 'image/webp']),
  ('system_assets', 20, array['image/png', 'image/jpeg', 'image/webp', 'video/mp4'])
) as wanted (id, mebibytes, types)
on conflict (id) do update set
  public = false, file_size_limit = excluded.file_size_limit, allowed_mime_types = excluded.allowed_mime_types;

drop policy if exists "users read their own results" on storage.objects;
drop policy if exists "users delete their own results" on storage.objects;
drop policy if exists "users read their own references" on storage.objects;
drop policy if exists "users add references" on storage.objects;
drop policy if exists "users delete their own references" on storage.objects;
drop policy if exists "signed-in users read system assets" on storage.objects;
drop policy if exists "admins read everything" on storage.objects;
drop policy if exists "admins delete everything" on storage.objects;
drop policy if exists "admins add system assets" on storage.objects;
drop policy if exists "admins change system assets" on storage.objects;

-- Results are written by workers, with the service key: users may read them, so sign addresses for them, and delete them.
create or replace function private.holds_results(p_bucket text)
returns boolean language sql stable security definer set search_path = '' as $$
  select p_bucket = 'workspace-temp' or exists (select from public.job_types where type = p_bucket)
$$;
revoke execute on function private.holds_results(text) from public;
grant execute on function private.holds_results(text) to authenticated;

create policy "users read their own results" on storage.objects for select to authenticated
  using (private.owns_path(name) and private.holds_results(bucket_id));
create policy "users delete their own results" on storage.objects for delete to authenticated
  using (private.owns_path(name) and private.holds_results(bucket_id));

-- No rule lets a reference be written over: what a consent was verified for stays what it was.
create policy "users read their own references" on storage.objects for select to authenticated
  using (bucket_id = 'reference_images' and private.owns_path(name));
create policy "users add references" on storage.objects for insert to authenticated
  with check (bucket_id = 'reference_images' and private.owns_path(name));
create policy "users delete their own references" on storage.objects for delete to authenticated
  using (bucket_id = 'reference_images' and private.owns_path(name));

create policy "signed-in users read system assets" on storage.objects for select to authenticated
  using (bucket_id = 'system_assets');
create policy "admins read everything" on storage.objects for select to authenticated
  using ((select private.is_admin()));
create policy "admins delete everything" on storage.objects for delete to authenticated
  using ((select private.is_admin()));
create policy "admins add system assets" on storage.objects for insert to authenticated
  with check (bucket_id = 'system_assets' and (select private.is_admin()));
create policy "admins change system assets" on storage.objects for update to authenticated
  using (bucket_id = 'system_assets' and (select private.is_admin()))
  with check (bucket_id = 'system_assets' and (select private.is_admin()));
