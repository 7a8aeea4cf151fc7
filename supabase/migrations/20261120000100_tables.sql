-- Nouns: what a job is, whose it is, what came of it, what it cost. Every file here can be applied again.

-- Helpers live where the REST interface does not look.
create schema if not exists private;

do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('job_status', array['queued', 'processing', 'completed', 'failed', 'cancelled']),
      ('job_quality', array['draft', 'fast', 'high']),
      ('media_kind', array['image', 'video', 'text']),
      ('content_rating', array['sfw', 'adult']),
      ('app_role', array['user', 'admin']),
      ('user_tier', array['free', 'plus', 'pro']),
      ('ledger_kind', array['grant', 'reserve', 'release', 'debit', 'refund'])
    ) as t (name, labels)
  loop
    if to_regtype(format('public.%I', wanted.name)) is null then
      execute format('create type public.%I as enum (%s)', wanted.name,
        (select string_agg(quote_literal(label), ', ' order by place)
         from unnest(wanted.labels) with ordinality as l (label, place)));
    end if;
  end loop;
end $$;

-- A new job type is a row here and a preset of the workers. `draft_steps` null: no drafts of this type.
create table if not exists public.job_types (
  type text primary key check (type ~ '^[a-z0-9_]{1,64}$'),
  queue text not null check (queue in ('sdxl_queue', 'wan_queue')),
  media public.media_kind not null,
  quality public.job_quality not null check (quality <> 'draft'),
  outputs integer[] not null default '{1}' check (cardinality(outputs) > 0),
  model_variant text not null,
  credits integer not null check (credits >= 0),
  draft_credits integer not null default 0 check (draft_credits >= 0),
  draft_steps integer check (draft_steps between 1 and 60),
  expected_seconds integer not null check (expected_seconds > 0),
  enabled boolean not null default true
);

-- What a user of each tier may do. `priority` goes into the payload: higher is served first.
create table if not exists public.tiers (
  tier public.user_tier primary key,
  priority integer not null default 0,
  waiting_jobs integer not null check (waiting_jobs > 0),
  daily_jobs integer not null check (daily_jobs > 0),
  calls_per_minute integer not null check (calls_per_minute > 0)
);

create table if not exists public.system_config (
  key text primary key,
  value jsonb not null,
  description text not null default '',
  updated_at timestamptz not null default now()
);

-- `credits` is the sum of the user's lines in the ledger; only functions write either.
create table if not exists public.profiles (
  id uuid primary key references auth.users on delete cascade,
  username text check (char_length(username) between 1 and 40),
  role public.app_role not null default 'user',
  tier public.user_tier not null default 'free' references public.tiers,
  max_rating public.content_rating not null default 'sfw',
  suspended boolean not null default false,
  credits integer not null default 0 check (credits >= 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- A person's consent to the use of one picture. It holds for the object that was there when it was verified.
create table if not exists public.consents (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.profiles on delete cascade,
  reference_path text not null check (char_length(reference_path) <= 400),
  statement text not null default '' check (char_length(statement) <= 2000),
  object_id uuid,
  verified_at timestamptz,
  verified_by uuid,
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now()
);

-- `metadata.prompt` and `metadata` are what the workers' reconciler rebuilds a lost message from; `payload` is that
-- message as it was pushed, `request` what was asked for.
create table if not exists public.jobs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.profiles on delete cascade,
  job_type text not null references public.job_types,
  status public.job_status not null default 'queued',
  queue text not null,
  quality public.job_quality not null,
  rating public.content_rating not null default 'sfw',
  priority integer not null default 0,
  consent_id uuid references public.consents on delete set null,
  image_id uuid,
  video_id uuid,
  seed bigint check (seed between 0 and 4294967295),
  credits integer not null default 0 check (credits >= 0),
  enhanced_prompt text,
  error_message text,
  error_type text,
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  request jsonb,
  payload jsonb,
  idempotency_key text check (char_length(idempotency_key) between 1 and 200),
  promoted_from uuid references public.jobs on delete set null,
  fence bigint,
  attempts integer not null default 0,
  max_attempts integer not null default 3,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  updated_at timestamptz not null default now(),
  unique (user_id, idempotency_key),
  constraint jobs_end_has_a_time check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null))
);

create table if not exists public.images (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.profiles on delete cascade,
  job_id uuid references public.jobs on delete cascade,
  image_index integer check (image_index between 0 and 15),
  title text check (char_length(title) <= 200),
  prompt text,
  enhanced_prompt text,
  status public.job_status not null default 'queued',
  bucket text,
  image_url text,
  thumbnail_url text,
  error_message text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (job_id, image_index)
);

create table if not exists public.videos (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.profiles on delete cascade,
  job_id uuid unique references public.jobs on delete cascade,
  title text check (char_length(title) <= 200),
  prompt text,
  enhanced_prompt text,
  status public.job_status not null default 'queued',
  bucket text,
  video_url text,
  thumbnail_url text,
  error_message text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  completed_at timestamptz
);

-- Append-only. At most one line of each kind for a job is what makes every payment happen once.
create table if not exists public.credit_ledger (
  id bigint generated always as identity primary key,
  user_id uuid references public.profiles on delete set null,
  job_id uuid,
  kind public.ledger_kind not null,
  amount integer not null,
  reason text not null default '',
  created_at timestamptz not null default now(),
  unique (job_id, kind),
  constraint ledger_signs check (
    case when kind in ('reserve', 'debit') then amount <= 0 when kind in ('release', 'refund') then amount >= 0 else true end
  )
);

-- One line per ended job, kept when the job or its user is gone.
create table if not exists public.usage_logs (
  id bigint generated always as identity primary key,
  user_id uuid references public.profiles on delete set null,
  job_id uuid not null unique,
  job_type text not null,
  quality public.job_quality not null,
  status public.job_status not null,
  credits integer not null,
  seconds numeric not null,
  cost_usd numeric not null,
  created_at timestamptz not null default now()
);

-- Callbacks that were applied, so that a repeated one is known.
create table if not exists public.webhook_ids (
  id text primary key check (char_length(id) <= 200),
  job_id uuid not null,
  received_at timestamptz not null default now()
);

create table if not exists public.rate_tokens (
  user_id uuid not null references public.profiles on delete cascade,
  action text not null check (char_length(action) <= 40),
  tokens numeric not null,
  updated_at timestamptz not null,
  primary key (user_id, action)
);

-- The dashboard asks by user, newest first; the reconciler and the queue by status and age; rules by path.
create index if not exists jobs_by_user on public.jobs (user_id, created_at desc);
create index if not exists jobs_by_status on public.jobs (status, created_at);
create index if not exists images_by_user on public.images (user_id, created_at desc);
create index if not exists videos_by_user on public.videos (user_id, created_at desc);
create index if not exists usage_by_user on public.usage_logs (user_id, created_at);
create index if not exists ledger_by_user on public.credit_ledger (user_id, created_at);
create index if not exists consents_by_path on public.consents (user_id, reference_path);
create index if not exists jobs_by_consent on public.jobs (consent_id) where consent_id is not null;
-- A draft becomes one full job; another only where that one came to nothing.
create unique index if not exists jobs_promoted_once on public.jobs (promoted_from) where status not in ('failed', 'cancelled');
create index if not exists webhook_ids_by_time on public.webhook_ids (received_at);
