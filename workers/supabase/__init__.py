"""The deployment's Supabase project, as far as workers see it: storage, callback, rows."""
