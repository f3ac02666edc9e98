"""The service and the page in the browser: `undiffuse serve`.

It calls the same functions as the command line; nothing is computed twice. FastAPI and uvicorn are
the extra `web`. Requests come through `safety`, are typed in `schemas` and answered in `api`; what
lasts is done by `jobs` in threads, and by `trainings` in processes of their own. A run's folder is
the only state: there is no database.
"""
