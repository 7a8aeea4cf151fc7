-- Only for deployments whose workers speak the dialect `objects` (CALLBACK_DIALECT=objects): the one bucket that results
-- of every type go to. The policies of the migrations cover it.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('workspace-temp', 'workspace-temp', false, 1073741824, array['image/png', 'image/jpeg', 'image/webp', 'video/mp4'])
on conflict (id) do update set
  public = false, file_size_limit = excluded.file_size_limit, allowed_mime_types = excluded.allowed_mime_types;
