-- not_kept: what a session cannot set, and a power cut needs; but for a server that says of itself that it is thrown away
SELECT name FROM unnest('{fsync, full_page_writes}'::text[]) AS name
WHERE current_setting(name) = 'off' AND current_setting('cluster_name') <> 'throwaway' ORDER BY name;

-- in_force: the settings of this transaction, as they came through
SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name;
