-- register: the database takes the provider's name from now on
SELECT nightbatch.register_provider(%(name)s);

-- registered: the names of providers that the database takes
SELECT unnest(nightbatch.providers());
