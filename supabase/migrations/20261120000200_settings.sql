-- What a deployment may change: rows that are there already stay as they are.

insert into public.job_types
  (type, queue, media, quality, outputs, model_variant, credits, draft_credits, draft_steps, expected_seconds)
values
  ('sdxl_image_fast', 'sdxl_queue', 'image', 'fast', '{1,3,6}', 'lustify_sdxl', 1, 1, 8, 25),
  ('sdxl_image_high', 'sdxl_queue', 'image', 'high', '{1,3,6}', 'lustify_sdxl', 2, 1, 8, 40),
  ('image_fast', 'wan_queue', 'image', 'fast', '{1}', 'wan_2_1_1_3b', 1, 1, 8, 73),
  ('image_high', 'wan_queue', 'image', 'high', '{1}', 'wan_2_1_1_3b', 2, 1, 8, 90),
  ('video_fast', 'wan_queue', 'video', 'fast', '{1}', 'wan_2_1_1_3b', 3, 1, 8, 180),
  ('video_high', 'wan_queue', 'video', 'high', '{1}', 'wan_2_1_1_3b', 6, 1, 8, 280),
  ('image7b_fast_enhanced', 'wan_queue', 'image', 'fast', '{1}', 'wan_2_1_1_3b', 2, 1, 8, 87),
  ('image7b_high_enhanced', 'wan_queue', 'image', 'high', '{1}', 'wan_2_1_1_3b', 3, 1, 8, 100),
  ('video7b_fast_enhanced', 'wan_queue', 'video', 'fast', '{1}', 'wan_2_1_1_3b', 4, 1, 8, 195),
  ('video7b_high_enhanced', 'wan_queue', 'video', 'high', '{1}', 'wan_2_1_1_3b', 8, 1, 8, 295),
  ('enhance_prompt', 'wan_queue', 'text', 'fast', '{1}', 'qwen_2_5_7b', 0, 0, null, 14)
on conflict (type) do nothing;

insert into public.tiers (tier, priority, waiting_jobs, daily_jobs, calls_per_minute)
values
  ('free', 0, 5, 50, 20),
  ('plus', 10, 15, 300, 60),
  ('pro', 20, 40, 2000, 120)
on conflict (tier) do nothing;

insert into public.system_config (key, value, description)
values
  ('max_rating', '"sfw"', 'The highest rating that is accepted: sfw or adult. The workers have a ceiling of their own.'),
  ('default_rating', '"sfw"', 'What a request without a rating counts as.'),
  ('accepting_jobs', 'true', 'Whether new jobs are taken.'),
  ('signup_credits', '100', 'What a new user starts with.'),
  ('workers_per_queue', '{"sdxl_queue": 1, "wan_queue": 1}', 'For the estimate of waiting time.'),
  ('gpu_usd_per_hour', '0.6', 'Price of a card, for the cost of each job.')
on conflict (key) do nothing;
