"""The deployment of `supabase/` on this machine: its functions under Deno, its database in PostgreSQL.

PostgREST and Storage are those of Supabase Lite, a package that serves both over a real PostgreSQL with its row-level
security, under Deno as well. docs/deploy-supabase.md says where it differs from the hosted platform.
"""
