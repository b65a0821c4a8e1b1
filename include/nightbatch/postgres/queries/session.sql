-- in_force: the settings of this transaction, as they came through
SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name;
