-- Which notifier has sent which alert. A row each, not a column of the alert: of two notifiers one may fail for ever, and the
-- other must neither wait for it nor send the same again. Alerts of before have no row, so those that are still open are sent
-- once when notifiers are set up: nobody was told of them yet. What is resolved or acknowledged is never sent.
CREATE TABLE nightbatch.alert_sent (
    alert_id bigint NOT NULL REFERENCES nightbatch.alert,
    notifier text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (alert_id, notifier)
);
GRANT SELECT, INSERT ON nightbatch.alert_sent TO nightbatch_worker;
GRANT ALL ON nightbatch.alert_sent TO nightbatch_owner;
