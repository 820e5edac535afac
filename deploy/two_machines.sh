# Two machines of one's own, both with this project installed in the same place (make run's .venv), and a folder /shared that
# both mount. Typed by hand, line by line; HEAD is the first machine's address in a network that strangers cannot reach.

# on the first machine
source .venv/bin/activate
export RAY_AUTH_MODE=token
ray get-auth-token --generate
ray start --head --port 6379 --dashboard-host 127.0.0.1

# on the second machine: the same token, then join
source .venv/bin/activate
export RAY_AUTH_MODE=token
scp HEAD:.ray/auth_token .ray/auth_token
ray start --address HEAD:6379

# on the first machine: the search; every node is checked before the first trial
python -m tune_btxrd run --address auto --name first --data /shared/BTXRD --storage /shared/ray_results --checkpoints /shared/checkpoints --cache /shared/cache

# or as a job, which outlives the terminal
python -m tune_btxrd submit --address http://127.0.0.1:8265 --name first --data /shared/BTXRD --storage /shared/ray_results --cache /shared/cache
