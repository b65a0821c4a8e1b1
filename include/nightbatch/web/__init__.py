"""The REST API and the page inside Airflow, under ``/batch``. `nightbatch.web.app.create_app` makes the application."""
