"""Have a video watched by Gemini, and its frames looked at by OpenAI.

The files lie in the folder that the setting NIGHTBATCH_MEDIA_DIR names; a job names them relative to it. Two questions about
one video upload it once. `show` prints what was seen after the night.
"""

import os
import sys

import psycopg

import nightbatch


def queue() -> None:
    watch = {"job_type": "video_analysis", "provider": "gemini"}
    look = {"job_type": "video_analysis", "provider": "openai"}
    ids = nightbatch.enqueue(
        [
            {**watch, "input": {"file": "summer.mp4", "question": "Who is it for?"}},
            {**watch, "input": {"file": "summer.mp4", "question": "What would you cut?"}},
            {**look, "input": {"frames": ["summer-0.png", "summer-1.png"], "fps": 1}},
        ]
    )
    print(f"{len(ids)} jobs queued.")


def show() -> None:
    query = """
        SELECT s.job_id, j.provider, s.state, coalesce(r.output ->> 'summary', s.error)
        FROM nightbatch.job_status AS s JOIN nightbatch.job AS j ON j.id = s.job_id
        LEFT JOIN nightbatch.result AS r ON r.job_id = s.job_id
        WHERE j.job_type = 'video_analysis' ORDER BY s.job_id
    """
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for job_id, provider, state, told in connection.execute(query):
            print(f"job {job_id} ({provider}) {state}: {told[:70]}")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()
